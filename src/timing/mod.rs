//! Every duration of the suite: what it bounds, its unit, and its value in both profiles.
//!
//! Nothing else in the suite may spell a duration. Three kinds live here: [`Bounds`] are promises that verdicts hold the
//! subject to, and travel in the recording's header; [`Timers`] and [`GatewayTimers`] are settings of the lab under test, which do so as
//! well, the first compressed in the `pr` profile; the constants bound our own waiting and can never turn a verdict: `verdict` imports
//! [`Bounds`] and [`Timers`] only, and `tests/suite/tidy.rs` checks it.

mod bounds;
pub mod gateway;
pub mod nanos;
mod periods;
mod settings;
mod waits;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::bounds::{Bounds, PERIODS};
pub use self::gateway::GatewayTimers;
pub use self::periods::*;
pub use self::settings::*;
pub use self::waits::*;

/// Milliseconds as a [`Duration`], so that a literal carries its unit.
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Seconds as a [`Duration`], so that a literal carries its unit.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Which values the timers of a lab take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Timers compressed by [`COMPRESSION`], so that a run fits into a pull request.
    #[default]
    Pr,
    /// The real durations of the field reports.
    Nightly,
}

impl Profile {
    /// All profiles, as a user may name them.
    pub const ALL: [Self; 2] = [Self::Pr, Self::Nightly];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pr => "pr",
            Self::Nightly => "nightly",
        })
    }
}

impl FromStr for Profile {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|profile| profile.to_string() == name).ok_or(())
    }
}
