//! Lifecycle signals, read from an apiserver's log as it grows.
//!
//! k8s.io/apiserver `pkg/server/lifecycle_signals.go` logs each signal at `-v=1`:
//! `"[graceful-termination] shutdown event" name="ShutdownInitiated"`. What counts is when we see the line: klog's own
//! stamps are wall clock. A line is seen at most [`timing::LOOK_EVERY`] late, and lines of one look keep their order.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use tokio_util::task::AbortOnDropHandle;

use super::apiserver::Life;
use crate::timeline::Step;
use crate::timing;

/// Follows `log` until dropped, and records the signals that appear in it from now on.
pub(super) fn follow(life: Life, log: PathBuf) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut looks = tokio::time::interval(timing::LOOK_EVERY);
        let mut tail = Tail { log, offset: 0, rest: Vec::new() };
        loop {
            looks.tick().await;
            for line in tail.new_lines() {
                if let Some(step) = signal(&line) {
                    life.step(step, &line);
                }
            }
        }
    }))
}

/// The signal that a log line tells of.
pub fn signal(line: &str) -> Option<Step> {
    let (_, told) = line.split_once("[graceful-termination] shutdown event\" name=\"")?;
    Step::from_signal(told.split_once('"')?.0)
}

/// A file that grows.
struct Tail {
    log: PathBuf,
    offset: u64,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Tail {
    fn new_lines(&mut self) -> Vec<String> {
        let mut grown = Vec::new();
        let read = std::fs::File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut grown)
        });
        // Not there yet: the next look will find it.
        self.offset += read.unwrap_or(0) as u64;
        self.rest.extend_from_slice(&grown);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}
