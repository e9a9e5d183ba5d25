//! What the subcommands that work on any cluster have in common.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use rollproof::timing;

/// The cluster, as kubectl would find it.
pub(crate) async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> anyhow::Result<kube::Config> {
    let choice = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match kubeconfig.map(Kubeconfig::read_from) {
        Some(Ok(kubeconfig)) => kube::Config::from_custom_kubeconfig(kubeconfig, &choice).await,
        Some(Err(error)) => Err(error),
        None => kube::Config::from_kubeconfig(&choice).await,
    };
    // kube's messages carry their causes already, and show the place in the YAML on further lines.
    config.map_err(|error| {
        let text = error.to_string();
        anyhow::anyhow!("cannot use the kubeconfig: {}", text.lines().next().unwrap_or_default())
    })
}

/// Reads `500ms`, `90s`, `5m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unreadable = || format!("{text:?} is no duration: write 500ms, 90s, 5m or 1h");
    let digits = text.find(|char: char| !char.is_ascii_digit()).ok_or_else(unreadable)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| unreadable())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    // A week is beyond any rollout, and keeps the clock's arithmetic safe.
    let in_range = millis.filter(|millis| (1..=7 * 24 * 3_600_000).contains(millis));
    in_range.map(timing::millis).ok_or_else(unreadable)
}
