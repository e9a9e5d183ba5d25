//! What machine a recording was made on: kernel, processors, and the sysctls that decide about timeouts.

use std::collections::BTreeMap;

/// Sysctls that change what a recording shows.
const SYSCTLS: &[&str] = &[
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_keepalive_intvl",
    "net/ipv4/tcp_keepalive_probes",
    "net/ipv4/tcp_retries2",
    "net/ipv4/tcp_syn_retries",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/ip_local_port_range",
    "net/core/somaxconn",
];

/// The kernel's release, for example `6.1.0-18-amd64`.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The machine, by name of each fact. The sysctls are those of the calling thread's network namespace.
pub fn facts() -> BTreeMap<String, String> {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut facts = BTreeMap::from([
        ("kernel".to_owned(), kernel()),
        ("architecture".to_owned(), text(uname.machine())),
        ("processors".to_owned(), std::thread::available_parallelism().map_or(0, usize::from).to_string()),
    ]);
    for name in SYSCTLS {
        if let Ok(value) = std::fs::read_to_string(format!("/proc/sys/{name}")) {
            facts.insert(name.replace('/', "."), value.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    facts
}
