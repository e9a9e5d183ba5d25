//! Fast tests, no cluster.

mod provision;
