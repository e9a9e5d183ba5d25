//! Connections on which nothing happens for longer than the balancer allows: the AKS report.

use rollproof::prelude::*;
use serial_test::parallel;

/// A balancer that ends idle connections by RST tells both sides, and touches no other. A client that is not told waits for
/// ever.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn both_sides_of_an_idle_connection_are_told() {
    undisturbed()
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::Reset))
        .upholds(&[&idle::ANNOUNCED, &idle::NOT_BEFORE])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}

/// So does one that ends them by FIN, as proxies do.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn both_sides_of_an_idle_connection_are_told_by_fin() {
    undisturbed()
        .only_in(Profile::Nightly)
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::Fin))
        .upholds(&[&idle::ANNOUNCED, &idle::NOT_BEFORE])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}

/// A control: a balancer that forgets idle connections silently, as a connection table does by itself.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn nobody_is_told_by_a_balancer_that_forgets_silently() {
    undisturbed()
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::Silent))
        .upholds(&[&idle::NOT_BEFORE])
        .violates(&[&idle::ANNOUNCED])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}

/// A control: a balancer that forgets silently, and sends RST to whoever speaks on what it has forgotten. Whoever only listens learns
/// nothing.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_reset_on_the_next_packet_tells_nobody_who_waits() {
    undisturbed()
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::ResetOnUse))
        .upholds(&[&idle::NOT_BEFORE])
        .violates(&[&idle::ANNOUNCED])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}

/// A watch on which nothing happens is reset; the client opens it again and misses nothing. With the real durations no apiserver is
/// silent for so long: it sends a bookmark every minute.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_watch_that_was_reset_while_idle_goes_on() {
    undisturbed()
        .only_in(Profile::Pr)
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::Reset))
        .upholds(&[&idle::RESUMED])
        .upholds(&[&watches::GAPLESS, &watches::ORDERED, &watches::UNIQUE, &watches::RESUMABLE, &watches::RELIABLE])
        .run(async |lab| {
            let probes = Probes::default().with(watch()).with(watcher()).with(write()).start(lab).await?;
            probes.rest(timing::timer_observation(lab.setup().idle_timeout)).await;
            probes.stop().await
        })
        .await;
}

/// A control: a balancer that ends connections earlier than it says. They are told, but they had not been idle for that long.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_balancer_with_a_shorter_timeout_than_it_says_cuts_what_is_not_idle() {
    undisturbed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Reset);
            lab.idle_timeout_kept = Some(lab.idle_timeout / 2);
        })
        .upholds(&[&idle::ANNOUNCED])
        .violates(&[&idle::NOT_BEFORE])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}
