//! What the BALANCER verdicts say about runs that were spoilt in one place.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::millis;
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

/// A connection to apiserver-0 that the balancer carried until then.
fn lasting(until: u64, end: End, by: Party) -> (u64, Event) {
    (1000, carried("apiserver-0", end, by, until - 1000))
}

fn stall(run: Run, at: u64, lasted: u64) -> Run {
    run.with(at, Event::Stall(millis(lasted)))
}

/// Judges by these requirements only, by what the claims speak of.
#[track_caller]
fn only(run: Run, ids: &[&str], expect: Expect) {
    let run = run.header(|header| header.judged_by.retain(|by| ids.contains(&by.requirement.as_str())));
    expect.compare(&run.whole());
}

/// One that may take longer than the shutdown delay to notice.
fn slow(run: Run) -> Run {
    run.header(|header| header.timers.health_fall = 10)
}

/// Without what happened on new connections in that window.
fn unasked(run: Run, when: std::ops::Range<u64>) -> Run {
    run.without(|seen| matches!(&seen.event, Event::Request(request) if request.on == New) && within(seen.at, &when))
}

/// Requests on new connections in that window fail before they come to a certificate.
fn untold(run: Run, when: std::ops::Range<u64>) -> Run {
    run.requests_fail(New, when, ErrorClass::ConnectionRefused)
}

#[test]
fn a_late_connection_is_one_after_the_stated_share_of_the_delay() {
    // Red at 3.011 s, and 80 % of 3 s are 2.4 s.
    slow(graceful()).with(5405, passing("apiserver-0")).expect(upheld());
    slow(graceful())
        .with(5420, passing("apiserver-0"))
        .expect(violated("BALANCER-1", "late connections to apiserver-0: 1, the last 2.409 s after"));
    // What was refused was carried late too; and a client's certificate is as good as the balancer's word.
    let refused = carried("apiserver-0", End::Unreachable, Party::Balancer, 1);
    slow(graceful()).with(6400, refused).expect(violated("BALANCER-1", "the last 3.389 s after"));
    meets(slow(graceful()), 5500, "apiserver-0").expect(violated("BALANCER-1", "late connections to apiserver-0: 1"));
    // Another share would be another recording's.
    let looser = slow(graceful()).header(|header| header.bounds.late_percent = 90).with(5420, passing("apiserver-0"));
    only(looser, &["BALANCER-1"], upheld());
}

#[test]
fn a_stall_excuses_what_comes_soon_after_it_and_nothing_else() {
    // Detection takes 1.5 s, and our own looking may be 0.5 s late.
    let late = |at| graceful().with(at, passing("apiserver-0"));
    only(late(5500), &["BALANCER-1"], violated("BALANCER-1", "late connections"));
    only(stall(late(5500), 4000, 600), &["BALANCER-1", "BALANCER-4"], {
        inconclusive("BALANCER-1", "did not run for 0.600 s").and_inconclusive("BALANCER-4", "did not run for 0.600 s")
    });
    // A later one is not excused by that, and one excused one hides no other.
    let both = |stalled| stall(late(5500).with(6500, passing("apiserver-0")), stalled, 600);
    only(both(3500), &["BALANCER-1", "BALANCER-4"], {
        violated("BALANCER-1", "late connections to apiserver-0: 2")
            .and_violated("BALANCER-4", "stayed in service: 2 connections")
    });
    only(stall(late(5500), 12_000, 600), &["BALANCER-1"], violated("BALANCER-1", "late connections"));
    // Nor is anything upheld that a stall could hide.
    only(stall(graceful(), 4000, 600), &["BALANCER-1", "BALANCER-2", "BALANCER-4"], {
        let why = "did not run for 0.600 s";
        inconclusive("BALANCER-1", why).and_inconclusive("BALANCER-2", why).and_inconclusive("BALANCER-4", why)
    });
    // A machine that has no time for the other apiserver is no better.
    let starved = late(5500).edit(|seen| match &mut seen.event {
        Event::ServerHealth(health)
            if health.server == "apiserver-1" && health.path == "/livez" && within(seen.at, &(4500..4550)) =>
        {
            health.took = millis(400);
        }
        _ => {}
    });
    only(starved, &["BALANCER-1"], inconclusive("BALANCER-1", "apiserver-1, which nobody disturbed, did not answer"));
}

