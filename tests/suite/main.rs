//! Fast tests: no cluster, no root, no network but loopback. What they prove is that the suite itself can be trusted.

mod balancer;
mod cli;
mod config;
mod error_classes;
mod keeper;
mod load;
mod namespaces;
mod network;
mod provision;
mod recordings;
mod report;
mod requirements;
mod rollout_verdicts;
mod runs;
mod shorthand;
mod teeth;
mod tidy;
mod tls;
mod verdicts;
mod wait;
