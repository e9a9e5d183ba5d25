//! Gateways that end HTTP between clients and apiservers, and an apiserver that is dead and has not said so: the field report of a
//! watch that hung behind an Istio ingress gateway.

use rollproof::prelude::*;
use rollproof::timing::gateway as times;
use rstest::rstest;
use serial_test::serial;

const ALL: &[&Requirement] = &[
    &gateway::ENDED,
    &gateway::ELSEWHERE,
    &gateway::UNTOUCHED,
    &gateway::QUIET,
    &gateway::REPEATABLE,
    &gateway::RESUMED,
];

/// Clients of all gateways, and a writer past them.
fn clients_and_a_writer() -> Probes {
    Probes::default().with(gateway_clients()).with(write().at(1).every(times::WRITE_EVERY))
}

/// Behind a gateway as it is recommended, watches on a dead apiserver end and go on elsewhere, requests too, and a quiet session is left
/// alone. Beside it, on the same apiservers, two controls: as Istio comes everything hangs, and with the report's first cure the quiet
/// session is cut.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn the_recommended_gateway_survives_a_silently_lost_apiserver() {
    undisturbed()
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers, lab.pods, lab.listeners) = (true, Some(2), true, true);
            lab.gateways = vec![gateways::RECOMMENDED, gateways::NONE, gateways::STREAM_IDLE_TIMEOUT];
        })
        .upholds_through(&gateways::RECOMMENDED, ALL)
        .violates_through(&gateways::NONE, &[&gateway::ENDED, &gateway::ELSEWHERE])
        .violates_through(&gateways::STREAM_IDLE_TIMEOUT, &[&gateway::QUIET])
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            Silence::Lost(Lost::Both).falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// Behind such a gateway with two workers, of which each has connections of its own, all is as behind one with a single worker.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn every_worker_of_the_recommended_gateway_survives_a_silently_lost_apiserver() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers, lab.pods) = (true, Some(2), true);
            (lab.gateways, lab.gateway_workers) = (vec![gateways::RECOMMENDED], 2);
        })
        .upholds_through(&gateways::RECOMMENDED, ALL)
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            Silence::Lost(Lost::Both).falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// Behind a gateway's plain-text port, which the field report's clients used, it is the same: what hangs, and what ends it, is between
/// gateway and apiserver.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_a_plain_text_port_a_silently_lost_apiserver_is_no_other() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.gateways = vec![gateways::RECOMMENDED_IN_PLAIN_TEXT, gateways::NONE_IN_PLAIN_TEXT];
        })
        .upholds_through(&gateways::RECOMMENDED_IN_PLAIN_TEXT, ALL)
        .violates_through(&gateways::NONE_IN_PLAIN_TEXT, &[&gateway::ENDED, &gateway::ELSEWHERE])
        .run(async |lab| {
            let probes = Probes::default().with(gateway_clients()).with(write().at(1).every(times::WRITE_EVERY));
            let probes = probes.start(lab).await?;
            Silence::Lost(Lost::Both).falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// How an apiserver ceases to answer, without a word.
#[derive(Clone, Copy)]
pub(crate) enum Silence {
    /// Packets are lost on the way.
    Lost(Lost),
    /// Its process is stopped, and its kernel acknowledges whatever is sent.
    Frozen,
    /// Its process is killed, and not even that passes; it comes back as a new one.
    Unplugged,
}

impl Silence {
    /// Has the first apiserver cease to answer, and answer again.
    pub(crate) async fn falls(self, lab: &Lab, probes: &Observing) -> anyhow::Result<()> {
        match self {
            Self::Lost(lost) => {
                let first = lab.lose(0, lost).await?;
                probes.watch_for(times::FAULT).await;
                first.heal().await
            }
            Self::Frozen => {
                let first = lab.servers()[0].freeze().await?;
                probes.watch_for(times::FAULT).await;
                drop(first);
                Ok(())
            }
            Self::Unplugged => {
                let first = lab.unplug(0).await?;
                probes.watch_for(times::FAULT).await;
                first.plug_in().await
            }
        }
    }
}

/// Every remedy, side by side before the same two apiservers, one of which ceases to answer: docs/gateway-cures.md is made of these
/// recordings.
#[rstest]
#[case::packets_are_lost_both_ways(Silence::Lost(Lost::Both))]
#[case::packets_to_the_apiserver_are_lost(Silence::Lost(Lost::ToServer))]
#[case::the_apiserver_is_frozen(Silence::Frozen)]
#[case::the_apiserver_is_unplugged(Silence::Unplugged)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn each_remedy_does_what_it_can_when(#[case] silence: Silence) {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers, lab.pods) = (true, Some(2), true);
            lab.gateways = gateways::REMEDIES.to_vec();
        })
        .upholds_through(&gateways::RECOMMENDED, ALL)
        .violates_through(&gateways::NONE, &[&gateway::ENDED, &gateway::ELSEWHERE])
        .violates_through(&gateways::STREAM_IDLE_TIMEOUT, &[&gateway::ELSEWHERE, &gateway::QUIET])
        .violates_through(&gateways::TCP_KEEPALIVE, &[&gateway::ENDED, &gateway::ELSEWHERE])
        .violates_through(&gateways::HEALTH_CHECK, &[&gateway::ENDED])
        .upholds_through(&gateways::HEALTH_CHECK, &[&gateway::ELSEWHERE, &gateway::UNTOUCHED, &gateway::QUIET])
        .upholds_through(
            &gateways::PING_AND_HEALTH_CHECK,
            &[&gateway::ENDED, &gateway::ELSEWHERE, &gateway::UNTOUCHED, &gateway::QUIET, &gateway::RESUMED],
        )
        .violates_through(&gateways::PING_AND_HEALTH_CHECK, &[&gateway::REPEATABLE])
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            silence.falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// The same by Istio's means. Its control plane reads what its user would write, and Envoy asks it for everything: as Istio comes watches and
/// requests hang, and with what docs/gateway-cures.md recommends nothing does.
#[rstest]
#[case::packets_are_lost_both_ways(Silence::Lost(Lost::Both))]
#[case::the_apiserver_is_frozen(Silence::Frozen)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn istio_does_what_it_is_told_when(#[case] silence: Silence) {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers, lab.pods) = (true, Some(2), true);
            lab.gateways = gateways::BY_ISTIO.to_vec();
        })
        .upholds_through(&gateways::ISTIO_RECOMMENDED, ALL)
        .violates_through(&gateways::ISTIO, &[&gateway::ENDED, &gateway::ELSEWHERE])
        .run(async |lab| {
            let clients = Probes::default().with(gateway_clients().and_by_http1());
            let probes = clients.with(write().at(1).every(times::WRITE_EVERY)).start(lab).await?;
            silence.falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// Sessions of every kind in which nobody says anything, also by SPDY, the protocol before WebSocket: of all remedies only two do not leave those
/// alone whose apiserver answers. In three parts, since each listener takes something of which a machine has few.
#[rstest]
#[case::of_the_first_remedies(0)]
#[case::of_the_next(1)]
#[case::of_the_last(2)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn quiet_sessions_of_every_kind_are_left_alone_by_nearly_all_remedies(#[case] part: usize) {
    let remedies = gateways::REMEDIES.chunks(gateways::REMEDIES.len().div_ceil(3)).nth(part).expect("three parts");
    let scenario = undisturbed().only_in(Profile::Nightly).compressed().in_a_lab(|lab| {
        (lab.namespaces, lab.apiservers, lab.pods) = (true, Some(2), true);
        (lab.listeners, lab.kubectl) = (true, true);
        lab.gateways = remedies.to_vec();
    });
    let cuts = |remedy: &gateways::Remedy| [gateways::STREAM_IDLE_TIMEOUT, gateways::STREAM_DURATION].contains(remedy);
    let judged = remedies.iter().fold(scenario, |scenario, remedy| match cuts(remedy) {
        true => scenario.violates_through(remedy, &[&gateway::QUIET]),
        false => scenario.upholds_through(remedy, &[&gateway::QUIET]),
    });
    judged
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            Silence::Lost(Lost::Both).falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// An apiserver that is gone for good, and one at another address in its place. Gateways are told at once, and a gateway as Istio has it
/// puts new streams on the new one. But what is open on the old one hangs behind it for ever: that endpoints were removed ends no stream.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn an_apiserver_is_replaced_by_one_at_another_address() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers, lab.spares, lab.pods) = (true, Some(3), 1, true);
            lab.told_of_endpoints = true;
            lab.gateways = vec![gateways::RECOMMENDED, gateways::NONE];
        })
        .upholds_through(&gateways::RECOMMENDED, ALL)
        .upholds_through(&gateways::NONE, &[&gateway::ELSEWHERE])
        .violates_through(&gateways::NONE, &[&gateway::ENDED])
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            let _gone = lab.unplug(0).await?;
            lab.tell_gateways(&[1, 2]).await?;
            probes.watch_for(times::FAULT).await;
            probes.stop().await
        })
        .await;
}

