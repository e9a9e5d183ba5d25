//! A cable that loses packets: the silent fault, in which nobody is told anything.
//!
//! Each direction is lost where it arrives, in the netdev ingress hook: before that end's conntrack, after the other end's, as on a
//! cut cable. (RSTs to one side are lost where they leave the balancer.) So the balancer believes that it has passed a packet on, and a repeated one goes the same way. The interfaces stay
//! up: taking one down would remove routes, and connections would fail at once, with an error.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{anyhow, bail};

use super::nft::{nft, nft_soon};
use super::{Namespace, Network, Site};
use crate::timeline::Lost;

/// Loses RSTs.
const RESET: &str = "ip protocol tcp tcp flags & rst == rst drop";

/// A cable that loses packets until this is dropped.
#[must_use = "dropping the guard ends the fault"]
pub struct BlackHole {
    /// Where packets are lost: the site, and the table that loses them, with its family.
    places: Vec<(Site, String)>,
}

impl Network {
    /// Loses packets between the balancer and an apiserver, established connections and new ones alike. The apiserver's way to etcd
    /// and ours to it, past the balancer, are not affected.
    ///
    /// # Errors
    /// The lab has no namespaces, the kernel refuses, packets are to be late ([`Network::delay`]), or it is something else that is to be lost.
    pub async fn black_hole(&self, index: u8, lost: Lost) -> anyhow::Result<BlackHole> {
        /// Guards may overlap.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let far = (self.server(index), "to-balancer".to_owned());
        let near = (self.balancer.clone(), format!("to-apiserver-{index}"));
        let (ends, rule) = match lost {
            Lost::Both | Lost::Percent(100..) => (vec![far, near], "drop".to_owned()),
            Lost::ToServer => (vec![far], "drop".to_owned()),
            Lost::FromServer => (vec![near], "drop".to_owned()),
            Lost::Percent(percent) => (vec![far, near], format!("numgen random mod 100 < {percent} drop")),
            Lost::ResetsToClients => (vec![(self.balancer.clone(), "to-client".to_owned())], RESET.to_owned()),
            Lost::ResetsToServer => (vec![near], RESET.to_owned()),
            Lost::Refused => (vec![near], "meta l4proto tcp reject with tcp reset".to_owned()),
            Lost::Unreachable => (vec![near], "reject with icmp type host-unreachable".to_owned()),
            Lost::LateMs(_) => bail!("what is late is not lost"),
            Lost::Etcd => bail!("these apiservers have one etcd, and all of them the same"),
        };
        let mut hole = BlackHole { places: Vec::new() };
        for (site, device) in ends {
            let name = format!("black_hole_{}", LAST.fetch_add(1, Ordering::Relaxed));
            let (table, rules) = match lost {
                Lost::Refused | Lost::Unreachable => answered(&name, &device, &rule),
                // Not seen on this side of the cable either: what is captured here has reached the other end.
                Lost::ResetsToClients | Lost::ResetsToServer => unanswered(&name, "egress", &device, &rule),
                _ => unanswered(&name, "ingress", &device, &rule),
            };
            nft(in_namespace(&site)?, rules).await?;
            hole.places.push((site, table));
        }
        Ok(hole)
    }
}

/// Where what arrives at a device, or is about to leave by it, is lost: the table, and how to make it.
fn unanswered(name: &str, hook: &str, device: &str, rule: &str) -> (String, String) {
    let table = format!("netdev {name}");
    let rules = format!(
        "table {table} {{
            chain lost {{
                type filter hook {hook} device \"{device}\" priority 0; policy accept;
                meta protocol ip {rule}
            }}
        }}
        "
    );
    (table, rules)
}

/// Where what is about to leave by a device is answered in place of the other end: what is passed on, and what a proxy sends.
fn answered(name: &str, device: &str, rule: &str) -> (String, String) {
    let table = format!("ip {name}");
    let chain = |hook| {
        format!(
            "chain {hook} {{
                type filter hook {hook} priority 0; policy accept;
                oifname \"{device}\" {rule}
            }}
            "
        )
    };
    let rules = format!("table {table} {{\n{}{}}}\n", chain("forward"), chain("output"));
    (table, rules)
}

impl BlackHole {
    /// Ends the fault, and returns when it has ended. Dropping the guard ends it soon.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn heal(mut self) -> anyhow::Result<()> {
        for (site, table) in self.places.drain(..) {
            nft(in_namespace(&site)?, delete(&table)).await?;
        }
        Ok(())
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        for (site, table) in self.places.drain(..) {
            let _ = in_namespace(&site).map(|namespace| nft_soon(namespace, delete(&table)));
        }
    }
}

fn delete(table: &str) -> String {
    format!("delete table {table}\n")
}

/// # Errors
/// It is this machine's own network.
pub(super) fn in_namespace(site: &Site) -> anyhow::Result<&Namespace> {
    site.namespace().ok_or_else(|| anyhow!("packets can be lost, or late, between network namespaces only"))
}
