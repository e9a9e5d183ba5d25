//! What the verdicts say about the life of an apiserver that is restarted: ROLLOUT-3 to -6.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::judge;

use crate::runs::*;
use crate::shorthand::*;

use ErrorClass::ConnectionRefused;
use Restart::{Graceful, Killed};

#[test]
fn a_livez_that_hangs_is_not_green() {
    let hangs = run(Some(Graceful)).edit(|seen| match &mut seen.event {
        Event::ServerHealth(health)
            if health.server == "apiserver-0" && health.path == "/livez" && seen.at == Moment(4_000_000_000) =>
        {
            let text = "no answer within 10s".to_owned();
            (health.answer, health.took) = (Err(Failure { class: ErrorClass::Timeout, text }), secs(10));
        }
        _ => {}
    });
    hangs.expect(violated("ROLLOUT-4", "/livez of apiserver-0 said timeout"));
}

#[test]
fn readyz_is_red_from_sigterm_to_the_end() {
    let graceful = || run(Some(Graceful));
    graceful().health("apiserver-0", "/readyz", 3000..3900, 200).expect(upheld());
    graceful()
        .health("apiserver-1", "/readyz", 10_500..11_700, 200)
        .expect(violated("ROLLOUT-3", "/readyz of apiserver-1 was 200 when asked 1.099 s after SIGTERM"));
    graceful()
        .health("apiserver-0", "/readyz", 5000..5100, 200)
        .expect(violated("ROLLOUT-3", "200 when asked 1.999 s"));
    let unseen = |seen: &Observation| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/readyz") && within(seen.at, &(3000..6050))
    };
    graceful().without(unseen).expect(inconclusive("ROLLOUT-3", "was not seen for 3.099 s from +3.001s on"));
}

#[test]
fn readyz_has_to_be_seen_red_all_the_time() {
    let asked = |seen: &Observation, when: std::ops::Range<u64>| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/readyz" && health.server == "apiserver-0")
            && within(seen.at, &when)
    };
    let only = || run(Some(Graceful)).header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-3"));
    let unseen = |when: std::ops::Range<u64>| only().without(|seen| asked(seen, when.clone()));
    // Once after SIGTERM, and no more.
    unseen(3200..30_000).expect(inconclusive("ROLLOUT-3", "was not seen for 3.500 s from +3.100s on"));
    unseen(3050..4150).expect(inconclusive("ROLLOUT-3", "was not seen for 1.199 s from +3.001s on"));
    unseen(4000..6050).expect(inconclusive("ROLLOUT-3", "was not seen for 2.200 s from +3.900s on"));
    unseen(4000..5800).expect(upheld());
    // While it serves on, only an answer says something.
    let silent = only().edit(|seen| {
        let asked = asked(seen, 3500..5800);
        if let Event::ServerHealth(health) = &mut seen.event
            && asked
        {
            health.answer = Err(Failure { class: ErrorClass::Timeout, text: String::new() });
        }
    });
    silent.expect(inconclusive("ROLLOUT-3", "was not seen for 2.400 s from +3.400s on"));
}

#[test]
fn a_stall_explains_a_readyz_that_is_late_and_none_that_is_green_again() {
    let stalled = |run: Run, at| {
        run.header(|header| {
            header.judged_by.retain(|by| by.requirement == "ROLLOUT-3");
        })
        .with(at, Event::Stall(millis(600)))
    };
    let late = || run(Some(Graceful)).health("apiserver-1", "/readyz", 10_500..11_700, 200);
    stalled(late(), 11_000).expect(inconclusive("ROLLOUT-3", "rollproof itself did not run"));
    stalled(late(), 14_000).expect(violated("ROLLOUT-3", "200 when asked 1.099 s"));
    let again = || run(Some(Graceful)).health("apiserver-0", "/readyz", 5000..5100, 200);
    stalled(again(), 4500).expect(violated("ROLLOUT-3", "200 when asked 1.999 s"));
    // What nobody looked at, a stall cannot hide.
    stalled(run(Some(Graceful)), 8000).expect(upheld());
    stalled(run(Some(Graceful)), 5000).expect(inconclusive("ROLLOUT-3", "rollproof itself did not run"));
}

