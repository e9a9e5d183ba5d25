//! x
mod balancer;
mod tls;
mod wait;
