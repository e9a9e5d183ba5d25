//! Connections on which nothing happens for longer than the balancer allows: the AKS report.

use rollproof::prelude::*;
use serial_test::serial;

/// A balancer that ends idle connections by RST tells both sides, and touches no other. A client that is not told waits for
/// ever.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn both_sides_of_an_idle_connection_are_told() {
    undisturbed()
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::Reset))
        .upholds(&[&idle::ANNOUNCED, &idle::NOT_BEFORE])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}

/// So does one that ends them by FIN, as proxies do.
#[tokio::test(flavor = "multi_thread")]
#[serial]
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
#[serial]
async fn nobody_is_told_by_a_balancer_that_forgets_silently() {
    undisturbed()
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::Silent))
        .upholds(&[&idle::NOT_BEFORE])
        .violates(&[&idle::ANNOUNCED])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}
