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
//! - [`lab`]: the stage.
#![allow(missing_docs)]

pub mod lab;
pub mod spec;
pub mod timeline;
pub mod timing;
