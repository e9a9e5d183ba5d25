//! Connections on which nothing happens for longer than the balancer allows: the AKS report.

use rollproof::prelude::*;
use serial_test::{parallel, serial};

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

/// Where the balancer is no proxy, keepalive probes within its timeout hold a connection on which nobody says anything.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn keepalive_within_the_timeout_holds_a_connection() {
    undisturbed()
        .in_a_lab(|lab| lab.on_idle = Some(OnIdle::Silent))
        .upholds(&[&idle::HELD, &idle::NOT_BEFORE])
        .run(async |lab| Probes::default().with(timers()).start(lab).await?.stop().await)
        .await;
}

/// A control: not where the timeout is shorter than the balancer says, and than the time to the first probe.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn keepalive_that_comes_too_late_holds_nothing() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Reset);
            // The first probe comes after a third of what it says.
            lab.idle_timeout_kept = Some(lab.idle_timeout / 6);
        })
        .upholds(&[&idle::ANNOUNCED])
        .violates(&[&idle::HELD, &idle::NOT_BEFORE])
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

/// The AKS report's apiserver-watcher: a change that comes after an idle time is noticed within 10 s, since the watch was told that its
/// connection had ended. Compressed in every profile: with the real durations an apiserver's bookmarks come before any idle timeout.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_change_after_an_idle_time_is_noticed() {
    undisturbed()
        .compressed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Reset);
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .upholds(&[&idle::CHANGE_NOTICED, &idle::RESUMED])
        .run(async |lab| Probes::default().with(trigger()).start(lab).await?.stop().await)
        .await;
}

/// So is one that comes while apiservers are rolled.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_change_after_an_idle_time_is_noticed_across_a_roll() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Reset);
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .upholds(&[&idle::CHANGE_NOTICED])
        .run(async |lab| {
            let probes = Probes::default().with(trigger()).start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// A control: where the balancer forgets silently, the watch waits for nothing, and the change is missed.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_change_after_a_silent_idle_timeout_is_missed() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Silent);
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .violates(&[&idle::CHANGE_NOTICED])
        .run(async |lab| Probes::default().with(trigger()).start(lab).await?.stop().await)
        .await;
}

/// Polling: request, idle beyond the timeout, request. The connection was reset meanwhile, and is not used again; what is created then is created
/// once. Subjects are kube-rs's pool, and hyper with a kept connection.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_request_after_an_idle_time_goes_out_on_another_connection() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Reset);
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .upholds(&[&idle::NOT_REUSED, &rollout::LEDGER, &rollout::NO_OUTAGE_LOAD])
        .run(async |lab| {
            let (_, seldom) = timing::timer_intervals(lab.setup().idle_timeout);
            let probes = Probes::default().with(kube_requests().polling(seldom)).with(load().every(seldom));
            probes.start(lab).await?.stop().await
        })
        .await;
}

/// A control: where the balancer forgets silently, the pool knows nothing, and the request waits for nothing.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_request_after_a_silent_idle_timeout_hangs() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Silent);
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .violates(&[&idle::NOT_REUSED])
        .run(async |lab| {
            let (_, seldom) = timing::timer_intervals(lab.setup().idle_timeout);
            let probes = Probes::default().with(kube_requests().polling(seldom)).start(lab).await?;
            probes.watch_for(seldom + timing::REQUEST_TIMEOUT).await;
            probes.stop().await
        })
        .await;
}

/// A control: RST, but it is lost on its way to the client. There is no answer to a RST, so the balancer cannot know, and the client is left with
/// a connection that is dead.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_reset_that_is_lost_on_its_way_to_the_client_tells_the_server_only() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.on_idle) = (true, Some(OnIdle::Reset));
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .upholds(&[&idle::NOT_BEFORE])
        .violates(&[&idle::ANNOUNCED, &idle::NOT_REUSED])
        .run(async |lab| {
            let (_, seldom) = timing::timer_intervals(lab.setup().idle_timeout);
            let lost = lab.lose(0, Lost::ResetsToClients).await?;
            let probes = Probes::default().with(timers()).with(kube_requests().polling(seldom)).start(lab).await?;
            probes.watch_for(seldom + timing::REQUEST_TIMEOUT).await;
            probes.stop().await?;
            lost.heal().await
        })
        .await;
}

/// A control: the same the other way. The server holds what no client uses any more.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_reset_that_is_lost_on_its_way_to_the_server_tells_the_client_only() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.on_idle) = (true, Some(OnIdle::Reset));
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .upholds(&[&idle::NOT_BEFORE])
        .violates(&[&idle::ANNOUNCED])
        .run(async |lab| {
            let lost = lab.lose(0, Lost::ResetsToServer).await?;
            Probes::default().with(timers()).start(lab).await?.stop().await?;
            lost.heal().await
        })
        .await;
}

/// A control: a client that begins anew with a list after each end, as some libraries do: each idle timeout costs the whole state.
#[tokio::test(flavor = "multi_thread")]
#[parallel]
async fn a_client_that_relists_after_an_idle_end_does_not_resume() {
    undisturbed()
        .compressed()
        .in_a_lab(|lab| {
            lab.on_idle = Some(OnIdle::Reset);
            lab.idle_timeout = timing::SHORT_IDLE_TIMEOUT;
        })
        .violates(&[&idle::RESUMED, &watches::RESUMABLE])
        .upholds(&[&watches::GAPLESS, &watches::ORDERED])
        .run(async |lab| {
            let probes = Probes::default().with(watch().that_relists()).with(write()).start(lab).await?;
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
