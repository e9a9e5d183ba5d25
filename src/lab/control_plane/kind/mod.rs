//! The control plane `kind`: nodes in containers, whose kubelets run the apiservers.

pub mod config;
