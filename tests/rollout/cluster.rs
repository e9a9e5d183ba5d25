//! What only a whole cluster has: its kubelets, its controller manager and its scheduler are clients of the apiservers, too.

use rollproof::prelude::*;
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

/// A control: a kubelet that reaches no apiserver for longer than its lease is given up, and its pods would be evicted.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_node_that_is_cut_off_is_given_up() {
    undisturbed()
        .violates(&[&clusters::NODES_READY, &clusters::LEASES_RENEWED])
        .run(async |lab| {
            let probes = Probes::default().with(cluster()).start(lab).await?;
            let cut = lab.lose(2, Lost::Both).await?;
            probes.watch_for(timing::NODE_MISSED).await;
            cut.heal().await?;
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
