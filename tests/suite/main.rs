<<<<<<< HEAD
//! Fast tests: no cluster, no root, no network but loopback. What they prove is that the suite itself can be trusted.

mod balancer;
mod config;
mod provision;
mod report;
mod requirements;
mod tls;
mod wait;
=======
//! Fast tests of the suite itself: no cluster, no clock.

mod runs;
mod shorthand;
mod teeth;
mod verdicts;
>>>>>>> h-verdict
