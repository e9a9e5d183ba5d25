//! What the BALANCER verdicts say about runs that were spoilt in one place.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::verdict::judge;

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{New, Reused};
use Restart::{Graceful, Killed};

fn graceful() -> Run {
    run(Some(Graceful))
}

/// A connection that the balancer carried for a client of which nothing else is known.
fn passing(server: &str) -> Event {
    carried(server, End::Fin, Party::Client, 5)
}

/// A request on a new connection that meets this server.
fn meets(run: Run, at: u64, server: &str) -> Run {
    run.edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == New && within(seen.at, &(at..at + 50)) => {
            request.exchange.server = Some(server.into());
        }
        _ => {}
    })
}

#[test]
fn a_late_connection_is_one_after_the_stated_share_of_the_delay() {
    // Red at 3.011 s, and 80 % of 3 s are 2.4 s.
    let slow = |run: Run| run.header(|header| header.timers.health_fall = 10);
    slow(graceful()).with(5405, passing("apiserver-0")).expect(upheld());
    slow(graceful())
        .with(5420, passing("apiserver-0"))
        .expect(violated("BALANCER-1", "late connections to apiserver-0: 1, the last 2.409 s after"));
    // What was refused was carried late too; and a client's certificate is as good as the balancer's word.
    let refused = carried("apiserver-0", End::Unreachable, Party::Balancer, 1);
    slow(graceful()).with(6400, refused).expect(violated("BALANCER-1", "the last 3.389 s after"));
    meets(slow(graceful()), 5500, "apiserver-0").expect(violated("BALANCER-1", "late connections to apiserver-0: 1"));
    slow(graceful())
        .header(|header| header.bounds.late_percent = 90)
        .with(5420, passing("apiserver-0"))
        .expect(upheld());
}

#[test]
fn an_early_connection_is_one_before_the_last_red_readyz() {
    // Started at 6.650 s, last seen red at 8.900 s, ready at 9 s.
    meets(graceful(), 8000, "apiserver-0")
        .expect(violated("BALANCER-2", "early connections to apiserver-0: 1, the first 1.350 s after its start"));
    meets(graceful(), 8950, "apiserver-0").expect(upheld());
    let unseen = |seen: &Observation| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/readyz") && within(seen.at, &(6650..9000))
    };
    graceful().without(unseen).expect(inconclusive("BALANCER-2", "was not seen red between its start and"));
}

#[test]
fn what_the_balancer_cuts_before_the_apiserver_does_is_no_draining() {
    let cut = |end, by, lasted| graceful().with(1000, carried("apiserver-0", end, by, lasted));
    cut(End::Reset, Party::Balancer, 3000)
        .expect(violated("BALANCER-3", "connections to apiserver-0 cut: 1; the first 0.999 s after SIGTERM"));
    cut(End::Fin, Party::Balancer, 5000).expect(violated("BALANCER-3", "(Fin)"));
    cut(End::Reset, Party::Server, 3000).expect(upheld());
    cut(End::Reset, Party::Balancer, 1500).expect(upheld());
}

#[test]
fn of_a_foreign_balancer_its_clients_tell_what_it_cut() {
    // The kept connection lies on apiserver-0, which serves on until 6 s.
    let gone = graceful().edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == Reused && within(seen.at, &(4000..6000)) => {
            request.exchange.connection.as_mut().unwrap().local = "another".into();
        }
        _ => {}
    });
    gone.expect(violated("BALANCER-3", "the kept connection of requester-reused (kept-501) was gone"));
    // A failure tells too: ROLLOUT-2 has its own opinion of it.
    let broken = |class| {
        graceful().edit(|seen| match &mut seen.event {
            Event::Request(request) if request.exchange.audit_id == "requester-reused-4000" => {
                request.exchange = Exchange {
                    audit_id: "broken".into(),
                    connection: request.exchange.connection.clone(),
                    server: request.exchange.server.clone(),
                    ..failed(Phase::Headers, class)
                };
            }
            _ => {}
        })
    };
    let outage = |class| violated("ROLLOUT-2", class);
    broken(ErrorClass::ConnectionReset).expect(
        outage("connection reset by peer x1")
            .and_violated("BALANCER-3", "the kept connection of requester-reused broke"),
    );
    broken(ErrorClass::Timeout).expect(outage("timeout x1"));
}

