//! Conformance suite for Kubernetes watches and in-flight requests behind a load balancer.
//!
//! Do they survive when a kube-apiserver is rolled out, killed or silently lost, or when the balancer drops an idle
//! connection? Scenarios answer with evidence: a recording of everything that happened on one clock, and verdicts on
//! numbered requirements that anyone can judge again from the recording alone.
//!
//! The rooms, in reading order; each imports only from those above it:
//!
//! - [`timing`]: every duration, what it bounds, and its value in both profiles.
//! - [`spec`]: the requirements, as data.
//! - [`timeline`]: the recording and what can be observed.
//! - [`verdict`]: what a requirement says about a recording.
//! - [`report`]: JUnit, verdicts, and what a person reads at the end.
//! - [`config`]: the environment contract.
//! - [`lab`]: the stage: control plane, balancer, and what disturbs them.
//! - [`probe`]: the actors that observe.
//! - [`scenario`]: the one file that knows all rooms.

pub mod config;
pub mod lab;
pub mod prelude;
pub mod probe;
pub mod report;
pub mod scenario;
pub mod spec;
pub mod timeline;
pub mod timing;
pub mod verdict;
