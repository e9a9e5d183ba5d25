//! The control plane `kind`: nodes in containers, made through testcontainers as kind makes them, without calling it. So the
//! commands of kind understand our clusters, and a cluster that somebody has made with them can be adopted.
//!
//! Each cluster belongs to a lab: the keeper holds it, and strikes it by label when its pipe ends; the flock on the lab's folder
//! protects it from sweeps. Its network is its own, and this machine speaks to its nodes' addresses directly: docker-proxy would
//! distort faults.

mod balancer;
mod cluster;
mod cni;
pub mod config;
mod container;
mod controllers;
mod create;
mod docker;
pub(in crate::lab::control_plane) mod equipment;
mod fault;
mod join;
mod kubeconfig;
mod names;
mod network;
mod node;
pub(in crate::lab::control_plane) mod pod;
mod shared;
mod strike;
mod subnet;

pub use balancer::{Health, configuration as balancer_configuration};
pub use cluster::{Beside, Cluster, Order};
pub use cni::objects as cni_objects;
pub use docker::unmet;
pub use equipment::File;
pub use fault::NodeFault;
pub use kubeconfig::renamed as renamed_kubeconfig;
pub use names::{CLUSTER_LABEL, HOST_LABEL, LAB_LABEL, ROLE_LABEL, Role, labels, names};
pub use node::{Node, Ran};
pub use shared::{Plan, Provided, shared, turn};
pub use subnet::choose as choose_subnet;

pub(in crate::lab) use strike::{Orders, labs, strike};
