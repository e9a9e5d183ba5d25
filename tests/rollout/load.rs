//! The OpenShift report's load, while apiservers are restarted one after the other.

use rollproof::prelude::*;
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

/// Nor do they by HTTP/2, where apiservers also ask clients now and then to connect anew (GOAWAY).
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn ten_workers_over_http2_notice_nothing_of_goaways_and_a_roll() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| lab.flag("goaway-chance", "0.02"))
        .upholds(&[&rollout::LEDGER, &rollout::NO_OUTAGE_LOAD])
        .run(async |lab| {
            let probes = Probes::default().with(load().over_http2()).start(lab).await?;
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
/// and take effect exactly once; and ten workers that only read notice nothing meanwhile.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn what_is_in_flight_completes_and_ten_readers_notice_nothing() {
    disturbed_by(Restart::Graceful)
        // No request can be held for as long as the real shutdown delay: apiservers end it.
        .compressed()
        .upholds(&[&rollout::IN_FLIGHT, &rollout::NO_OUTAGE_LOAD])
        .run(async |lab| {
            let probes = Probes::default().with(in_flight()).with(load().read_only()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: what is in flight does not complete if its apiserver is killed when a grace period is over that is shorter
/// than its shutdown delay, as a pod's 30 s are beside 70 s.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn what_is_in_flight_is_lost_when_the_grace_period_is_over() {
    disturbed_by(Restart::Graceful)
        .compressed()
        .in_a_lab(|lab| lab.grace_period = Some(timing::SHORT_GRACE_PERIOD))
        .violates(&[&rollout::IN_FLIGHT])
        .run(async |lab| {
            let probes = Probes::default().with(in_flight()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}
