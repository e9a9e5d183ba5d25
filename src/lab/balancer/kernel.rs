//! The kernel as balancer: nftables DNAT on the router between clients and apiservers, as cloud balancers that are no
//! proxies do it.
//!
//! There is one connection, end to end; the balancer rewrites addresses and keeps a table of flows (conntrack). A flow's
//! first packet chooses the backend by a hash of its addresses and ports, never by turns: a repeated first packet is a new
//! flow as long as the first has not passed, and must go the same way, or a dead backend would look alive after a second.

mod conntrack;
mod flows;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, anyhow, ensure};
use futures::future::{join_all, select_all};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::flows::Flows;
use super::health::{Checker, Member};
use super::{HealthPolicy, IdleTimeout, OnIdle, Settings};
use crate::lab::network::{self, Namespace, Site};
use crate::timeline::Recorder;

/// A kernel at work. New connections go to the backends in service, those of a node's clients to the node's own in a hairpin;
/// established ones live on, or get RST on both sides when they are drained. Nobody in service: the client is refused.
pub struct Kernel {
    address: SocketAddr,
    pool: Arc<Pool>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Why the pool no longer follows, or flows are no longer ended.
    broken: Arc<OnceLock<String>>,
}

impl Kernel {
    /// Checks each backend once, and carries connections from then on.
    ///
    /// # Errors
    /// It stands in no namespace; the kernel takes no such rules; or the settings make no sense, as those of
    /// [`Builtin`](super::Builtin).
    pub async fn start(settings: Settings, recorder: Recorder) -> anyhow::Result<Self> {
        ensure!(!settings.backends.is_empty(), "the balancer has no backends: give it at least one");
        let checker = match settings.health {
            HealthPolicy::Follow => Some(Arc::new(Checker::new(&settings, recorder)?)),
            HealthPolicy::Ignore => None,
        };
        let address = settings.listen;
        let members = settings.backends.iter().cloned();
        let members: Vec<_> = members.map(|backend| Arc::new(Member::new(backend, checker.is_none()))).collect();
        let on_nodes = |nodes: &BTreeMap<IpAddr, String>| -> Vec<(IpAddr, SocketAddr)> {
            let addressed = nodes.iter().filter_map(|(node, name)| {
                let own = settings.backends.iter().find(|backend| backend.name == *name)?;
                Some((*node, own.address))
            });
            addressed.collect()
        };
        let pool = Arc::new(Pool {
            table: table(address),
            site: settings.site.clone(),
            own: on_nodes(&settings.hairpin),
            members,
            in_force: watch::Sender::default(),
        });
        let (stop, tasks, broken) = (CancellationToken::new(), TaskTracker::new(), Arc::new(OnceLock::new()));
        if let Some(checker) = &checker {
            join_all(pool.members.iter().map(|member| checker.check_first(member))).await;
        }
        let changes = pool.changes();
        set_up(pool.namespace()?, address, settings.idle).await?;
        let lost = on_nodes(&settings.loops_lost);
        if !lost.is_empty() {
            network::nft(pool.namespace()?, loops(&pool.table, &lost)).await?;
        }
        if let Some(flows) = Flows::of(&settings, &pool.members).await? {
            let (stop, broken) = (stop.clone(), broken.clone());
            // It takes segments as fast as they come: with fewer at a time it would fall behind a busy client.
            tasks.spawn(unconstrained(async move {
                if let Some(Err(error)) = stop.run_until_cancelled(flows.keep()).await {
                    let _ = broken.set(format!("{error:#}"));
                }
            }));
        }
        pool.apply().await?;
        if let Some(checker) = checker {
            for member in &pool.members {
                let (checker, member, stop) = (checker.clone(), member.clone(), stop.clone());
                tasks.spawn(async move { stop.run_until_cancelled(checker.keep_checking(&member)).await });
            }
            let (pool, stop, broken) = (pool.clone(), stop.clone(), broken.clone());
            tasks.spawn(async move {
                if let Some(Err(error)) = stop.run_until_cancelled(pool.follow(changes)).await {
                    let _ = broken.set(format!("{error:#}"));
                }
            });
        }
        Ok(Self { address, pool, stop, tasks, broken })
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the rules follow what the health checks have found so far.
    pub async fn applied(&self) {
        // The sender is the pool's, which is ours.
        let _ = self.pool.in_force.subscribe().wait_for(|in_force| *in_force == self.pool.in_service()).await;
    }

    /// Says so if it no longer follows its backends' health, or no longer ends flows.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn check(&self) -> anyhow::Result<()> {
        self.broken.get().map_or(Ok(()), |why| Err(anyhow!("the kernel balancer can no longer follow: {why}")))
    }

    /// Ends the health checks. What is established goes on until the lab's network is gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Why a kernel cannot be the balancer here, and what to do about it; `None` if it can.
pub fn unmet() -> Option<String> {
    if let Some(unmet) = network::namespaces::unmet() {
        return Some(unmet);
    }
    let example: [SocketAddr; 2] = [([127, 0, 0, 2], 1).into(), ([127, 0, 0, 3], 1).into()];
    let tried = Namespace::new("balancer-try").and_then(|namespace| {
        network::nft_blocking(&namespace, rules(example[0], None) + &choice(&table(example[0]), &[], &example))
    });
    let error = tried.err()?;
    Some(format!("{error:#}; install nftables (Debian: `apt-get install nftables`), on a kernel that has it"))
}

/// The backends, and where their rules are.
struct Pool {
    table: String,
    site: Site,
    /// The backend of clients on its node.
    own: Vec<(IpAddr, SocketAddr)>,
    members: Vec<Arc<Member>>,
    /// Whom the rules choose from.
    in_force: watch::Sender<Vec<SocketAddr>>,
}

impl Pool {
    /// Tells of changes from now on.
    fn changes(&self) -> Vec<watch::Receiver<bool>> {
        self.members.iter().map(|member| member.follow()).collect()
    }

