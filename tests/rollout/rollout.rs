//! Apiservers are restarted one after the other, behind a balancer.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::serial;

/// All probes: they share one lab and one disturbance.
pub(crate) fn every_probe() -> Probes {
    Probes::default()
        .with(watch())
        .with(watcher())
        .with(requests().on_new_connections())
        .with(requests().on_a_reused_connection())
        .with(requests().on_new_connections().over_http2())
        .with(requests().on_a_reused_connection().over_http2())
        .with(kube_requests())
        .with(kube_requests().on_new_connections())
        .with(write())
        .with(server_health())
}

/// What holds for a watch whatever happens to apiservers.
pub(crate) static WATCHED: [&Requirement; 5] =
    [&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RELIABLE, &watches::FRESH];

/// What a graceful restart must not cost, and what a kill may.
///
/// A kill may cost a relist: an apiserver that listens again before the balancer has noticed its death is handed watches
/// from before its watch cache begins, and answers 410.
pub(crate) fn promised(how: Restart) -> Vec<&'static Requirement> {
    match how {
        Restart::Graceful => vec![
            &watches::RESUMABLE,
            &rollout::NO_OUTAGE_NEW,
            &rollout::NO_OUTAGE_REUSED,
            &rollout::READYZ_RED,
            &rollout::LIVEZ_GREEN,
            &rollout::SIGNAL_ORDER,
            &rollout::BACK,
            &rollout::NO_OUTAGE_IN_LIBRARY,
            &rollout::ATTEMPTS,
            &balancer::NEVER_LATE,
            &balancer::NEVER_EARLY,
            &balancer::DRAINS,
            &balancer::FOLLOWS,
        ],
        Restart::Killed => vec![&rollout::BACK, &rollout::KILL_OUTAGE_NEW, &rollout::KILL_OUTAGE_REUSED],
    }
}

/// While the apiservers are restarted one after the other, a watch through the balancer delivers every change, once and in
/// order; no request fails if they are stopped gracefully, and for a bounded time only if they are killed. What was written is
/// read, and no writer overwrites what it has not seen.
#[rstest]
#[case::gracefully(Restart::Graceful)]
#[case::by_being_killed(Restart::Killed)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn nothing_is_lost_while_apiservers_restart(#[case] how: Restart) {
    disturbed_by(how)
        .upholds(&WATCHED)
        .upholds(&promised(how))
        .upholds(&[&watches::MONOTONIC, &rollout::READ_YOUR_WRITES, &rollout::NO_LOST_UPDATE])
        .run(async |lab| {
            let probes = every_probe().with(reads()).with(guarded_writers()).start(lab).await?;
            lab.roll(how).await?;
            probes.stop().await
        })
        .await;
}

/// While the apiservers are restarted, what a bookmark says is true, from any apiserver: a client that goes on from there lacks nothing. A watch
/// that is to begin with the state is told when that is over, and no list goes back in time.
#[rstest]
#[case::gracefully(Restart::Graceful)]
#[case::by_being_killed(Restart::Killed)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn bookmarks_are_true_while_apiservers_restart(#[case] how: Restart) {
    disturbed_by(how)
        .compressed()
        .in_a_lab(|lab| lab.watch_timeout = Some(timing::BOOKMARKED_WATCH_TIMEOUT))
        .upholds(&WATCHED)
        .upholds(&[&watches::MONOTONIC, &watches::BOOKMARKED])
        .run(async |lab| {
            let watches = Probes::default().with(watch()).with(watch().that_relists()).with(watch_list());
            let probes = watches.with(write()).with(server_health()).start(lab).await?;
            lab.roll(how).await?;
            probes.stop().await
        })
        .await;
}

/// A control: apiservers that close their listener at SIGTERM are gone before the balancer knows, and new connections
/// fail. The watches go on all the same.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn without_a_shutdown_delay_new_connections_fail() {
    disturbed_by(Restart::Graceful)
        .in_a_lab(|lab| {
            lab.timers.shutdown_delay = Duration::ZERO;
            // Asked to come back later, kube-rs does, and its user notices nothing.
            lab.flag("shutdown-send-retry-after", "false");
        })
        .needs(Need::BalancerWithoutRetry)
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RELIABLE])
        .violates(&[&rollout::NO_OUTAGE_NEW, &rollout::NO_OUTAGE_IN_LIBRARY])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: a balancer that asks /healthz, as kind's own does, learns of a shutdown when the listener is closed already.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_a_balancer_that_asks_healthz_new_connections_fail() {
    disturbed_by(Restart::Graceful)
        .compressed()
        .in_a_lab(|lab| lab.health_path = "/healthz")
        .needs(Need::BalancerIgnoresHealth)
        .needs(Need::BalancerWithoutRetry)
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RELIABLE, &balancer::DRAINS])
        .violates(&[&rollout::NO_OUTAGE_NEW, &balancer::NEVER_LATE, &balancer::FOLLOWS])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: a balancer that never asks /readyz sends new connections to an apiserver that has closed its listener.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_a_balancer_that_ignores_health_new_connections_fail() {
    disturbed_by(Restart::Graceful)
        .compressed()
        .in_a_lab(|lab| lab.health = HealthPolicy::Ignore)
        .needs(Need::BalancerIgnoresHealth)
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RELIABLE, &balancer::DRAINS])
        .violates(&[
            &rollout::NO_OUTAGE_NEW,
            &rollout::NO_OUTAGE_IN_LIBRARY,
            &balancer::NEVER_LATE,
            &balancer::NEVER_EARLY,
            &balancer::FOLLOWS,
        ])
        .run(async |lab| {
            let probes = every_probe().start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}
