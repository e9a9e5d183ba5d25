//! An apiserver that is gone without a word: packets are lost, or late, and nobody is told.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::{parallel, serial};

use crate::rollout::{WATCHED, every_probe, promised};

/// Everybody who connects from now on is carried to the first apiserver.
async fn only_the_first(lab: &Lab) -> anyhow::Result<Losing> {
    let second = lab.lose(1, Lost::Both).await?;
    lab.until_in_service(1, false).await?;
    Ok(second)
}

/// The first apiserver is lost, for as long as anybody may need to notice. Those who have noticed are carried to the second.
async fn lose_the_first(lab: &Lab, probes: &Observing, second: Losing) -> anyhow::Result<()> {
    second.heal().await?;
    lab.until_in_service(1, true).await?;
    let first = lab.lose(0, Lost::Both).await?;
    probes.watch_for(lab.loss_noticed() + timing::CLOSE_NOTICED).await;
    first.heal().await
}

/// A silently lost apiserver is noticed by clients that do not rely on being told: kube-rs's watcher, and a raw watch with a read
/// timeout. They go on elsewhere, and nothing is lost; a pooled connection that is dead is not used twice.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_silently_lost_apiserver_is_noticed() {
    undisturbed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.watch_timeout = Some(timing::SHORT_WATCH_TIMEOUT);
            lab.read_timeout = Some(timing::SHORT_WATCH_TIMEOUT + timing::WATCH_TIMEOUT_MARGIN);
        })
        .upholds(&[&lost::NOTICED, &lost::NOT_TWICE])
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RESUMABLE, &watches::RELIABLE])
        .run(async |lab| {
            let second = only_the_first(lab).await?;
            let probes = Probes::default().with(watch()).with(watcher()).with(write());
            let probes = probes.with(kube_requests()).start(lab).await?;
            lose_the_first(lab, &probes, second).await?;
            probes.stop().await
        })
        .await;
}

/// Where the balancer is no proxy, TCP keepalive finds out, and TCP_USER_TIMEOUT where something was written. (A proxy's kernel answers
/// the probes in the place of the lost server's: no client behind one can find out by TCP.)
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn keepalive_finds_a_silent_loss_out() {
    undisturbed()
        .needs(Need::BalancerForwards)
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.watch_timeout = Some(timing::SHORT_WATCH_TIMEOUT);
        })
        .upholds(&[&lost::NOTICED])
        .run(async |lab| {
            let second = only_the_first(lab).await?;
            let probes = Probes::default().with(careful_clients()).start(lab).await?;
            lose_the_first(lab, &probes, second).await?;
            probes.stop().await
        })
        .await;
}

/// A control: clients that have nothing but TCP to tell them wait for ever: a raw watch of kube-rs as it comes, which has no timeout of
/// its own, and readers without keepalive. A pool that speaks HTTP/2 without pings gives up request after request on the dead connection.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn without_keepalive_and_timeouts_a_silent_loss_goes_unnoticed() {
    undisturbed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.watch_timeout = Some(timing::SHORT_WATCH_TIMEOUT);
        })
        .violates(&[&lost::NOTICED, &lost::NOT_TWICE])
        .run(async |lab| {
            let second = only_the_first(lab).await?;
            let probes = Probes::default().with(watch()).with(write()).with(careless_clients());
            let probes = probes.with(kube_requests().over_http2()).start(lab).await?;
            lose_the_first(lab, &probes, second).await?;
            probes.stop().await
        })
        .await;
}

/// With the real durations: kube-rs's watcher as it comes asks for 290 s, and notices five seconds later.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_watcher_as_it_comes_notices_a_silent_loss() {
    undisturbed()
        .only_in(Profile::Nightly)
        .in_a_lab(|lab| (lab.namespaces, lab.apiservers) = (true, Some(2)))
        .upholds(&[&lost::NOTICED])
        .run(async |lab| {
            let second = only_the_first(lab).await?;
            let probes = Probes::default().with(watcher()).with(write()).start(lab).await?;
            lose_the_first(lab, &probes, second).await?;
            probes.stop().await
        })
        .await;
}

/// An apiserver that is not reached, and whoever tries is told at once: new connections fail until the balancer knows, and watches miss
/// nothing.
#[rstest]
#[case::is_refused(Lost::Refused)]
#[case::is_no_host(Lost::Unreachable)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn new_connections_fail_until_the_balancer_knows_that_an_apiserver(#[case] lost: Lost) {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .needs(Need::BalancerWithoutRetry)
        .in_a_lab(|lab| (lab.namespaces, lab.apiservers) = (true, Some(2)))
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE])
        .violates(&[&rollout::NO_OUTAGE_NEW])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            let first = lab.lose(0, lost).await?;
            lab.until_in_service(0, false).await?;
            probes.watch_for(timing::CLOSE_NOTICED).await;
            first.heal().await?;
            lab.until_in_service(0, true).await?;
            probes.stop().await
        })
        .await;
}

/// Where some packets are lost TCP sends them again, and nobody loses anything.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_cable_that_loses_some_packets_costs_nothing() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| (lab.namespaces, lab.apiservers) = (true, Some(2)))
        .upholds(&WATCHED)
        .upholds(&[&rollout::NO_OUTAGE_NEW, &rollout::NO_OUTAGE_REUSED, &rollout::NO_OUTAGE_IN_LIBRARY])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            let some = lab.lose(0, Lost::Percent(timing::PERCENT_LOST)).await?;
            probes.go_on(120).await?;
            some.heal().await?;
            probes.stop().await
        })
        .await;
}

/// Late is not lost: an apiserver in another region is rolled like any other, and nobody notices.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_roll_of_an_apiserver_that_is_far_away_costs_nothing() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .needs(Need::Delay)
        .in_a_lab(|lab| lab.namespaces = true)
        .upholds(&WATCHED)
        .upholds(&promised(Restart::Graceful))
        .run(async |lab| {
            let far = lab.lose(0, Lost::LateMs(timing::FAR_MS)).await?;
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await?;
            far.heal().await
        })
        .await;
}

/// An apiserver that becomes too slow for its health checks is taken out of service; what is open there goes on, and nothing fails.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn an_apiserver_that_is_too_slow_is_taken_out_of_service() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .needs(Need::Delay)
        .in_a_lab(|lab| (lab.namespaces, lab.apiservers) = (true, Some(2)))
        .upholds(&WATCHED)
        .upholds(&[&rollout::NO_OUTAGE_NEW, &rollout::NO_OUTAGE_REUSED, &rollout::NO_OUTAGE_IN_LIBRARY])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            let slow = lab.lose(0, Lost::LateMs(timing::TOO_LATE_MS)).await?;
            lab.until_in_service(0, false).await?;
            probes.watch_for(timing::CLOSE_NOTICED).await;
            slow.heal().await?;
            lab.until_in_service(0, true).await?;
            probes.stop().await
        })
        .await;
}
