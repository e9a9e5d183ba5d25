//! Where a recording contradicts itself, or lacks what would show that it is whole, nothing is upheld, whatever the requirement.

use rollproof::timeline::*;
use rollproof::timing::{Bounds, millis, secs};
use rollproof::verdict::{Verdict, judge_all};
use rstest::rstest;

use crate::runs::*;
use crate::shorthand::*;

use Restart::{Graceful, Killed};

fn whole() -> Recording {
    run(Some(Graceful)).whole()
}

/// Everything that the recording is judged by is inconclusive, for a reason that has this text.
#[track_caller]
fn nothing_is_upheld(recording: &Recording, text: &str) {
    for judgement in judge_all(recording).unwrap() {
        let id = judgement.requirement.id;
        let Verdict::Inconclusive { why } = &judgement.verdict else { panic!("{id}: {:?}", judgement.verdict) };
        assert!(why.contains(text), "{id}: {why}\nexpected: {text}");
    }
}

#[test]
fn a_whole_run_is_sound() {
    for disturbance in [None, Some(Graceful), Some(Killed)] {
        upheld().compare_whole(&run(disturbance).whole());
    }
}

#[test]
fn the_header_names_the_apiservers_of_the_recording() {
    let mut fewer = whole();
    fewer.header.servers.pop();
    nothing_is_upheld(&fewer, "the header names 1 apiservers, and its cell has 2");
    let mut other = whole();
    other.header.servers[1].name = "apiserver-7".into();
    other.header.judged_by.retain(|by| by.requirement == "WATCH-1");
    nothing_is_upheld(&other, "no graceful restart of apiserver-7 is in the recording");
    let mut steady = run(None).with(1000, life("apiserver-7", Step::Ready)).whole();
    steady.header.judged_by.retain(|by| by.requirement == "WATCH-1");
    nothing_is_upheld(&steady, "apiserver-7 is in the recording, and not in its header");
}

#[rstest]
#[case("--shutdown-delay-duration=70s", "--shutdown-delay-duration=70s, and the header has 3s")]
#[case("--shutdown-delay-duration=1m10s", "and the header has 3s")]
#[case("--shutdown-watch-termination-grace-period=what", "and the header has 5s")]
fn its_timers_are_those_of_the_flags(#[case] flag: &str, #[case] text: &str) {
    let mut other = whole();
    other.header.servers[0].flags.push(flag.into());
    nothing_is_upheld(&other, text);
    let mut silent = whole();
    silent.header.servers[1].flags.push("--etcd-servers=https://127.0.0.1:2379".into());
    nothing_is_upheld(&silent, "apiserver-1 was started without --shutdown-delay-duration, and the header has 3s");
    let mut same = whole();
    same.header.servers[0].flags.push("--shutdown-delay-duration=3000ms".into());
    upheld().compare_whole(&same);
}

#[test]
fn the_faults_are_those_that_it_announces() {
    let mut unannounced = whole();
    unannounced.header.disturbance = None;
    unannounced.header.judged_by.retain(|by| by.requirement.starts_with("WATCH"));
    nothing_is_upheld(&unannounced, "the header announces no restart, and a graceful restart of apiserver-0 begins");
    let fault = Fault { restart: Killed, server: SERVERS[1].into() };
    let also = run(Some(Graceful)).with(19_000, Event::FaultOn(fault)).whole();
    nothing_is_upheld(&also, "announces a graceful restart, and a kill of apiserver-1 begins at +19.000s");
}

#[test]
fn an_apiserver_that_ends_unasked_leaves_nothing_upheld() {
    let died = run(Some(Graceful)).with(18_500, life(SERVERS[1], Step::Exited)).whole();
    nothing_is_upheld(&died, "apiserver-1 ended at +18.500s, and nobody had stopped it (exit status 0)");
    let steady = run(None).with(10_000, life(SERVERS[0], Step::Exited)).whole();
    nothing_is_upheld(&steady, "apiserver-0 ended at +10.000s");
    // A SIGKILL after a grace period belongs to the same end.
    let graced = run(Some(Graceful)).with(6400, life(SERVERS[0], Step::KillSent)).whole();
    violated("ROLLOUT-5", "SIGKILL had to be sent").compare_whole(&graced);
}