#[test]
fn without_a_delay_a_closed_port_is_red_enough_and_livez_has_nothing_to_say() {
    run(Some(Graceful))
        .header(|header| header.timers.shutdown_delay = millis(0))
        .edit(|seen| match &mut seen.event {
            Event::ServerHealth(health) if health.answer == Ok(500) => {
                health.answer = Err(Failure { class: ConnectionRefused, text: String::new() });
            }
            _ => {}
        })
        .expect(
            inconclusive("ROLLOUT-4", "without a delay")
                .and_inconclusive("BALANCER-1", "without a shutdown delay no connection can be in time"),
        );
}

#[test]
fn livez_is_green_until_the_delay_is_over() {
    let graceful = || run(Some(Graceful));
    graceful()
        .health("apiserver-0", "/livez", 4000..4100, 500)
        .expect(violated("ROLLOUT-4", "/livez of apiserver-0 said 500 when asked 0.999 s"));
    graceful().health("apiserver-0", "/livez", 5600..6000, 500).expect(upheld());
    let unseen = |seen: &Observation| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/livez") && within(seen.at, &(3000..5000))
    };
    graceful().without(unseen).expect(inconclusive("ROLLOUT-4", "was asked 5 times"));
    // Thirty times, but not all the time.
    let once = |seen: &Observation| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/livez") && within(seen.at, &(3300..5450))
    };
    let often = |run: Run| {
        (3001..3099).step_by(2).fold(run, |run, at| {
            let (server, path) = ("apiserver-0".to_owned(), "/livez".to_owned());
            run.with(at, Event::ServerHealth(ServerHealth { server, path, answer: Ok(200), took: millis(1) }))
        })
    };
    often(graceful()).without(once).expect(inconclusive("ROLLOUT-4", "was not asked for 2."));
}

#[test]
fn signals_come_after_their_causes() {
    let graceful = || run(Some(Graceful));
    let (before, after) = (Step::AfterShutdownDelayDuration, Step::NotAcceptingNewRequest);
    graceful().shift("apiserver-0", after, -1).expect(upheld());
    graceful()
        .shift("apiserver-0", after, -2)
        .expect(violated("ROLLOUT-5", "NotAcceptingNewRequest came 0.001 s before AfterShutdownDelayDuration"));
    graceful()
        .shift("apiserver-0", before, -600)
        .expect(violated("ROLLOUT-5", "the shutdown delay of 3.000 s was over after 2.400 s"));
    graceful()
        .without(|seen| is_step(seen, "apiserver-1", after))
        .expect(violated("ROLLOUT-5", "apiserver-1: NotAcceptingNewRequest never came"));
    for optional in [Step::PreShutdownHooksStopped, Step::InFlightRequestsDrained] {
        graceful().without(|seen| is_step(seen, "apiserver-1", optional)).expect(upheld());
    }
    graceful().shift("apiserver-0", Step::PreShutdownHooksStopped, -15).expect(upheld());
    graceful()
        .shift("apiserver-0", Step::PreShutdownHooksStopped, 3600)
        .expect(violated("ROLLOUT-5", "before PreShutdownHooksStopped"));
}

#[test]
fn log_lines_of_concurrent_signals_may_overtake_each_other() {
    // NotAcceptingNewRequest is given before its line is written: the listener's line may be first.
    run(Some(Graceful)).shift("apiserver-0", Step::NotAcceptingNewRequest, 20).expect(upheld());
    run(Some(Graceful))
        .shift("apiserver-0", Step::NotAcceptingNewRequest, 520)
        .expect(violated("ROLLOUT-5", "HTTPServerStoppedListening came 0.519 s before NotAcceptingNewRequest"));
    run(Some(Graceful))
        .shift("apiserver-0", Step::NotAcceptingNewRequest, 520)
        .with(6200, Event::Stall(millis(600)))
        .header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-5"))
        .expect(violated("ROLLOUT-5", "HTTPServerStoppedListening came 0.519 s before NotAcceptingNewRequest"));
}