#[test]
fn an_early_connection_is_one_before_the_last_red_readyz() {
    // Started at 6.650 s, last seen red at 8.900 s, ready at 9 s.
    meets(graceful(), 8000, "apiserver-0")
        .expect(violated("BALANCER-2", "early connections to apiserver-0: 1, the first 1.350 s after its start"));
    meets(graceful(), 9050, "apiserver-0").expect(upheld());
    meets(graceful(), 8950, "apiserver-0")
        .expect(inconclusive("BALANCER-2", "nobody knows whether its /readyz was 200"));
    let unseen = |when: std::ops::Range<u64>| {
        graceful().without(|seen| {
            let is_readyz = matches!(&seen.event, Event::ServerHealth(health) if health.path == "/readyz");
            is_readyz && within(seen.at, &when)
        })
    };
    unseen(6650..9000).expect(inconclusive("BALANCER-2", "was not seen red between its start and"));
    unseen(6750..8900).expect(inconclusive("BALANCER-2", "was not asked for 2.1"));
    unseen(7000..8900).expect(upheld());
    // A stall between its beginning and the certificate may have put it before the 200; another one not.
    let met = |stalled| stall(meets(graceful(), 8000, "apiserver-0"), stalled, 600);
    only(met(7900), &["BALANCER-2"], inconclusive("BALANCER-2", "did not run for 0.600 s"));
    only(met(7000), &["BALANCER-2"], violated("BALANCER-2", "early connections"));
}

#[test]
fn whom_a_refused_connection_would_have_met_somebody_has_to_say() {
    // From 85 % of the delay on.
    let why = "met no apiserver that we know of";
    let all = ["BALANCER-1", "BALANCER-2", "BALANCER-4"];
    only(untold(graceful(), 5550..6000), &all, inconclusive("BALANCER-1", why).and_inconclusive("BALANCER-4", why));
    only(untold(graceful(), 7000..7500), &all, inconclusive("BALANCER-2", why));
    only(untold(graceful(), 3100..3500), &all, upheld());
    // The builtin balancer has it in its record.
    let recorded = |backend: Option<&str>, end| {
        untold(graceful(), 5550..5600)
            .edit(|seen| match &mut seen.event {
                Event::Request(request) if within(seen.at, &(5550..5600)) && request.on == New => {
                    request.exchange.connection.as_mut().unwrap().local = "127.0.0.1:9".into();
                }
                _ => {}
            })
            .with(
                5550,
                match carried("apiserver-0", end, Party::Balancer, 1) {
                    Event::Connection(connection) => {
                        Event::Connection(Connection { backend: backend.map(str::to_owned), ..connection })
                    }
                    other => other,
                },
            )
    };
    only(recorded(Some("apiserver-0"), End::Unreachable), &all, {
        violated("BALANCER-1", "late connections to apiserver-0: 1").and_violated("BALANCER-4", "stayed in service")
    });
    only(recorded(None, End::NoBackend), &all, upheld());
}

#[test]
fn new_connections_are_needed_throughout_each_restart() {
    let all = ["BALANCER-1", "BALANCER-2", "BALANCER-4"];
    let none = |why| all.into_iter().fold(upheld(), |expect, id| expect.and_inconclusive(id, why));
    only(unasked(graceful(), 4000..4900), &all, upheld());
    for from in [3000, 5000, 7000, 11_000, 15_000] {
        only(unasked(graceful(), from..from + 1200), &all, none("has no sample for 1.2"));
    }
}

#[test]
fn a_restart_that_is_not_proven_does_not_void_another() {
    let unproven = |run: Run| run.without(|seen| is_step(seen, "apiserver-1", Step::ShutdownInitiated));
    let all = ["BALANCER-1", "BALANCER-2", "BALANCER-3", "BALANCER-4"];
    let none = || {
        all.into_iter().fold(upheld(), |expect, id| expect.and_inconclusive(id, "does not tell of ShutdownInitiated"))
    };
    only(unproven(graceful()), &all, none());
    let (at, cut) = lasting(4000, End::Reset, Party::Balancer);
    let bad = |server: &str| {
        let (at, cut) = if server == "apiserver-0" {
            (at, cut.clone())
        } else {
            (11_000, carried(server, End::Reset, Party::Balancer, 1000))
        };
        let start = if server == "apiserver-0" { 0 } else { 7500 };
        let run = graceful().with(at, cut).with(5500 + start, passing(server));
        meets(run, 8000 + start, server)
    };
    let found = || {
        violated("BALANCER-1", "late")
            .and_violated("BALANCER-2", "early")
            .and_violated("BALANCER-3", "cut: 1")
            .and_violated("BALANCER-4", "stayed in service")
    };
    only(bad("apiserver-0"), &all, found());
    only(bad("apiserver-1"), &all, found());
    only(unproven(bad("apiserver-0")), &all, found());
    only(unproven(bad("apiserver-1")), &all, none());
    // That another one is never back neither.
    let never_over =
        |seen: &Observation| matches!(&seen.event, Event::FaultOff(fault) if fault.server == "apiserver-1");
    only(bad("apiserver-0").without(never_over), &all, found());
}