#[test]
fn a_watch_that_breaks_before_the_delay_is_over_was_cut_on_the_way() {
    let opened = |seen: &mut Observation| {
        if let Event::ListWatch(call) = &mut seen.event {
            call.audit_id = "watch-1".into();
        }
    };
    let stages = vec!["ResponseStarted".to_owned()];
    let audited = Audited { server: "apiserver-0".into(), audit_id: "watch-1".into(), stages, status: Some(200) };
    let ends = |at, class: Option<ErrorClass>| {
        let failure = class.map(|class| Failure { class, text: String::new() });
        let again = list_call(Call::Watch, Some((at - 7) / 50 + 100));
        graceful()
            .edit(opened)
            .with(19_999, Event::Audited(audited.clone()))
            .with(at, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure }))
            .with(at + 1, again)
    };
    ends(4015, Some(ErrorClass::ConnectionReset)).expect(violated("BALANCER-3", "a watch of watch broke"));
    ends(4015, None).expect(upheld());
    ends(2015, Some(ErrorClass::ConnectionReset)).expect(upheld());
}

#[test]
fn draining_takes_something_to_drain() {
    let kept = |seen: &Observation| matches!(&seen.event, Event::Request(request) if request.on == Reused);
    graceful()
        .header(|header| header.judged_by.retain(|by| by.requirement == "BALANCER-3"))
        .without(kept)
        .expect(inconclusive("BALANCER-3", "no connection was established"));
}

#[test]
fn goaways_by_chance_have_to_be_seen() {
    let told = || {
        let over_http2 = graceful().edit(|seen| match &mut seen.event {
            Event::Request(request) if request.on == Reused => request.exchange.protocol = Protocol::Http2,
            _ => {}
        });
        over_http2.header(|header| header.servers[1].flags.push("--goaway-chance=0.02".into()))
    };
    told().expect(inconclusive("ROLLOUT-2", "no HTTP/2 connection to a serving apiserver was replaced"));
    // Nor is a connection that an apiserver told to go away one that a balancer has cut.
    let replaced = told().edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == Reused && within(seen.at, &(4000..6000)) => {
            request.exchange.connection.as_mut().unwrap().local = "another".into();
        }
        _ => {}
    });
    replaced.expect(inconclusive("ROLLOUT-2", "was replaced"));
    let replaced = replaced.edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == Reused && within(seen.at, &(1000..2000)) => {
            request.exchange.connection.as_mut().unwrap().local = "yet another".into();
        }
        _ => {}
    });
    replaced.expect(upheld());
}

#[test]
fn readyz_decides_about_service_within_the_times_of_the_timers() {
    // Detection takes 1.5 s, and our own looking may be 0.5 s late.
    meets(graceful(), 4950, "apiserver-0").expect(upheld());
    meets(graceful(), 5050, "apiserver-0")
        .expect(violated("BALANCER-4", "apiserver-0 stayed in service: 1 connections, the last 2.039 s after"));
    let back = |by| graceful().header(|header| header.timers.health_rise = by).shift("apiserver-1", Step::Ready, -1600);
    back(2).expect(violated("BALANCER-4", "apiserver-1 was met again after 2.1"));
    back(5).expect(upheld());
}

#[test]
fn only_graceful_restarts_tell_about_a_balancer() {
    for id in ["BALANCER-1", "BALANCER-2", "BALANCER-3", "BALANCER-4"] {
        for disturbance in [None, Some(Killed)] {
            let run = run(disturbance).header(|header| {
                header.judged_by = vec![JudgedBy { requirement: id.into(), expected: Expected::Upheld, gateway: None }];
            });
            run.expect(inconclusive(id, "no apiserver was stopped gracefully"));
        }
    }
}

#[test]
fn how_long_a_stopping_server_was_met_is_a_figure() {
    let figure = |run: &Run, id: &str, name: &str| {
        let (_, figures) = judge(spec::requirement(id).unwrap(), &run.whole());
        figures.into_iter().find(|figure| figure.name == name).map(|figure| figure.value)
    };
    let run = graceful();
    assert_eq!(figure(&run, "ROLLOUT-1", "max-elapsed-new"), Some(0.949));
    assert_eq!(figure(&run, "ROLLOUT-2", "max-elapsed-reused"), Some(3.0));
    assert_eq!(figure(&run, "ROLLOUT-2", "max-elapsed-reused, http1"), Some(3.0));
    assert_eq!(figure(&run, "ROLLOUT-2", "max-elapsed-reused, http2"), None);
    assert_eq!(figure(&run, "ROLLOUT-2", "kept connections replaced"), Some(2.0));
    assert_eq!(figure(&run, "BALANCER-4", "most loaded, new connections after").map(f64::round), Some(51.0));
    assert_eq!(figure(&run, "BALANCER-3", "most loaded, established at the end"), Some(100.0));
    assert_eq!(figure(&run, "BALANCER-3", "reconnects"), Some(2.0));
}