#[test]
fn the_listener_waits_for_requests_in_flight_where_429_is_sent() {
    let with = |flag: &str, drained: i64| {
        run(Some(Graceful)).shift("apiserver-0", Step::InFlightRequestsDrained, drained).header(|header| {
            header.servers.iter_mut().for_each(|server| server.flags.push(flag.to_owned()));
        })
    };
    let flag = "--shutdown-send-retry-after=true";
    // Drained, then closed, as the apiserver does it; the lines may overtake each other.
    with(flag, -488).expect(upheld());
    with(flag, -400).expect(upheld());
    with(flag, 80)
        .expect(violated("ROLLOUT-5", "HTTPServerStoppedListening came 0.567 s before InFlightRequestsDrained"));
    with("--shutdown-send-retry-after=false", 612).expect(violated("ROLLOUT-5", "Exited came 0.512 s before"));
    with("--shutdown-send-retry-after=false", 500).expect(upheld());
    let unseen = with(flag, -488).without(|seen| is_step(seen, "apiserver-1", Step::InFlightRequestsDrained));
    unseen.expect(inconclusive("ROLLOUT-5", "has to wait for InFlightRequestsDrained, which was not seen"));
}

#[test]
fn the_process_ends_last() {
    let only = |run: Run| run.header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-5"));
    let early = || only(run(Some(Graceful)).shift("apiserver-0", Step::Exited, -3100));
    early().expect(violated("ROLLOUT-5", "Exited came 2.511 s before AfterShutdownDelayDuration"));
    early().with(5000, Event::Stall(millis(600))).expect(inconclusive("ROLLOUT-5", "rollproof itself"));
    early().header(|header| header.cell.control_plane = "kind".into()).expect(inconclusive("ROLLOUT-5", "may be late"));
    only(run(Some(Graceful)).shift("apiserver-0", Step::Exited, -580)).expect(upheld());
}

#[test]
fn a_graceful_stop_ends_by_itself() {
    let killed = |seen: &mut Observation| {
        if let Event::Lifecycle(life) = &mut seen.event
            && life.step == Step::Exited
        {
            life.text = "signal 9 (SIGKILL)".into();
        }
    };
    run(Some(Graceful)).edit(killed).expect(violated("ROLLOUT-5", "did not end by itself: signal 9"));
    run(Some(Graceful))
        .with(6400, life("apiserver-0", Step::KillSent))
        .expect(violated("ROLLOUT-5", "SIGKILL had to be sent"));
}

#[test]
fn a_restarted_server_is_back_within_the_bound() {
    let late = |by| run(Some(Graceful)).header(|header| header.bounds.back = secs(by));
    late(3).expect(upheld());
    late(2).expect(violated("ROLLOUT-6", "apiserver-0: Ready took 2.350 s"));
    let never = |back| {
        let unmet = |seen: &Observation| {
            is_step(seen, "apiserver-1", Step::MetThroughBalancer)
                || matches!(&seen.event, Event::FaultOff(fault) if fault.server == "apiserver-1")
        };
        run(Some(Graceful)).without(unmet).header(|header| {
            header.bounds.back = secs(back);
            header.judged_by.retain(|by| by.requirement == "ROLLOUT-6");
        })
    };
    never(5).expect(violated("ROLLOUT-6", "apiserver-1: MetThroughBalancer had not come after 5."));
    never(8).expect(inconclusive("ROLLOUT-6", "before MetThroughBalancer"));
    never(5).with(16_000, Event::Stall(millis(600))).expect(inconclusive("ROLLOUT-6", "rollproof itself did not run"));
    never(5).with(6000, Event::Stall(millis(600))).expect(violated("ROLLOUT-6", "had not come after 5."));
    // What came in time came in time.
    let only = |header: &mut Header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-6");
    run(Some(Graceful)).with(7000, Event::Stall(millis(600))).header(only).expect(upheld());
    assert_eq!(figure(&run(Some(Killed)), "ROLLOUT-6", "slowest back"), Some(2.85));
}

fn figure(run: &Run, id: &str, name: &str) -> Option<f64> {
    let (_, figures) = judge(spec::requirement(id).unwrap(), &run.whole());
    figures.into_iter().find(|figure| figure.name == name).map(|figure| figure.value)
}
