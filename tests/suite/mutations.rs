//! One thing changed in a run in which all is well: what a second review of real recordings found, by kind.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::reads::with_reads;
use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{New, Reused};
use Restart::Graceful;

fn only(run: Run, id: &str) -> Run {
    run.header(|header| header.judged_by.retain(|by| by.requirement == id))
}

fn graceful(id: &str) -> Run {
    only(run(Some(Graceful)), id)
}

#[test]
fn a_reader_has_to_be_answered_by_each_restarted_apiserver() {
    let by = |name: fn(Moment) -> usize| {
        only(with_reads(Some(Graceful)), "ROLLOUT-14").edit(move |seen| {
            let at = seen.at;
            if let Event::Read(read) = &mut seen.event {
                read.exchange.server = Some(SERVERS[name(at)].into());
            }
        })
    };
    by(|at| (at.0 / 100_000_000 % 2) as usize).expect(upheld());
    by(|_| 0).expect(inconclusive("ROLLOUT-14", "apiserver-1 answered no read after its restart"));
}

#[test]
fn each_guarded_writer_goes_on_by_itself() {
    let rests = only(with_reads(Some(Graceful)), "ROLLOUT-15").without(|seen| {
        let its = matches!(&seen.event, Event::GuardedUpdate(update) if update.probe == "guarded-1");
        its && seen.at > Moment(3_500_000_000)
            && !matches!(&seen.event, Event::GuardedUpdate(update) if update.exchange.succeeded())
    });
    // Its acknowledged updates are 0.2 s apart: it has not rested.
    rests.expect(upheld());
}

#[test]
fn a_request_on_a_kept_connection_says_nothing_about_new_ones_and_the_other_way_round() {
    let kept = |on, reused| {
        run(Some(Graceful)).edit(move |seen| match &mut seen.event {
            Event::Request(request) if request.on == on => {
                if let Some(used) = &mut request.exchange.connection {
                    used.reused = reused;
                }
            }
            _ => {}
        })
    };
    only(kept(New, true), "ROLLOUT-1").expect(inconclusive("ROLLOUT-1", "successful samples before the first fault"));
    only(kept(Reused, false), "ROLLOUT-2")
        .expect(inconclusive("ROLLOUT-2", "no request was on a connection that was kept"));
}

#[test]
fn requests_past_the_balancer_say_nothing_about_it() {
    let direct = graceful("ROLLOUT-1").edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == New => {
            if let Some(used) = &mut request.exchange.connection {
                used.remote = "127.0.0.1:1".into();
            }
        }
        _ => {}
    });
    direct.expect(inconclusive("ROLLOUT-1", "successful samples before the first fault"));
}

#[test]
fn a_readyz_that_is_green_again_within_the_first_second_is_not_red_until_the_end() {
    graceful("ROLLOUT-3")
        .health("apiserver-0", "/readyz", 3300..3500, 200)
        .expect(violated("ROLLOUT-3", "/readyz of apiserver-0 was 200 when asked 0.299 s"));
}

#[test]
fn livez_has_to_be_asked_until_the_delay_is_over() {
    let late = |seen: &Observation| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/livez") && within(seen.at, &(4200..5700))
    };
    graceful("ROLLOUT-4").without(late).expect(inconclusive("ROLLOUT-4", "was not asked for 1.4"));
}

#[test]
fn readyz_was_red_when_it_said_so_and_not_when_the_log_was_read() {
    // The log was read a second late; the first red answer was asked for at 3.1 s.
    let read_late = || graceful("BALANCER-4").shift("apiserver-0", Step::ShutdownInitiated, 1000);
    let meets = |run: Run, at: u64| {
        run.edit(move |seen| match &mut seen.event {
            Event::Request(request) if request.on == New && within(seen.at, &(at..at + 50)) => {
                request.exchange.server = Some(SERVERS[0].into());
            }
            _ => {}
        })
    };
    read_late().expect(upheld());
    meets(read_late(), 5300).expect(violated("BALANCER-4", "apiserver-0 stayed in service"));
}

