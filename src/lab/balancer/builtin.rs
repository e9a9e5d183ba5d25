//! The builtin balancer: it listens, and chooses a backend for each connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{anyhow, ensure};
use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::{Checker, Member};
use super::pump::{Accepted, Carrier};
use super::{BACKLOG, HealthPolicy, Settings};
use crate::lab::network::Site;
use crate::timeline::{Moment, Recorder};
use crate::timing::BALANCER_ACCEPT_AGAIN;

/// A running balancer: plain TCP passthrough. New connections go round robin to the backends in service.
///
/// It is faithful: what one side does to its connection (FIN, half-close, RST) the other side gets, and nothing is added.
/// No keepalive, since a balancer that probes by itself would hide the silence that scenarios are about; TCP_NODELAY,
/// since it must not hold back small segments.
///
/// Each connection is recorded when it ends ([`Connection`](crate::timeline::Connection)), and each change of a backend's
/// health ([`BackendHealth`](crate::timeline::BackendHealth)). Dropping it cuts every connection too, but only
/// [`Builtin::stop`] waits until that is recorded.
pub struct Builtin {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Builtin {
    /// Listens, checks each backend once, and carries connections from then on. The first check alone puts a backend in
    /// or out of service, whatever rise and fall say, so that starting takes no longer than one check.
    ///
    /// # Errors
    /// The address cannot be listened on; or the settings make no sense: no backend, an interval of zero, a path that is
    /// none, a CA that is none.
    pub async fn start(settings: Settings, recorder: Recorder) -> anyhow::Result<Self> {
        ensure!(!settings.backends.is_empty(), "the balancer has no backends: give it at least one");
        let checker = match settings.health {
            HealthPolicy::Follow => Some(Arc::new(Checker::new(&settings, recorder.clone())?)),
            HealthPolicy::Ignore => None,
        };
        let listener = listen(&settings.site, settings.listen).await?;
        let address = listener.local_addr()?;
        let members: Vec<_> =
            settings.backends.into_iter().map(|backend| Arc::new(Member::new(backend, checker.is_none()))).collect();

        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        if let Some(checker) = checker {
            join_all(members.iter().map(|member| checker.check_first(member))).await;
            for member in &members {
                let (checker, member, stop) = (checker.clone(), member.clone(), stop.clone());
                tasks.spawn(async move { stop.run_until_cancelled(checker.keep_checking(&member)).await });
            }
        }
        let carrier = Carrier {
            site: settings.site,
            connect_timeout: settings.connect_timeout,
            on_unhealthy: settings.on_unhealthy,
            idle: settings.idle,
            recorder,
            stop: stop.clone(),
        };
        let front = Front {
            listener,
            members,
            redispatch: settings.redispatch,
            hairpin: settings.hairpin,
            carrier: carrier.into(),
            tasks: tasks.clone(),
        };
        tasks.spawn(front.serve());
        Ok(Self { address, stop, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and ends every connection with RST to both sides. When it returns, all of them are recorded and
    /// no task is left.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Builtin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What accepts.
struct Front {
    listener: TcpListener,
    members: Vec<Arc<Member>>,
    redispatch: bool,
    hairpin: BTreeMap<IpAddr, String>,
    carrier: Arc<Carrier>,
    tasks: TaskTracker,
}

impl Front {
    async fn serve(self) {
        let stop = self.carrier.stop.clone();
        let mut turn = 0;
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            let Ok((stream, from)) = accepted else {
                // Our own trouble, not the subject's: out of descriptors, the client waits in the backlog meanwhile.
                stop.run_until_cancelled(sleep(BALANCER_ACCEPT_AGAIN)).await;
                continue;
            };
            let accepted = Accepted { stream, from, at: Moment::now() };
            let candidates = match self.hairpin.get(&accepted.from.ip()) {
                Some(own) => self.members.iter().filter(|member| member.backend.name == *own).cloned().collect(),
                None => {
                    let candidates = self.choose(turn);
                    turn = turn.wrapping_add(1);
                    candidates
                }
            };
            let carrier = self.carrier.clone();
            self.tasks.spawn(async move { carrier.carry(accepted, &candidates).await });
        }
    }

    /// Whom to offer a connection to, in this order. Counting turns among those in service only keeps the shares even
    /// while one is out.
    fn choose(&self, turn: usize) -> Vec<Arc<Member>> {
        let mut in_service: Vec<_> = self.members.iter().filter(|member| member.in_service()).cloned().collect();
        if !in_service.is_empty() {
            let first = turn % in_service.len();
            in_service.rotate_left(first);
        }
        if !self.redispatch {
            in_service.truncate(1);
        }
        in_service
    }
}

async fn listen(site: &Site, address: SocketAddr) -> anyhow::Result<TcpListener> {
    site.listen(address, BACKLOG).await.map_err(|error| {
        anyhow!("the balancer cannot listen on {address}: {error}; free that address, or choose another")
    })
}
