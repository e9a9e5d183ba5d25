//! What a scenario file imports, and nothing else.

pub use std::time::Duration;

pub use crate::lab::balancer::{HealthPolicy, OnIdle, OnUnhealthy};
pub use crate::lab::gateway as gateways;
pub use crate::lab::{Lab, Losing};
pub use crate::probe::{
    Observing, Probes, careful_clients, careless_clients, cluster, gateway_clients, guarded_writers, in_flight,
    kube_requests, load, reads, requests, server_health, sessions, timers, trigger, watch, watch_list, watcher, write,
};
pub use crate::scenario::{Scenario, disturbed_by, undisturbed};
pub use crate::spec::{
    Need, Requirement, balancer, cluster as clusters, gateway, idle, lost, rollout, session, watch as watches,
};
pub use crate::timeline::{Lost, Restart};
pub use crate::timing::{self, Profile};
