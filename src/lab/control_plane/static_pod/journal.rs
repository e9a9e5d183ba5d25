//! What a kubelet says of its doings, line by line: `journalctl --output json`.
//!
//! journald stamps each line with CLOCK_MONOTONIC, which is the recording's clock: containers share this machine's kernel
//! ([`same_kernel`] makes sure of it). It does so when the line has reached it, on a busy machine tens of milliseconds late: the apiserver's
//! first word about its end may be older. The kubelet's own stamp, of the time of day, says how late. So when the kubelet sent SIGTERM is
//! known to the microsecond, however late the line comes to us.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::timeline::Moment;
use crate::timing;

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
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime_us: String,
}

/// When the kubelet set out to stop the kube-apiserver, and how long it gives it, in seconds. `None`: the line is about
/// something else. `kuberuntime_container.go` of the kubelet writes it just before it asks the runtime.
pub fn stopping(line: &str) -> Option<(Moment, String)> {
    let Line { message, monotonic_us, realtime_us } = serde_json::from_str(line).ok()?;
    if !message.contains("\"Killing container with a grace period\"")
        || !message.contains("containerName=\"kube-apiserver\"")
    {
        return None;
    }
    let (_, grace) = message.split_once("gracePeriod=")?;
    let grace = grace.split_whitespace().next().unwrap_or_default();
    let reached = Duration::from_micros(monotonic_us.parse().ok()?);
    let written = reached.saturating_sub(late(&message, realtime_us.parse().ok()?).unwrap_or_default());
    Some((Moment(written.as_nanos() as u64), format!("by the kubelet, grace period {grace} s")))
}

/// How long after it was written a line reached journald, by the time of day in both. `None`: a clock in another time zone.
fn late(message: &str, realtime_us: i64) -> Option<Duration> {
    let written: Time = message.split_whitespace().nth(1)?.parse().ok()?;
    let reached = Timestamp::from_microsecond(realtime_us).ok()?.to_zoned(TimeZone::UTC).time();
    let day = Duration::from_hours(24);
    let [written, reached] = [written, reached].map(|time| time.duration_since(Time::MIN).unsigned_abs());
    let late = if reached < written { reached + day - written } else { reached - written };
    (late <= timing::JOURNAL_LATE).then_some(late)
}
