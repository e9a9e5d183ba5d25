//! What a balancer does with connections while apiservers are restarted: policies that go wrong, as controls.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::serial;

use crate::rollout::every_probe;
use crate::settings::{WATCHED, promised};

/// A control: a balancer that carries a node's clients to the node's own apiserver always, as GCP's internal one does. While
/// that one is restarted they are without service, however long it serves on before; clients elsewhere notice nothing.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_a_hairpin_clients_on_the_restarted_node_are_without_service() {
    disturbed_by(Restart::Graceful)
        .in_a_lab(|lab| lab.hairpin = true)
        .upholds(&WATCHED)
        // The watches and the kept connection are those of clients elsewhere.
        .upholds(&[&rollout::NO_OUTAGE_REUSED, &rollout::BACK, &balancer::DRAINS])
        .violates(&[&rollout::NO_OUTAGE_NEW, &balancer::NEVER_LATE, &balancer::NEVER_EARLY, &balancer::FOLLOWS])
        .run(async |lab| {
            let probes = every_probe().with(requests().on_new_connections().from_node(0)).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: a balancer that keeps the client's address, and may carry a node's own clients to that node. What comes from there never comes
/// back, though nothing is disturbed: their new connections time out, now and then; clients elsewhere notice nothing.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_a_balancer_that_keeps_addresses_a_nodes_clients_do_not_reach_their_own_apiserver() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| lab.loops_lost = true)
        .upholds(&WATCHED)
        .upholds(&[&rollout::NO_OUTAGE_REUSED])
        .violates(&[&rollout::NO_OUTAGE_NEW])
        .run(async |lab| {
            let probes = every_probe().with(requests().on_new_connections().from_node(0)).start(lab).await?;
            probes.watch_for(timing::REQUEST_TIMEOUT * 2).await;
            probes.stop().await
        })
        .await;
}

/// A control: a balancer that resets the connections of an unhealthy backend at once, as AWS's NLB does by default. What was
/// in flight is lost, though the apiserver would have finished it; watches go on elsewhere.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_balancer_that_resets_unhealthy_connections_does_not_drain() {
    disturbed_by(Restart::Graceful)
        // Longer than the real detection, the held requests may be over.
        .compressed()
        .in_a_lab(|lab| lab.on_unhealthy = OnUnhealthy::Reset)
        .upholds(&WATCHED)
        // Whether one of the short requests is under way at that moment is a matter of luck: ROLLOUT-1 and -2 are not judged.
        .upholds(&[&balancer::NEVER_LATE, &balancer::NEVER_EARLY, &balancer::FOLLOWS])
        .violates(&[&balancer::DRAINS, &rollout::IN_FLIGHT])
        .run(async |lab| {
            let probes = every_probe().with(in_flight()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: a balancer that needs longer to notice than the shutdown delay lasts sends new connections to an apiserver
/// that has closed its listener, though it follows /readyz as it is told.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn detection_slower_than_the_shutdown_delay_fails_new_connections() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        // The first check may come at once.
        .in_a_lab(|lab| lab.timers.health_fall = lab.timers.checks_in_the_delay() + 2)
        .needs(Need::BalancerWithoutRetry)
        .upholds(&WATCHED)
        .upholds(&[&balancer::DRAINS, &balancer::FOLLOWS])
        .violates(&[&rollout::NO_OUTAGE_NEW, &balancer::NEVER_LATE])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// Three apiservers, as most control planes have: what holds for two holds for them; also if the next is restarted as soon
/// as the last is ready, since the balancer takes that one back before it misses the next.
#[rstest]
#[case::one_after_the_other(async |lab: &Lab| lab.roll(Restart::Graceful).await)]
#[case::without_a_gap(async |lab: &Lab| lab.roll_without_a_gap(Restart::Graceful).await)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_while_three_apiservers_restart(#[case] disturb: impl AsyncFnOnce(&Lab) -> anyhow::Result<()>) {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| lab.apiservers = Some(3))
        .upholds(&promised())
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            disturb(lab).await?;
            probes.stop().await
        })
        .await;
}

/// A control: three apiservers are restarted back to back, and the balancer is slow in taking one back. When it takes the
/// third out of service it thinks that all are down.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn without_a_gap_between_restarts_a_slow_readmission_leaves_no_backend() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.apiservers = Some(3);
            // The first is ready for two more delays and restarts when the third is missed.
            lab.timers.health_rise = 6 * lab.timers.checks_in_the_delay();
        })
        .upholds(&WATCHED)
        .upholds(&[&balancer::DRAINS, &balancer::NEVER_LATE, &balancer::NEVER_EARLY])
        .violates(&[&rollout::NO_OUTAGE_NEW])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll_without_a_gap(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// While the apiservers are upgraded one after the other, and are of two versions for a while, nothing is lost either.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_while_apiservers_are_upgraded() {
    disturbed_by(Restart::Graceful)
        // The first time it builds a second kube-apiserver, for minutes.
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| lab.upgrade_from = Some("v1.34.4"))
        .upholds(&promised())
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.upgrade().await?;
            probes.stop().await
        })
        .await;
}
