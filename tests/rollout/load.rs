//! The OpenShift report's load, while apiservers are restarted one after the other.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::serial;

/// Ten workers that create, get and delete notice nothing of a graceful roll, and what exists at the end is what they were
/// told.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn ten_workers_notice_nothing_of_a_graceful_roll() {
    disturbed_by(Restart::Graceful)
        .upholds(&[&rollout::LEDGER, &rollout::NO_OUTAGE_LOAD])
        .run(async |lab| {
            let probes = Probes::default().with(load()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// Nor do ten workers that only read.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn ten_readers_notice_nothing_of_a_graceful_roll() {
    disturbed_by(Restart::Graceful)
        .compressed()
        .upholds(&[&rollout::NO_OUTAGE_LOAD])
        .run(async |lab| {
            let probes = Probes::default().with(load().read_only()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: apiservers that close their listener at SIGTERM close the workers' connections before the balancer knows, and
/// new ones fail. The ledger matches all the same.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn without_a_shutdown_delay_workers_fail() {
    disturbed_by(Restart::Graceful)
        .in_a_lab(|lab| lab.timers.shutdown_delay = Duration::ZERO)
        .needs(Need::BalancerWithoutRetry)
        .upholds(&[&rollout::LEDGER])
        .violates(&[&rollout::NO_OUTAGE_LOAD])
        .run(async |lab| {
            let probes = Probes::default().with(load()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A POST whose body is half sent and a LIST whose answer is half read when their apiserver gets SIGTERM complete, whole,
/// and take effect exactly once. A control: not if the apiserver is killed when a grace period is over that is shorter
/// than its shutdown delay, as a pod's 30 s are beside 70 s.
#[rstest]
#[case::within_the_grace_period(None)]
#[case::but_not_beyond_it(Some(rollproof::timing::SHORT_GRACE_PERIOD))]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn what_is_in_flight_completes(#[case] grace_period: Option<Duration>) {
    // No request can be held for as long as the real shutdown delay: apiservers end it.
    let scenario = disturbed_by(Restart::Graceful).compressed().in_a_lab(move |lab| lab.grace_period = grace_period);
    let scenario = match grace_period {
        None => scenario.upholds(&[&rollout::IN_FLIGHT]),
        Some(_) => scenario.violates(&[&rollout::IN_FLIGHT]),
    };
    scenario
        .run(async |lab| {
            let probes = Probes::default().with(in_flight()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}