/// Istio's control plane tells its gateways of the other address, and it is the same with them.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn istio_tells_of_an_apiserver_at_another_address() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers, lab.spares, lab.pods) = (true, Some(3), 1, true);
            lab.gateways = gateways::BY_ISTIO.to_vec();
        })
        .upholds_through(&gateways::ISTIO_RECOMMENDED, ALL)
        .upholds_through(&gateways::ISTIO, &[&gateway::ELSEWHERE])
        .violates_through(&gateways::ISTIO, &[&gateway::ENDED])
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            let _gone = lab.unplug(0).await?;
            lab.tell_gateways(&[1, 2]).await?;
            probes.watch_for(times::FAULT).await;
            probes.stop().await
        })
        .await;
}

/// A control: gateways that are told of the wrong apiserver, the dead one. A watch that such a gateway has ended cannot go on, and one that
/// ends streams by their age cuts those on the other apiserver, too.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn gateways_that_know_only_the_lost_apiserver_do_not_resume_watches() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.told_of_endpoints = true;
            lab.gateways = vec![gateways::PING, gateways::STREAM_DURATION];
        })
        .upholds_through(&gateways::PING, &[&gateway::ENDED, &gateway::UNTOUCHED])
        .violates_through(&gateways::PING, &[&gateway::ELSEWHERE, &gateway::RESUMED])
        .violates_through(&gateways::STREAM_DURATION, &[&gateway::UNTOUCHED, &gateway::RESUMED])
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            let _lost = lab.lose(0, Lost::Both).await?;
            lab.tell_gateways(&[0]).await?;
            probes.watch_for(times::FAULT).await;
            probes.stop().await
        })
        .await;
}

