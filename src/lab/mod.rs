//! The stage: what a scenario plays on. Nothing here knows a requirement; what the stage sees, it records.

pub mod balancer;
pub mod tls;
pub mod wait;
