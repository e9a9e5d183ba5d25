//! Waiting for a condition that nothing announces.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout_at};

use crate::timing::LOOK_EVERY;

/// Looks every [`LOOK_EVERY`] until `check` breaks with what was waited for; it continues with the status that it saw
/// instead, for example `2 of 3 ready`. There is always a first look, however short `limit` is, and a look that hangs
/// is given up at the limit.
///
/// `what` completes the sentence "waited 5s for ...". Where something can be awaited directly, await that instead.
///
/// # Errors
/// `limit` is over; the error tells the last status seen.
pub async fn until<T>(
    limit: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> ControlFlow<T, String>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut seen: Option<String> = None;
    loop {
        match timeout_at(deadline, check()).await {
            Ok(ControlFlow::Break(found)) => return Ok(found),
            Ok(ControlFlow::Continue(status)) => seen = Some(status),
            Err(_) => {
                let before = seen.map_or(String::new(), |status| format!("; the one before saw: {status}"));
                bail!("waited {limit:?} for {what} in vain; the last look was still under way{before}");
            }
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} for {what} in vain; last seen: {}", seen.unwrap_or_default());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// [`until`] for a thread that may block, in a process without a runtime. `None`: `limit` is over.
pub fn until_blocking<T>(limit: Duration, mut check: impl FnMut() -> ControlFlow<T>) -> Option<T> {
    let began = std::time::Instant::now();
    loop {
        if let ControlFlow::Break(found) = check() {
            return Some(found);
        }
        if began.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
