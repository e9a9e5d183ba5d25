//! The kernel as balancer. Where there are no namespaces, these tests have nothing to show, and say so.

use std::io::ErrorKind;

use rollproof::lab::balancer::{HealthPolicy, Kernel, Settings};
use rollproof::lab::network::{self, Network};
use rollproof::timeline::Recorder;
use tokio::net::TcpStream;

use super::stage::{Authority, Fake, carries, greet, opinion, settings, soon};
use crate::namespaces::{self, LAB};

pub(super) struct Stage {
    pub(super) network: Network,
    pub(super) fakes: [Fake; 2],
    pub(super) balancer: Kernel,
    pub(super) recorder: Recorder,
}

async fn stage(health: HealthPolicy) -> Option<Stage> {
    stage_with(|settings| settings.health = health).await
}

pub(super) async fn stage_with(change: impl FnOnce(&mut Settings)) -> Option<Stage> {
    let network = namespaces::network(2).await?;
    let authority = Authority::new();
    let fakes = [
        Fake::listening(namespaces::listen(&network, 0).await, 0, &authority),
        Fake::listening(namespaces::listen(&network, 1).await, 1, &authority),
    ];
    let mut settings = settings(&authority, &[&fakes[0].backend, &fakes[1].backend]);
    (settings.site, settings.listen) = (network.balancer.clone(), network::balancer(LAB));
    change(&mut settings);
    let recorder = Recorder::default();
    let balancer = Kernel::start(settings, recorder.clone()).await.unwrap();
    Some(Stage { network, fakes, balancer, recorder })
}

impl Stage {
    pub(super) async fn dial(&self) -> TcpStream {
        greet(soon(self.network.client.connect(self.balancer.address())).await.unwrap()).await
    }

    /// A new connection: whom it was carried to, and its two ends.
    pub(super) async fn pair(&mut self) -> (usize, (TcpStream, TcpStream)) {
        let client = self.dial().await;
        let [one, other] = &mut self.fakes;
        tokio::select! {
            server = one.met() => (0, (client, server)),
            server = other.met() => (1, (client, server)),
        }
    }
}

#[tokio::test]
async fn a_hash_spreads_new_connections_and_both_ends_see_each_other() {
    let Some(mut stage) = stage(HealthPolicy::Ignore).await else { return };
    let mut met = [0, 0];
    for _ in 0..64 {
        let client = stage.dial().await;
        let [one, other] = &mut stage.fakes;
        let (index, server) = tokio::select! {
            server = one.met() => (0, server),
            server = other.met() => (1, server),
        };
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap(), "the client's address is kept");
        assert_eq!(client.peer_addr().unwrap(), stage.balancer.address());
        met[index] += 1;
    }
    // Of 64 fair coins, fewer than 10 on one side come once in ten million times.
    assert!(met.iter().all(|count| *count >= 10), "{met:?}");
}

#[tokio::test]
async fn an_unhealthy_backend_keeps_its_connections_and_gets_no_new_ones() {
    let Some(mut stage) = stage(HealthPolicy::Follow).await else { return };
    let client = stage.dial().await;
    let [one, other] = &mut stage.fakes;
    let ((leaver, stayer), server) = tokio::select! {
        server = one.met() => ((0, 1), server),
        server = other.met() => ((1, 0), server),
    };
    let mut established = (client, server);
    stage.fakes[leaver].health.fail();
    opinion(&stage.recorder, &stage.fakes[leaver], 2).await;
    stage.balancer.applied().await;
    for _ in 0..16 {
        stage.dial().await;
        stage.fakes[stayer].met().await;
    }
    assert!(stage.fakes[leaver].met_nobody());
    assert!(carries(&mut established).await);
    stage.balancer.check().unwrap();
}

#[tokio::test]
async fn with_nobody_in_service_clients_are_refused_until_somebody_is_back() {
    let Some(mut stage) = stage(HealthPolicy::Follow).await else { return };
    for fake in &stage.fakes {
        fake.health.fail();
        opinion(&stage.recorder, fake, 2).await;
    }
    stage.balancer.applied().await;
    let refused = soon(stage.network.client.connect(stage.balancer.address())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    stage.fakes[1].health.fail_next(0);
    opinion(&stage.recorder, &stage.fakes[1], 3).await;
    stage.balancer.applied().await;
    stage.dial().await;
    stage.fakes[1].met().await;
}
