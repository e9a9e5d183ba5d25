//! Gateways whose clients speak HTTP/1.1, as kube-rs does, and an apiserver that is dead and has not said so.

use rollproof::prelude::*;
use rollproof::timing::gateway as times;
use serial_test::serial;

use crate::gateway::Silence;

const WATCHES: &[&Requirement] = &[&gateway::ENDED, &gateway::ELSEWHERE, &gateway::UNTOUCHED, &gateway::RESUMED];

/// Gateways that are recommended, which take upgrades as well: an apiserver does that by HTTP/1.1 only.
fn before_gateways() -> Scenario {
    undisturbed().only_in(Profile::Nightly).compressed().in_a_lab(|lab| {
        (lab.namespaces, lab.apiservers) = (true, Some(2));
        lab.gateways = vec![gateways::RECOMMENDED, gateways::HAPROXY_RECOMMENDED];
    })
}

fn clients_and_a_writer() -> Probes {
    Probes::default().with(gateway_clients().and_by_http1()).with(write().at(1).every(times::WRITE_EVERY))
}

/// A watch by HTTP/1.1 on a silently lost apiserver ends and goes on behind both.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_watch_by_http1_on_a_silently_lost_apiserver_goes_on() {
    before_gateways()
        .upholds_through(&gateways::RECOMMENDED, WATCHES)
        .upholds_through(&gateways::HAPROXY_RECOMMENDED, WATCHES)
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            Silence::Lost(Lost::Both).falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// On a frozen one, whose kernel acknowledges everything, PING or a health check ends it: these gateways speak HTTP/2 to apiservers, whatever a client
/// speaks.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_watch_by_http1_on_a_frozen_apiserver_goes_on() {
    before_gateways()
        .upholds_through(&gateways::RECOMMENDED, WATCHES)
        .upholds_through(&gateways::HAPROXY_RECOMMENDED, WATCHES)
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            Silence::Frozen.falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}
