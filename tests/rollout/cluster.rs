//! What only a whole cluster has: its kubelets, its controller manager and its scheduler are clients of the apiservers, too.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::serial;

use crate::rollout::{WATCHED, every_probe, promised};

/// While the apiservers of a cluster are gracefully restarted, no node ceases to be ready and no kubelet's lease runs out: else pods
/// would be evicted. And nobody else loses anything, either.
///
/// Whether who leads goes on leading is not judged here: kubeadm gives the controller manager and the scheduler of a node the
/// apiserver of the same node, which is gone for about the 10 s in which they have to renew their leases.
///
/// WATCH-4 is left out: with the flags of kind-config.yaml a watch is told to come back later (retry-after), and may meet the
/// restarted apiserver by then.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nodes_notice_nothing_of_a_graceful_roll() {
    let promised: Vec<_> =
        promised(Restart::Graceful).into_iter().filter(|it| it.id != watches::RESUMABLE.id).collect();
    disturbed_by(Restart::Graceful)
        .upholds(&WATCHED)
        .upholds(&promised)
        .upholds(&[&clusters::NODES_READY, &clusters::LEASES_RENEWED])
        .run(async |lab| {
            let probes = every_probe().with(cluster()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// Leaders go on leading, too, if they go through the balancer.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn leaders_that_go_through_the_balancer_notice_nothing_of_a_graceful_roll() {
    disturbed_by(Restart::Graceful)
        .in_a_lab(|lab| lab.controllers_through_balancer = true)
        .upholds(&[&clusters::NODES_READY, &clusters::LEASES_RENEWED, &clusters::LEADERS_STAY])
        .run(async |lab| {
            let probes = Probes::default().with(cluster()).with(server_health()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// Nodes are killed one after the other, each with its apiserver, its etcd member and whoever leads on it, and started again. That costs what
/// the kill of an apiserver costs: requests for a bounded time, and no watch a change.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nodes_that_are_killed_cost_a_bounded_time() {
    disturbed_by(Restart::Killed)
        .needs(Need::Nodes)
        .upholds(&WATCHED)
        .upholds(&promised(Restart::Killed))
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll_nodes().await?;
            probes.stop().await
        })
        .await;
}

/// How a node falls silent.
#[derive(Clone, Copy)]
enum Silence {
    /// Packets are lost on the way.
    CutOff,
    /// All of its processes are stopped, and its kernel acknowledges whatever is sent.
    Frozen,
}

/// A node falls silent, and with it the apiserver that carries a watch. Its clients notice, and go on elsewhere without a gap; and, which makes
/// it a control, a kubelet that reaches no apiserver for longer than its lease is given up, and its pods would be evicted.
#[rstest]
#[case::is_cut_off(Silence::CutOff)]
#[case::is_frozen(Silence::Frozen)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_node_is_given_up_and_clients_go_on_when_it(#[case] silence: Silence) {
    undisturbed()
        .in_a_lab(|lab| {
            lab.watch_timeout = Some(timing::SHORT_WATCH_TIMEOUT);
            lab.read_timeout = Some(timing::SHORT_WATCH_TIMEOUT + timing::WATCH_TIMEOUT_MARGIN);
        })
        .violates(&[&clusters::NODES_READY, &clusters::LEASES_RENEWED])
        .upholds(&[&lost::NOTICED])
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RESUMABLE, &watches::RELIABLE])
        .run(async |lab| {
            let probes = Probes::default().with(watch()).with(watcher()).with(write()).with(cluster());
            let probes = probes.start(lab).await?;
            let carrier = lab.carrier().await?;
            match silence {
                Silence::CutOff => {
                    let cut = lab.lose(carrier, Lost::Both).await?;
                    probes.watch_for(timing::NODE_MISSED).await;
                    cut.heal().await?;
                }
                Silence::Frozen => {
                    let frozen = lab.servers()[usize::from(carrier)].freeze().await?;
                    probes.watch_for(timing::NODE_MISSED).await;
                    drop(frozen);
                }
            }
            probes.stop().await
        })
        .await;
}

/// An etcd member is stopped; the others have a quorum, and writes go on. But kubeadm's apiservers ask the member beside them only, and one that
/// has lost it tells nobody but its /readyz.
fn without_an_etcd_member(on_unhealthy: OnUnhealthy) -> Scenario {
    undisturbed().needs(Need::Nodes).in_a_lab(move |lab| lab.on_unhealthy = on_unhealthy).upholds(&[
        &watches::GAPLESS,
        &watches::ORDERED,
        &watches::UNIQUE,
        &watches::RESUMABLE,
        &watches::RELIABLE,
    ])
}

async fn stop_an_etcd_member(lab: &Lab) -> anyhow::Result<()> {
    let probes = every_probe().start(lab).await?;
    let carrier = lab.carrier().await?;
    let etcd = lab.lose(carrier, Lost::Etcd).await?;
    probes.watch_for(timing::ETCD_MISSED).await;
    etcd.heal().await?;
    lab.servers()[usize::from(carrier)].ready().await?;
    probes.stop().await
}

/// A control: a watch that is open there is not ended, and tells of nothing. When the member is back, nothing is missing.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn without_its_etcd_member_an_apiserver_keeps_its_watches_and_tells_nothing() {
    without_an_etcd_member(OnUnhealthy::Keep).violates(&[&watches::FRESH]).run(stop_an_etcd_member).await;
}

/// Behind a balancer that resets the connections of an apiserver whose /readyz is red, the watch goes on elsewhere at once.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn without_its_etcd_member_an_apiservers_watches_go_on_behind_a_balancer_that_resets_them() {
    without_an_etcd_member(OnUnhealthy::Reset).upholds(&[&watches::FRESH]).run(stop_an_etcd_member).await;
}

/// A control: a grace period that is over before the shutdown delay is. The kubelet kills the apiserver in the middle of it, and with it what is
/// in flight.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn with_a_short_grace_period_apiservers_are_killed_with_what_is_in_flight() {
    disturbed_by(Restart::Graceful)
        .needs(Need::Nodes)
        .in_a_lab(|lab| lab.grace_period = Some(timing::KUBELETS_SHORT_GRACE_PERIOD))
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RELIABLE, &rollout::BACK])
        .violates(&[&rollout::SIGNAL_ORDER, &rollout::IN_FLIGHT])
        .run(async |lab| {
            let probes = Probes::default().with(watch()).with(watcher()).with(write()).with(in_flight());
            let probes = probes.with(server_health()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: kubeadm's defaults. New connections fail at once, since there is no shutdown delay; open watches hold the process
/// behind its closed listener, until its kubelet kills it in the middle of its termination. For so long the controller manager and the
/// scheduler of its node have no apiserver: whoever of them leads ceases to.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn with_kubeadms_defaults_apiservers_are_killed_in_the_middle() {
    disturbed_by(Restart::Graceful)
        .needs(Need::Nodes)
        .needs(Need::BalancerWithoutRetry)
        .in_a_lab(|lab| {
            lab.timers.shutdown_delay = Duration::ZERO;
            lab.timers.watch_termination_grace = Duration::ZERO;
            lab.flag("shutdown-send-retry-after", "false");
            lab.grace_period = Some(timing::POD_GRACE_PERIOD);
        })
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RELIABLE])
        .violates(&[&rollout::NO_OUTAGE_NEW, &rollout::SIGNAL_ORDER, &clusters::LEADERS_STAY])
        .run(async |lab| {
            let probes = every_probe().with(cluster()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}
