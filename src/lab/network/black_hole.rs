//! A cable that loses packets: the silent fault, in which nobody is told anything.
//!
//! Each direction is lost where it arrives, in the netdev ingress hook: before that end's conntrack, after the other end's, as on a
//! cut cable. So the balancer believes that it has passed a packet on, and a repeated one goes the same way. The interfaces stay
//! up: taking one down would remove routes, and connections would fail at once, with an error.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::anyhow;

use super::nft::{nft, nft_soon};
use super::{Namespace, Network, Site};

/// Which packets are lost, between the balancer and an apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// All.
    Both,
    /// Those to the apiserver.
    ToServer,
    /// Those of the apiserver: it hears everything, and is not heard.
    FromServer,
}

/// A cable that loses packets until this is dropped.
#[must_use = "dropping the guard ends the fault"]
pub struct BlackHole {
    /// Where packets are lost: the site, and the table that loses them.
    places: Vec<(Site, String)>,
}

impl Network {
    /// Loses packets between the balancer and an apiserver, established connections and new ones alike. The apiserver's way to etcd
    /// and ours to it, past the balancer, are not affected.
    ///
    /// # Errors
    /// The lab has no namespaces, or the kernel refuses.
    pub async fn black_hole(&self, index: u8, lost: Lost) -> anyhow::Result<BlackHole> {
        /// Guards may overlap.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let to_server = (self.server(index), "to-balancer".to_owned(), lost != Lost::FromServer);
        let from_server = (self.balancer.clone(), format!("to-apiserver-{index}"), lost != Lost::ToServer);
        let mut hole = BlackHole { places: Vec::new() };
        for (site, device, _) in [to_server, from_server].into_iter().filter(|(.., wanted)| *wanted) {
            let table = format!("black_hole_{}", LAST.fetch_add(1, Ordering::Relaxed));
            let rules = format!(
                "table netdev {table} {{
                    chain lost {{
                        type filter hook ingress device \"{device}\" priority 0; policy accept;
                        meta protocol ip drop
                    }}
                }}
                "
            );
            nft(in_namespace(&site)?, rules).await?;
            hole.places.push((site, table));
        }
        Ok(hole)
    }
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
    format!("delete table netdev {table}\n")
}

fn in_namespace(site: &Site) -> anyhow::Result<&Namespace> {
    site.namespace().ok_or_else(|| anyhow!("packets can be lost between network namespaces only"))
}
