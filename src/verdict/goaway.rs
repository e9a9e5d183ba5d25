//! Whether apiservers with `--goaway-chance` were seen to send a GOAWAY: without one, nothing is said about what it costs.
//!
//! A graceful GOAWAY is no failure. What a client sees of it is that its kept HTTP/2 connection has to be replaced while
//! the apiserver is not stopping.
//!
//! ```text
//! --goaway-chance=0.02, a kept connection is replaced before the roll    ->  as the requests went
//! --goaway-chance=0.02, replaced only when its apiserver stopped         ->  inconclusive
//! ```

use super::carried::replaced;
use super::facts::Facts;
use crate::timeline::{Protocol, Step};

/// Why nothing can be said about GOAWAYs, if they were asked for.
pub(super) fn unseen(facts: &Facts<'_>) -> Option<String> {
    if facts.goaway_chance() == 0.0 {
        return None;
    }
    let seen = replaced(facts).iter().any(|kept| {
        let stopping = facts.restarts.iter().any(|restart| {
            let since = restart.at(Step::TermSent).or(restart.at(Step::KillSent)).unwrap_or(restart.on);
            let until = restart.at(Step::Ready).unwrap_or(facts.end);
            restart.server == kept.server && (since..=until).contains(&kept.at)
        });
        kept.protocol == Protocol::Http2 && !stopping
    });
    (!seen).then(|| "--goaway-chance is set, and no HTTP/2 connection to a serving apiserver was replaced".to_owned())
}