    /// Applies every change. Returns only with an error.
    async fn follow(&self, mut changes: Vec<watch::Receiver<bool>>) -> anyhow::Result<()> {
        loop {
            let changed = select_all(changes.iter_mut().map(|change| Box::pin(change.changed()))).await.0;
            changed.context("a backend is gone")?;
            self.apply().await?;
        }
    }

    /// From now on new connections go to those in service.
    async fn apply(&self) -> anyhow::Result<()> {
        let backends = self.in_service();
        network::nft(self.namespace()?, choice(&self.table, &self.own, &backends)).await?;
        self.in_force.send_replace(backends);
        Ok(())
    }

    fn in_service(&self) -> Vec<SocketAddr> {
        self.members.iter().filter(|member| member.in_service()).map(|member| member.backend.address).collect()
    }

    fn namespace(&self) -> anyhow::Result<&Namespace> {
        self.site.namespace().context("the kernel balancer needs a lab in network namespaces")
    }
}

async fn set_up(namespace: &Namespace, listen: SocketAddr, idle: Option<IdleTimeout>) -> anyhow::Result<()> {
    network::nft(namespace, rules(listen, idle)).await?;
    // These exist once a rule has asked for conntrack.
    for (name, value) in [
        // What is in the middle of a conversation that we do not know is no new flow.
        ("netfilter/nf_conntrack_tcp_loose", "0"),
        // Whether a packet fits into its window is for the two ends to judge.
        ("netfilter/nf_conntrack_tcp_be_liberal", "1"),
    ] {
        namespace.sysctl(name, value).await?;
    }
    if let Some(IdleTimeout { after, then }) = idle {
        ensure!(then != OnIdle::Fin, "the kernel balancer says nothing but RST");
        if then == OnIdle::Reset {
            // conntrack would be late: see `flows`.
            return Ok(());
        }
        ensure!(after.subsec_nanos() == 0 && !after.is_zero(), "the kernel counts idle timeouts in whole seconds");
        // For all of the namespace: whatever this router forwards.
        namespace.sysctl("netfilter/nf_conntrack_tcp_timeout_established", &after.as_secs().to_string()).await?;
    }
    Ok(())
}

/// The name of the rules' table: a router may have several ports.
fn table(listen: SocketAddr) -> String {
    format!("balancer_{}", listen.port())
}

/// All but the choice of a backend. A packet that belongs to no flow is dropped, or answered with RST: without that rule, what a backend sends after its
/// flow was forgotten would reach the client under the backend's own address, and the client's kernel would reset the backend's
/// side only.
fn rules(listen: SocketAddr, idle: Option<IdleTimeout>) -> String {
    let (ip, port, table) = (listen.ip(), listen.port(), table(listen));
    let unknown = match idle {
        Some(IdleTimeout { then: OnIdle::ResetOnUse, .. }) => "reject with tcp reset",
        _ => "drop",
    };
    format!(
        "table ip {table} {{
            chain choice {{
            }}
            chain new {{
                type nat hook prerouting priority dstnat; policy accept;
                ip daddr {ip} tcp dport {port} goto choice
            }}
            chain known {{
                type filter hook prerouting priority mangle; policy accept;
                ct state invalid meta l4proto tcp {unknown}
            }}
        }}
        "
    )
}

/// What is carried from a node to itself is lost.
fn loops(table: &str, lost: &[(IpAddr, SocketAddr)]) -> String {
    let chain = format!("add chain ip {table} loops {{ type filter hook forward priority filter; policy accept; }}\n");
    let rule = |(node, backend): &(IpAddr, SocketAddr)| {
        format!("add rule ip {table} loops ip saddr {node} ip daddr {} drop\n", backend.ip())
    };
    lost.iter().map(rule).fold(chain, |commands, rule| commands + &rule)
}

/// Replaces the choice of a backend; in one transaction, so that no packet sees half of it. A node's `own` backend comes first,
/// whatever its health.
fn choice(table: &str, own: &[(IpAddr, SocketAddr)], backends: &[SocketAddr]) -> String {
    let mut commands = format!("flush chain ip {table} choice\n");
    let place = |backend: &SocketAddr| format!("{} . {}", backend.ip(), backend.port());
    let mut choose = |by: &str, places: Vec<String>| {
        if !places.is_empty() {
            let places = places.join(", ");
            commands += &format!("add rule ip {table} choice meta l4proto tcp dnat to {by} map {{ {places} }}\n");
        }
    };
    choose("ip saddr", own.iter().map(|(node, backend)| format!("{node} : {}", place(backend))).collect());
    let by_hash = format!("jhash ip saddr . tcp sport . ip daddr . tcp dport mod {} seed 1", backends.len());
    let places = backends.iter().enumerate().map(|(index, backend)| format!("{index} : {}", place(backend)));
    choose(&by_hash, places.collect());
    commands
}
