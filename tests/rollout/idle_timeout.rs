//! Connections on which nothing happens for longer than the balancer allows: the AKS report.

use rollproof::prelude::*;
use rstest::rstest;
use serial_test::serial;

/// A balancer that ends idle connections tells both sides, and touches no other. A client that is not told waits for ever.
#[rstest]
#[case::by_rst(OnIdle::Reset, None)]
#[case::by_fin(OnIdle::Fin, Profile::Nightly)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn both_sides_of_an_idle_connection_are_told(
    #[case] then: OnIdle,
    #[case] profile: impl Into<Option<Profile>>,
) {
    undisturbed()
        .only_in(profile)
        .in_a_lab(move |lab| lab.on_idle = Some(then))
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