#[test]
fn a_process_that_ends_with_a_status_has_not_ended_well() {
    let ends = |text: &'static str| {
        graceful("ROLLOUT-5").edit(move |seen| {
            if let Event::Lifecycle(life) = &mut seen.event
                && life.step == Step::Exited
            {
                life.text = text.into();
            }
        })
    };
    for well in ["exit status: 0", "exit code 0"] {
        ends(well).header(|header| header.cell.balancer.push('2')).expect(upheld());
    }
    ends("exit status: 2").expect(violated("ROLLOUT-5", "it did not end by itself: exit status: 2"));
    ends("exit status: 10").expect(violated("ROLLOUT-5", "exit status: 10"));
    ends("").expect(inconclusive("ROLLOUT-5", "nobody knows how apiserver-0 ended"));
}

#[test]
fn beside_requesters_the_writer_does_not_rest() {
    let rests = only(run(None), "WATCH-3")
        .without(|seen| matches!(seen.event, Event::Write(_) | Event::Delivered(_)) && seen.at > Moment(7_000_000_000));
    rests.expect(inconclusive("WATCH-3", "the writer has no sample for 12."));
}

#[test]
fn an_answer_without_a_revision_proves_no_order() {
    let unnumbered = graceful("WATCH-1").edit(|seen| {
        if let Event::Write(write) = &mut seen.event {
            write.revision = None;
        }
    });
    unnumbered.expect(inconclusive("WATCH-1", "gave no revision"));
}

#[test]
fn where_the_ticker_was_silent_an_outage_may_be_ours() {
    let mut outage = graceful("ROLLOUT-1").requests_fail(New, 6050..6250, ErrorClass::Timeout).whole();
    violated("ROLLOUT-1", "1 outage of 0.200 s").compare_whole(&outage);
    outage.observations.retain(|seen| !matches!(seen.event, Event::Ticked(_)) || !within(seen.at, &(4000..8000)));
    inconclusive("ROLLOUT-1", "the ticker gives no sign of life").compare_whole(&outage);
}

#[test]
fn one_worker_that_rests_is_missed() {
    // A second worker, which ceases to work in the first restart.
    let second = |until: u64| {
        let run = graceful("ROLLOUT-12");
        let steps = run.0.observations.iter().filter_map(|seen| match &seen.event {
            Event::Load(load) => Some((seen.at.0 / 1_000_000, load.clone())),
            _ => None,
        });
        let steps: Vec<_> = steps.filter(|(at, _)| *at < until).collect();
        steps.into_iter().fold(run, |run, (at, load)| {
            let exchange = Exchange { audit_id: format!("second-{}", load.exchange.audit_id), ..load.exchange.clone() };
            run.with(
                at,
                Event::Load(Load { worker: "load-1".into(), object: format!("2-{}", load.object), exchange, ..load }),
            )
        })
    };
    second(30_000).expect(upheld());
    second(4000).expect(inconclusive("ROLLOUT-12", "the worker load-1 has no sample for"));
}

#[test]
fn a_wait_for_a_slow_answer_is_a_sample() {
    // Five seconds without an answer are covered by the request that waited for it.
    let slow = only(run(None), "ROLLOUT-1")
        .without(|seen| {
            matches!(&seen.event, Event::Request(request) if request.on == New) && within(seen.at, &(7001..12_000))
        })
        .edit(|seen| match &mut seen.event {
            Event::Request(request) if request.on == New && within(seen.at, &(7000..7001)) => {
                request.exchange.took = secs(5);
            }
            _ => {}
        });
    slow.expect(upheld());
    let gone = slow.edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == New && within(seen.at, &(7000..7001)) => {
            request.exchange.took = millis(1);
        }
        _ => {}
    });
    gone.expect(inconclusive("ROLLOUT-1", "has no sample for 4.9"));
}
