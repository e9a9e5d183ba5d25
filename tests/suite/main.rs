//! Fast tests: no cluster, no root, no network but loopback. What they prove is that the suite itself can be trusted.

mod balancer;
mod balancer_verdicts;
mod cases;
mod ci;
mod cli;
mod config;
mod error_classes;
mod gate;
mod keeper;
mod load;
mod load_command;
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
mod timelines;
mod tls;
mod verdicts;
mod wait;
