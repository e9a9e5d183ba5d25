//! Fast tests of the suite itself: no cluster, no clock.

mod rollout_verdicts;
mod runs;
mod shorthand;
mod teeth;
mod verdicts;
