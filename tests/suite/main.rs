//! x
mod config;
mod report;
mod requirements;
