//! Sessions into a pod while apiservers are restarted: `exec`, `attach`, `port-forward`, `logs -f`. What is behind the apiserver is
//! stage: on `kind` a pod on a node, on `local` kwok, which stands in for a kubelet.

use rollproof::prelude::*;
use serial_test::serial;

/// A disturbance of a lab with a pod.
fn disturbed(how: Restart) -> Scenario {
    disturbed_by(how).in_a_lab(with_a_pod)
}

fn with_a_pod(lab: &mut rollproof::lab::Setup) {
    lab.pods = true;
    // A stopped apiserver waits so long for a `logs -f`; it is not what this is about.
    lab.flag("request-timeout", &format!("{:?}", timing::SHORT_REQUEST_TIMEOUT));
}

async fn rolled(lab: &Lab, how: Restart) -> anyhow::Result<()> {
    let probes = Probes::default().with(sessions()).start(lab).await?;
    lab.roll(how).await?;
    probes.stop().await
}

/// While apiservers are gracefully restarted, a user's session goes on until its own apiserver has ended, also if nothing is said
/// in it; then its user is told, and can open another at once.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn sessions_last_as_long_as_their_apiserver() {
    disturbed(Restart::Graceful)
        // kube-rs pings a WebSocket every 60 s: with real durations nothing would be silent for longer.
        .compressed()
        .upholds(&[&session::NOT_CUT, &session::QUIET, &session::TOLD, &session::NEW, &rollout::BACK])
        .run(async |lab| rolled(lab, Restart::Graceful).await)
        .await;
}

/// Whoever has a session on an apiserver that is killed is told at once; the others notice nothing.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn sessions_on_a_killed_apiserver_end_at_once() {
    disturbed(Restart::Killed)
        .only_in(Profile::Nightly)
        .compressed()
        .upholds(&[&session::NOT_CUT, &session::TOLD])
        .run(async |lab| rolled(lab, Restart::Killed).await)
        .await;
}

/// A control: a balancer that resets the connections of an apiserver whose /readyz is red ends sessions that had seconds to go.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_balancer_that_resets_unhealthy_connections_cuts_sessions() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            with_a_pod(lab);
            lab.on_unhealthy = OnUnhealthy::Reset;
        })
        .upholds(&[&rollout::BACK])
        .violates(&[&session::NOT_CUT])
        .run(async |lab| rolled(lab, Restart::Graceful).await)
        .await;
}

/// A control: a balancer with an idle timeout ends a session in which nothing was said for a while, though all is well.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_quiet_session_is_cut_by_an_idle_timeout() {
    undisturbed()
        .compressed()
        .in_a_lab(|lab| {
            lab.pods = true;
            lab.on_idle = Some(OnIdle::Reset);
            // kube-rs sends a WebSocket ping every minute: then something is said.
            lab.idle_timeout = timing::idle_timeout(Profile::Pr);
        })
        .upholds(&[&session::NOT_CUT, &session::TOLD])
        .violates(&[&session::QUIET])
        .run(async |lab| Probes::default().with(sessions()).start(lab).await?.stop().await)
        .await;
}

/// A control: behind one that forgets silently, its user waits for an answer that will not come.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_quiet_session_hangs_behind_a_balancer_that_forgets_silently() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            lab.pods = true;
            lab.on_idle = Some(OnIdle::Silent);
            // kube-rs sends a WebSocket ping every minute: then something is said.
            lab.idle_timeout = timing::idle_timeout(Profile::Pr);
        })
        .upholds(&[&session::NOT_CUT])
        .violates(&[&session::QUIET, &session::TOLD])
        .run(async |lab| Probes::default().with(sessions()).start(lab).await?.stop().await)
        .await;
}

/// A control: apiservers that close their listener at SIGTERM refuse new sessions, until the balancer knows.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn without_a_shutdown_delay_new_sessions_fail() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            with_a_pod(lab);
            lab.timers.shutdown_delay = Duration::ZERO;
            // Sessions are asked for so seldom that the balancer must not know too soon.
            lab.timers.health_fall = 5;
        })
        .needs(Need::BalancerWithoutRetry)
        .upholds(&[&session::NOT_CUT, &session::TOLD])
        .violates(&[&session::NEW])
        .run(async |lab| rolled(lab, Restart::Graceful).await)
        .await;
}
