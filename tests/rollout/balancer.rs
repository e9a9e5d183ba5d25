//! What a balancer does with connections while apiservers are restarted: policies that go wrong, as controls.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::serial;

use crate::rollout::every_probe;
use crate::settings::{WATCHED, promised};

/// A control: a balancer that carries a node's clients to the node's own apiserver always, as GCP's internal one does. While
/// that one is restarted they are without service, however long it serves on before; clients elsewhere notice nothing.
#[rstest]
#[case::however_short_the_shutdown_delay(1, None)]
#[case::however_long_the_shutdown_delay(2, Profile::Nightly)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_a_hairpin_clients_on_the_restarted_node_are_without_service(
    #[case] times: u32,
    #[case] profile: impl Into<Option<Profile>>,
) {
    disturbed_by(Restart::Graceful)
        .only_in(profile)
        .in_a_lab(move |lab| {
            lab.hairpin = true;
            lab.timers.shutdown_delay *= times;
        })
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

/// A control: a balancer that resets the connections of an unhealthy backend at once, as AWS's NLB does by default. What was
/// in flight is lost, though the apiserver would have finished it; watches go on elsewhere.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_balancer_that_resets_unhealthy_connections_does_not_drain() {
    disturbed_by(Restart::Graceful)
        .in_a_lab(|lab| lab.on_unhealthy = OnUnhealthy::Reset)
        .upholds(&WATCHED)
        // Whether a request is in flight at that moment is a matter of luck: ROLLOUT-1 and -2 are not judged.
        .upholds(&[&balancer::NEVER_LATE, &balancer::NEVER_EARLY, &balancer::FOLLOWS])
        .violates(&[&balancer::DRAINS])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
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
        .in_a_lab(|lab| {
            let checks_in_the_delay = lab.timers.shutdown_delay.div_duration_f64(lab.timers.health_interval);
            // The first may come at once.
            lab.timers.health_fall = checks_in_the_delay.ceil() as u32 + 2;
        })
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

/// A balancer that offers a refused connection to the next backend hides even a shutdown delay that is too short.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn redispatch_hides_a_delay_shorter_than_detection_from_new_connections() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .in_a_lab(|lab| {
            lab.redispatch = true;
            lab.timers.shutdown_delay /= 15;
        })
        .upholds(&WATCHED)
        .upholds(&[&rollout::NO_OUTAGE_NEW, &balancer::DRAINS, &balancer::FOLLOWS])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: two apiservers are restarted back to back, and the balancer is slow in taking back the first. When it takes
/// the second out of service there is none left.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn without_a_gap_between_restarts_a_slow_readmission_leaves_no_backend() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .in_a_lab(|lab| {
            lab.apiservers = Some(2);
            let checks_in_the_delay = lab.timers.shutdown_delay.div_duration_f64(lab.timers.health_interval);
            lab.timers.health_rise = 2 * checks_in_the_delay.ceil() as u32;
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

/// Three apiservers, as most control planes have: what holds for two holds for them.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_while_three_apiservers_restart() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .in_a_lab(|lab| lab.apiservers = Some(3))
        .upholds(&promised())
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
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
        .in_a_lab(|lab| lab.upgrade_from = Some("v1.34.4"))
        .upholds(&promised())
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.upgrade().await?;
            probes.stop().await
        })
        .await;
}