type Loosen = fn(&mut Bounds);

#[rstest]
#[case("fresh_ns", |bounds: &mut Bounds| bounds.fresh = secs(86_400))]
#[case("readyz_red_ns", |bounds: &mut Bounds| bounds.readyz_red *= 2)]
#[case("back_ns", |bounds: &mut Bounds| bounds.back = secs(86_400))]
#[case("stall_ns", |bounds: &mut Bounds| bounds.stall = secs(1))]
#[case("close_noticed_ns", |bounds: &mut Bounds| bounds.close_noticed = secs(60))]
#[case("attempt_ns", |bounds: &mut Bounds| bounds.attempt = secs(60))]
#[case("request_gap_ns", |bounds: &mut Bounds| bounds.request_gap = secs(60))]
#[case("health_gap_ns", |bounds: &mut Bounds| bounds.health_gap = secs(60))]
#[case("late_percent", |bounds: &mut Bounds| bounds.late_percent = 10_000)]
#[case("samples", |bounds: &mut Bounds| bounds.samples = 1)]
#[case("gateway_quiet_ns", |bounds: &mut Bounds| bounds.gateway_quiet = millis(1))]
fn its_bounds_ask_for_no_less_than_its_timers_do(#[case] name: &str, #[case] loosen: Loosen) {
    let mut loose = whole();
    loosen(&mut loose.header.bounds);
    nothing_is_upheld(&loose, &format!("the header's bound {name} is "));
}

#[test]
fn the_ticker_gives_a_sign_of_life_all_the_time() {
    let ticks = |seen: &Observation| matches!(seen.event, Event::Ticked(_));
    let mut dead = whole();
    dead.observations.retain(|seen| !ticks(seen));
    nothing_is_upheld(&dead, "the ticker gives no sign of life from +0.400s on");
    let mut dies = whole();
    dies.observations.retain(|seen| !ticks(seen) || seen.at < Moment(12_000_000_000));
    nothing_is_upheld(&dies, "no sign of life from +12.000s on");
    let mut a_gap = whole();
    a_gap.observations.retain(|seen| !ticks(seen) || !within(seen.at, &(5000..6000)));
    nothing_is_upheld(&a_gap, "no sign of life from +5.000s on");
    // A format that has no ticks cannot be asked for them.
    let mut old = dead;
    old.header.format = 1;
    upheld().compare_whole(&old);
}

#[test]
fn a_late_tick_without_its_stall_is_one() {
    let mut late = whole();
    for seen in &mut late.observations {
        if let Event::Ticked(ticked) = &mut seen.event
            && within(seen.at, &(5000..6000))
        {
            ticked.latest = millis(700);
        }
    }
    late.header.judged_by.retain(|by| by.requirement == "ROLLOUT-1");
    nothing_is_upheld(&late, "rollproof itself did not run for 0.700 s from +5.000s on");
}

#[test]
fn each_probe_that_observed_has_left_something() {
    let mut lost = whole();
    lost.observations.retain(|seen| seen.event.probe() != Some("kube-rs"));
    lost.header.judged_by.retain(|by| by.requirement == "WATCH-3");
    nothing_is_upheld(&lost, "kube-rs observed, and nothing that it saw is in the recording");
    let mut untold = whole();
    untold.observations.retain(|seen| !matches!(seen.event, Event::Observers(_)));
    nothing_is_upheld(&untold, "does not tell which probes observed");
}

#[test]
fn the_builtin_balancers_record_has_each_connection_that_a_probe_used() {
    let mut own = whole();
    own.header.cell.balancer = "builtin".into();
    own.header.judged_by.retain(|by| by.requirement == "BALANCER-3");
    nothing_is_upheld(&own, "the balancer's record lacks the connection 127.0.0.1:500 of requester-new");
}