/// Where the gateways' kernel gives up earlier (`net.ipv4.tcp_retries2`), connections end on which something was sent, and no others: as
/// Istio comes a watch alone hangs on. With TCP keepalive beside it every watch ends, and new streams still go to the dead apiserver.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_small_tcp_retries2_is_half_of_a_remedy() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            (lab.gateways, lab.tcp_retries2) = (vec![gateways::NONE, gateways::TCP_KEEPALIVE], Some(times::RETRIES2));
        })
        .violates_through(&gateways::NONE, &[&gateway::ENDED, &gateway::ELSEWHERE])
        .upholds_through(&gateways::TCP_KEEPALIVE, &[&gateway::ENDED])
        .violates_through(&gateways::TCP_KEEPALIVE, &[&gateway::ELSEWHERE])
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            Silence::Lost(Lost::Both).falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// Of a client whose one connection carries more watches than an apiserver takes on one of the gateway's, so that the gateway has several to each apiserver:
/// when that is silently lost, all on all of them have to end and go on.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn more_watches_than_one_upstream_connection_takes_survive_a_silently_lost_apiserver() {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.gateways = vec![gateways::NONE, gateways::PING, gateways::RECOMMENDED];
            lab.flag("http2-max-streams-per-connection", &times::STREAMS.to_string());
        })
        .upholds_through(&gateways::RECOMMENDED, ALL)
        .upholds_through(&gateways::PING, &[&gateway::ENDED, &gateway::UNTOUCHED])
        .violates_through(&gateways::NONE, &[&gateway::ENDED, &gateway::ELSEWHERE])
        .run(async |lab| {
            let clients = gateway_clients().with_many(times::MANY);
            let probes = Probes::default().with(clients).with(write().at(1).every(times::WRITE_EVERY));
            let probes = probes.start(lab).await?;
            Silence::Lost(Lost::Both).falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// Apiservers that are rolled gracefully, with watches open through a gateway: they end and go on, nothing is missed, and no read fails.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_the_recommended_gateway_a_roll_costs_nothing() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.gateways = vec![gateways::RECOMMENDED];
        })
        .upholds_through(&gateways::RECOMMENDED, &[&gateway::REPEATABLE, &gateway::RESUMED])
        .run(async |lab| {
            let probes = Probes::default().with(gateway_clients()).with(write().every(times::WRITE_EVERY));
            let probes = probes.start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}

/// What nginx keeps, whatever the silence.
const BY_NGINX: &[&Requirement] = &[&gateway::ELSEWHERE, &gateway::UNTOUCHED, &gateway::QUIET];

/// haproxy and nginx as gateways: as they are usually configured, quiet sessions are cut. As they are recommended, haproxy does all that is asked for, and nginx where
/// packets are lost; what is open on an apiserver that stands still hangs behind it.
#[rstest]
#[case::packets_are_lost_both_ways(Silence::Lost(Lost::Both), ALL, &[])]
#[case::the_apiserver_is_frozen(Silence::Frozen, BY_NGINX, &[&gateway::ENDED])]
#[case::packets_to_the_apiserver_are_lost(Silence::Lost(Lost::ToServer), BY_NGINX, &[])]
#[case::the_apiserver_is_unplugged(Silence::Unplugged, ALL, &[])]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn other_products_do_what_they_can_when(
    #[case] silence: Silence,
    #[case] nginx_upholds: &[&'static Requirement],
    #[case] nginx_violates: &[&'static Requirement],
) {
    undisturbed()
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers, lab.pods, lab.tcp_keepalive) = (true, Some(2), true, true);
            lab.gateways = gateways::OTHER_PRODUCTS.to_vec();
        })
        .upholds_through(&gateways::HAPROXY_RECOMMENDED, ALL)
        .violates_through(&gateways::HAPROXY, &[&gateway::QUIET, &gateway::REPEATABLE])
        .upholds_through(&gateways::NGINX_RECOMMENDED, nginx_upholds)
        .violates_through(&gateways::NGINX_RECOMMENDED, nginx_violates)
        .violates_through(&gateways::NGINX, &[&gateway::QUIET])
        .run(async |lab| {
            let probes = clients_and_a_writer().start(lab).await?;
            silence.falls(lab, &probes).await?;
            probes.stop().await
        })
        .await;
}

/// Behind haproxy as it is recommended, a roll costs nothing either: an apiserver that is stopping is none that is dead, though its health check fails.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn behind_haproxy_as_it_is_recommended_a_roll_costs_nothing() {
    disturbed_by(Restart::Graceful)
        .only_in(Profile::Nightly)
        .compressed()
        .in_a_lab(|lab| {
            (lab.namespaces, lab.apiservers) = (true, Some(2));
            lab.gateways = vec![gateways::HAPROXY_RECOMMENDED];
        })
        .upholds_through(&gateways::HAPROXY_RECOMMENDED, &[&gateway::REPEATABLE, &gateway::RESUMED])
        .run(async |lab| {
            let probes = Probes::default().with(gateway_clients()).with(write().every(times::WRITE_EVERY));
            let probes = probes.start(lab).await?;
            lab.roll(Restart::Graceful).await?;
            probes.stop().await
        })
        .await;
}