#[test]
fn what_the_balancer_cuts_before_the_apiserver_does_is_no_draining() {
    let cut = |end, by, lasted| graceful().with(1000, carried("apiserver-0", end, by, lasted));
    cut(End::Reset, Party::Balancer, 3000)
        .expect(violated("BALANCER-3", "connections to apiserver-0 cut: 1; the first 0.999 s after SIGTERM"));
    cut(End::Fin, Party::Balancer, 5000).expect(violated("BALANCER-3", "(Fin)"));
    cut(End::Reset, Party::Server, 3000).expect(upheld());
    cut(End::Reset, Party::Balancer, 1500).expect(upheld());
    // What the balancer wrote down, no stall of ours made, whenever it was, nor a machine that was busy.
    for at in [3500, 6000, 13_000] {
        only(
            stall(cut(End::Reset, Party::Balancer, 3000), at, 5000),
            &["BALANCER-3"],
            violated("BALANCER-3", "cut: 1"),
        );
    }
    only(stall(cut(End::Reset, Party::Server, 3000), 3500, 600), &["BALANCER-3"], upheld());
    let busy = cut(End::Reset, Party::Balancer, 3000).health("apiserver-1", "/livez", 3500..4500, 500);
    only(busy, &["BALANCER-3"], violated("BALANCER-3", "cut: 1"));
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

/// The watch lies on apiserver-0 and ends then, and is opened again.
fn watch_ends(run: Run, at: u64, class: Option<ErrorClass>) -> Run {
    let opened = |seen: &mut Observation| {
        if let Event::ListWatch(call) = &mut seen.event {
            call.audit_id = "watch-1".into();
        }
    };
    let stages = vec!["ResponseStarted".to_owned()];
    let audited = Audited { server: "apiserver-0".into(), audit_id: "watch-1".into(), stages, status: Some(200) };
    let failure = class.map(|class| Failure { class, text: String::new() });
    let again = list_call(Call::Watch, Some((at - 7) / 50 + 100));
    run.edit(opened)
        .with(19_999, Event::Audited(audited))
        .with(at, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure }))
        .with(at + 1, again)
}

/// The process of apiserver-0 ends that much later, and what is said of its drained requests comes before it.
fn longer(run: Run) -> Run {
    run.without(|seen| matches!(&seen.event, Event::WatchEnded(_)) && within(seen.at, &(6000..6020)))
        .without(|seen| matches!(&seen.event, Event::ListWatch(_)) && within(seen.at, &(6000..6020)))
        .shift("apiserver-0", Step::Exited, 2000)
        .shift("apiserver-0", Step::Started, 2000)
}

#[test]
fn a_watch_that_breaks_before_the_delay_is_over_was_cut_on_the_way() {
    let ends = |at, class| watch_ends(graceful(), at, class);
    let reset = Some(ErrorClass::ConnectionReset);
    ends(4015, reset).expect(violated("BALANCER-3", "a watch of watch broke"));
    ends(4015, None).expect(upheld());
    ends(2015, reset).expect(upheld());
    // A client that was told of it was told, whatever we did meanwhile.
    only(stall(ends(4015, reset), 3800, 600), &["BALANCER-3"], violated("BALANCER-3", "a watch of watch broke"));
    // Who asks for the next watch, and is refused, has seen the last one end well.
    let refused = Failure { class: ErrorClass::UnexpectedEof, text: String::new() };
    let mut call = list_call(Call::Watch, Some(180));
    if let Event::ListWatch(call) = &mut call {
        call.answer = Err(refused.clone());
    }
    let ended = WatchEnded { probe: WATCH.into(), failure: Some(refused) };
    let run = watch_ends(graceful(), 8015, None).with(4013, call).with(4014, Event::WatchEnded(ended));
    only(run, &["BALANCER-3"], upheld());
}

