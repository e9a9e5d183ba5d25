//! What a kubelet says of its doings, line by line: `journalctl --output json`.
//!
//! journald stamps each line with CLOCK_MONOTONIC, which is the recording's clock: containers share this machine's kernel
//! ([`same_kernel`] makes sure of it). So when the kubelet sent SIGTERM is known to the microsecond, however late the line
//! comes to us.

use serde::Deserialize;

use crate::timeline::Moment;

/// Follows the kubelet's journal from now on.
pub(super) const FOLLOW: &[&str] =
    &["journalctl", "--unit", "kubelet", "--follow", "--lines", "0", "--output", "json", "--output-fields", "MESSAGE"];

/// A kernel's name for the time since it was booted.
pub(super) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "MESSAGE")]
    message: String,
    #[serde(rename = "__MONOTONIC_TIMESTAMP")]
    monotonic_us: String,
}

/// When the kubelet set out to stop the kube-apiserver, and how long it gives it, in seconds. `None`: the line is about
/// something else. `kuberuntime_container.go` of the kubelet writes it just before it asks the runtime.
pub fn stopping(line: &str) -> Option<(Moment, String)> {
    let Line { message, monotonic_us } = serde_json::from_str(line).ok()?;
    if !message.contains("\"Killing container with a grace period\"")
        || !message.contains("containerName=\"kube-apiserver\"")
    {
        return None;
    }
    let (_, grace) = message.split_once("gracePeriod=")?;
    let grace = grace.split_whitespace().next().unwrap_or_default();
    Some((Moment(monotonic_us.parse::<u64>().ok()? * 1000), format!("by the kubelet, grace period {grace} s")))
}
