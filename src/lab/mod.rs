//! The stage that a scenario plays on: real programs, and what disturbs them. It never knows a requirement.

pub mod provision;
