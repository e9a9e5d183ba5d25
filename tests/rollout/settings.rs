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
/// In the pr profile runs what changes how requests are refused; the others take a minute, or prove nothing in 3 s. WATCH-4
/// is left out with retry-after: a watch that is told to come back in 5 s may meet the restarted apiserver by then, whose
/// watch cache begins after the watch's revision (410).
#[rstest]
#[case::send_retry_after(None, |lab: &mut Setup| lab.flag("shutdown-send-retry-after", "true"), &["WATCH-4"])]
// A watch lives until its apiserver gives up waiting for it.
#[case::no_grace_for_watches(Profile::Nightly, |lab: &mut Setup| {
    lab.timers.watch_termination_grace = Duration::ZERO;
    lab.flag("request-timeout", "5s");
}, &[])]
// As OpenShift shipped it: 70 s of delay, 60 s for requests, 135 s in all.
#[case::as_in_the_field_report(Profile::Nightly, |lab: &mut Setup| {
    lab.timers.watch_termination_grace = Duration::ZERO;
}, &[])]
// Only HTTP/2 connections are told to go away.
#[case::goaway_chance(Profile::Nightly, |lab: &mut Setup| lab.flag("goaway-chance", "0.02"), &[])]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_with(
    #[case] profile: impl Into<Option<Profile>>,
    #[case] set: fn(&mut Setup),
    #[case] but: &[&str],
) {
    let promised: Vec<_> = promised().into_iter().filter(|it| !but.contains(&it.id)).collect();
    disturbed_by(Restart::Graceful)
        .only_in(profile)
        .in_a_lab(set)
        .upholds(&promised)
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// Controls: with these settings new connections fail. The watches go on all the same.
///
/// BALANCER-2 is not judged: an apiserver that nobody watches is gone and started again before the balancer notices.
#[rstest]
#[case::a_delay_shorter_than_detection(None, |lab: &mut Setup| lab.timers.shutdown_delay /= 15, &[&balancer::NEVER_LATE])]
// kube-apiserver's own defaults: no delay, and an open watch holds the process for 60 s behind a closed listener.
#[case::default_flags(Profile::Nightly, |lab: &mut Setup| {
    lab.timers.shutdown_delay = Duration::ZERO;
    lab.timers.watch_termination_grace = Duration::ZERO;
}, &[])]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn new_connections_fail_with(
    #[case] profile: impl Into<Option<Profile>>,
    #[case] set: fn(&mut Setup),
    #[case] also: &[&'static Requirement],
) {
    disturbed_by(Restart::Graceful)
        .only_in(profile)
        .in_a_lab(set)
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
