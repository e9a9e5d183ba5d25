//! Settings of the apiservers, as cases: what each costs in a graceful roll.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::serial;

use crate::rollout::{self as roll, every_probe};

/// What holds for a watch whatever happens to apiservers. (WATCH-6 aside: how soon depends on the settings.)
pub(crate) static WATCHED: [&Requirement; 4] =
    [&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RELIABLE];

/// All that a graceful roll is to keep.
pub(crate) fn promised() -> Vec<&'static Requirement> {
    roll::WATCHED.into_iter().chain(roll::promised(Restart::Graceful)).collect()
}

/// With these settings a graceful roll costs nothing.
///
/// WATCH-4 is left out with retry-after: a watch that is told to come back in 5 s may meet the restarted apiserver by then,
/// whose watch cache begins after the watch's revision (410).
#[rstest]
#[case::send_retry_after(
    |it: Scenario| it.compressed().in_a_lab(|lab| lab.flag("shutdown-send-retry-after", "true")),
    &["WATCH-4"],
)]
// A watch lives until its apiserver gives up waiting for it.
#[case::no_grace_for_watches(
    |it: Scenario| it.only_in(Profile::Nightly).compressed().in_a_lab(|lab| {
        lab.timers.watch_termination_grace = Duration::ZERO;
        lab.flag("request-timeout", "5s");
    }),
    &[],
)]
// As OpenShift had it: 70 s of delay, 60 s for requests, 135 s in all.
#[case::the_field_reports_durations(
    |it: Scenario| it.only_in(Profile::Nightly).in_a_lab(|lab| {
        lab.timers.watch_termination_grace = Duration::ZERO;
        lab.grace_period = Some(timing::FIELD_REPORT_GRACE_PERIOD);
    }),
    &[],
)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_with(#[case] settings: fn(Scenario) -> Scenario, #[case] but: &[&str]) {
    let promised: Vec<_> = promised().into_iter().filter(|it| !but.contains(&it.id)).collect();
    settings(disturbed_by(Restart::Graceful))
        .upholds(&promised)
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// Apiservers that ask HTTP/2 clients now and then to connect anew (GOAWAY), so that connections spread, lose no request.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_with_goaways_by_chance() {
    disturbed_by(Restart::Graceful)
        .compressed()
        // The most that a kube-apiserver takes: one request in fifty.
        .in_a_lab(|lab| lab.flag("goaway-chance", "0.02"))
        .upholds(&promised())
        .run(async |lab| {
            let kept = || requests().on_a_reused_connection().over_http2();
            // Of so many requests, one meets a GOAWAY before anything is disturbed.
            let probes = every_probe().with(kept().from_node(0)).with(kept().from_node(1)).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// Controls: with these settings new connections fail. The watches go on all the same.
///
/// BALANCER-2 is not judged: an apiserver that nobody watches is gone and started again before the balancer notices.
#[rstest]
#[case::a_delay_shorter_than_detection(
    |it: Scenario| it.only_in(Profile::Nightly).compressed().in_a_lab(|lab| lab.timers.shutdown_delay /= 15),
    &[&balancer::NEVER_LATE],
)]
// kube-apiserver's own defaults: no delay, and an open watch holds the process for 60 s behind a closed listener.
#[case::default_flags(
    |it: Scenario| it.only_in(Profile::Nightly).in_a_lab(|lab| {
        lab.timers.shutdown_delay = Duration::ZERO;
        lab.timers.watch_termination_grace = Duration::ZERO;
    }),
    &[],
)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn new_connections_fail_with(#[case] settings: fn(Scenario) -> Scenario, #[case] also: &[&'static Requirement]) {
    settings(disturbed_by(Restart::Graceful))
        .needs(Need::BalancerWithoutRetry)
        .upholds(&WATCHED)
        .upholds(&[&rollout::SIGNAL_ORDER, &rollout::BACK, &balancer::DRAINS])
        .violates(&[&rollout::NO_OUTAGE_NEW])
        .violates(also)
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: an apiserver that waits for its open watches until the request timeout (60 s) is killed when a shorter grace
/// period is over. By then the balancer has taken it out of service, and the watches go on elsewhere.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_grace_period_shorter_than_the_request_timeout_ends_in_a_kill() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.timers.watch_termination_grace = Duration::ZERO;
            lab.grace_period = Some(lab.timers.shutdown_delay * 2);
        })
        .upholds(&WATCHED)
        .upholds(&[
            &rollout::NO_OUTAGE_NEW,
            &rollout::BACK,
            &balancer::NEVER_LATE,
            &balancer::DRAINS,
            &balancer::FOLLOWS,
        ])
        .violates(&[&rollout::SIGNAL_ORDER])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}
