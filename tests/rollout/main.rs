//! The main job: `cargo test --test rollout`. Scenarios on real control planes, one file per kind of disturbance.
//!
//! A scenario's body only acts; verdicts come from its recording. Every test is one lab, so they run one at a time.

mod balancer;
mod cluster;
mod gateway;
mod gateway_http1;
mod idle_timeout;
mod load;
mod lost;
mod rollout;
mod sessions;
mod settings;
mod steady_state;