#[test]
fn who_breaks_a_watch_after_the_delay_nobody_knows_before_the_process_ends() {
    let reset = Some(ErrorClass::ConnectionReset);
    let breaks = |at| watch_ends(longer(graceful()), at, reset);
    // The delay is over at 6.001 s, and the process ends at 8.600 s.
    only(breaks(6215), &["BALANCER-3"], inconclusive("BALANCER-3", "nobody knows who ended it"));
    only(watch_ends(longer(graceful()), 6215, None), &["BALANCER-3"], upheld());
    only(breaks(8015), &["BALANCER-3"], upheld());
    // The builtin balancer's record knows.
    let recorded = |by| {
        let (at, event) = lasting(6215, End::Reset, by);
        breaks(6215).with(at, event)
    };
    only(recorded(Party::Server), &["BALANCER-3"], upheld());
    only(recorded(Party::Balancer), &["BALANCER-3"], violated("BALANCER-3", "the first 3.214 s after SIGTERM"));
}

#[test]
fn what_the_balancers_record_does_not_have_is_not_known() {
    let (at, other) = lasting(6010, End::Fin, Party::Server);
    let broken = watch_ends(graceful(), 4015, Some(ErrorClass::ConnectionReset)).with(at, other.clone());
    only(broken, &["BALANCER-3"], inconclusive("BALANCER-3", "the balancer's record does not say who ended it"));
    let gone = graceful().with(at, other).edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == Reused && within(seen.at, &(4000..6000)) => {
            request.exchange.connection.as_mut().unwrap().local = "another".into();
        }
        _ => {}
    });
    only(gone, &["BALANCER-3"], inconclusive("BALANCER-3", "the balancer's record does not say who ended it"));
}

#[test]
fn draining_has_to_be_looked_at_throughout() {
    let unused = |when| {
        graceful().without(|seen| {
            matches!(&seen.event, Event::Request(request) if request.on == Reused) && within(seen.at, &when)
        })
    };
    only(unused(3200..4000), &["BALANCER-3"], upheld());
    only(unused(3200..4400), &["BALANCER-3"], inconclusive("BALANCER-3", "has no sample for 1.2"));
    // A watch whose end nobody saw says nothing of the connection.
    let (at, seen) = (20_010, "watch-1");
    let opened = |seen: &mut Observation| {
        if let Event::ListWatch(call) = &mut seen.event {
            call.audit_id = "watch-1".into();
        }
    };
    let audited =
        Audited { server: "apiserver-0".into(), audit_id: seen.into(), stages: Vec::new(), status: Some(200) };
    let unended = graceful()
        .edit(opened)
        .with(at, Event::Audited(audited))
        .without(|seen| matches!(&seen.event, Event::Request(request) if request.on == Reused))
        .without(|seen| {
            matches!(&seen.event, Event::WatchEnded(_))
                || matches!(&seen.event, Event::ListWatch(_)) && seen.at > Moment(1_000_000_000)
        });
    only(unended, &["BALANCER-3"], inconclusive("BALANCER-3", "no connection was established"));
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
fn an_apiserver_that_is_not_met_again_was_not_put_back_unless_nobody_looked() {
    let id = ["BALANCER-4"];
    // Ready at 16.500 s, and met at 17 s.
    let late = |ready: u64| {
        graceful().header(|header| header.timers.health_rise = 1).shift("apiserver-1", Step::Ready, -(ready as i64))
    };
    // Readmission takes 1 s, and our own looking may be 0.5 s late.
    only(late(900), &id, upheld());
    only(late(1600), &id, violated("BALANCER-4", "apiserver-1 was met again after 2.1"));
    // A stall that delayed the checks does excuse it; one before or long before it was met does not.
    only(stall(late(1600), 15_000, 600), &id, inconclusive("BALANCER-4", "did not run"));
    only(stall(late(1600), 13_000, 600), &id, violated("BALANCER-4", "was met again after 2.1"));
    // Too few connections could have met it.
    let seldom = |run: Run| {
        run.without(|seen| {
            let asked = matches!(&seen.event, Event::Request(request) if request.on == New);
            asked && within(seen.at, &(14_900..16_950)) && seen.at.0 / 1_000_000 % 300 != 0
        })
    };
    only(
        seldom(late(1600)),
        &id,
        inconclusive("BALANCER-4", "new connections were carried until apiserver-1 was met again"),
    );
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
