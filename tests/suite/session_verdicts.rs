//! What the SESSION verdicts say about sessions into a pod.

use rollproof::timeline::*;
use rollproof::timing::{CLOSE_NOTICED, millis, secs};

use crate::gateway_verdicts::{self, stream, told};
use crate::shorthand::*;

/// apiserver-0 gets its signal then, and its process ends then.
const SIGNAL: u64 = 5000;
const EXIT: u64 = 11_000;
const NEXT_SIGNAL: u64 = 15_000;
const NEXT_EXIT: u64 = 21_000;
const ALL: [&str; 4] = ["SESSION-1", "SESSION-2", "SESSION-3", "SESSION-4"];

fn session(probe: &str, server: &str, open: std::ops::Range<u64>, end: SessionEnd) -> [(u64, Event); 2] {
    let audit_id = format!("{probe}-{}", open.start);
    let session = Session {
        probe: probe.into(),
        kind: SessionKind::Exec,
        audit_id: audit_id.clone(),
        quiet: None,
        opened_after: Some(millis(20)),
        lines: 10,
        after_silence: 0,
        longest_wait: millis(20),
        last_line: Some(Moment((open.end - 100) * 1_000_000)),
        ended: Moment(open.end * 1_000_000),
        end,
    };
    let audited = Audited { server: server.into(), audit_id, stages: Vec::new(), status: Some(101) };
    [(open.start, Event::Session(session)), (60_000, Event::Audited(audited))]
}

fn reset() -> SessionEnd {
    SessionEnd::Failed(Failure { class: ErrorClass::ConnectionReset, text: "reset".into() })
}

/// A session that keeps silent for 12 s at a time, and has answered so often after it.
fn quiet(open: std::ops::Range<u64>, answers: u64, end: SessionEnd) -> [(u64, Event); 2] {
    let mut seen = session("exec-quiet", "apiserver-1", open, end);
    if let Event::Session(session) = &mut seen[0].1 {
        (session.quiet, session.after_silence) = (Some(secs(12)), answers);
    }
    seen
}

/// Two apiservers are restarted like that.
fn restarts(how: Restart) -> Vec<(u64, Event)> {
    let mut seen = Vec::new();
    for (server, signal, exit) in [(SERVERS[0], SIGNAL, EXIT), (SERVERS[1], NEXT_SIGNAL, NEXT_EXIT)] {
        let fault = Fault { restart: how, server: server.into() };
        let exit = if how == Restart::Killed { signal + 10 } else { exit };
        seen.push((signal, Event::FaultOn(fault.clone())));
        match how {
            Restart::Graceful => {
                seen.push((signal, life(server, Step::TermSent)));
                seen.push((signal + 10, life(server, Step::ShutdownInitiated)));
            }
            Restart::Killed => seen.push((signal, life(server, Step::KillSent))),
        }
        seen.extend([(exit, life(server, Step::Exited)), (exit + 10, life(server, Step::Started))]);
        seen.push((exit + 3000, Event::FaultOff(fault)));
    }
    seen
}

/// Sessions with which all is well: one on each apiserver, a quiet one, and new ones.
fn well(how: Restart) -> Vec<(u64, Event)> {
    let (exit, next) = match how {
        Restart::Graceful => (EXIT, NEXT_EXIT),
        Restart::Killed => (SIGNAL + 10, NEXT_SIGNAL + 10),
    };
    let news = (SIGNAL..NEXT_EXIT).step_by(500);
    let news = news.flat_map(|at| session("exec-new", "apiserver-1", at..at + 200, SessionEnd::Ours));
    let mut seen = restarts(how);
    seen.extend(news);
    seen.extend(session("exec-0", "apiserver-0", 1000..exit + 5, reset()));
    seen.extend(session("exec-1", "apiserver-1", 1000..next - 5, reset()));
    seen.extend(quiet(1000..next + 5, 1, reset()));
    seen
}

fn recording(how: Option<Restart>, judged_by: &[&str], mut seen: Vec<(u64, Event)>) -> Recording {
    seen.sort_by_key(|(at, _)| *at);
    let observations = seen.into_iter().map(|(at, event)| observed(at, event)).collect();
    Recording { header: header(how, judged_by), observations }
}

/// A graceful roll in which all is well but for that.
fn roll_with(more: impl IntoIterator<Item = (u64, Event)>) -> Recording {
    let mut seen = well(Restart::Graceful);
    seen.extend(more);
    recording(Some(Restart::Graceful), &ALL, seen)
}

/// A session in use that ends while its apiserver drains.
pub(crate) fn cut_while_draining() -> Recording {
    roll_with(session("exec-2", "apiserver-0", 1000..SIGNAL + 1500, reset()))
}

/// A quiet one that ends while nobody touches its apiserver.
pub(crate) fn cut_while_quiet() -> Recording {
    roll_with(quiet(1000..SIGNAL + 6000, 0, reset()))
}

/// One whose apiserver is gone, and nobody says so.
pub(crate) fn left_hanging() -> Recording {
    roll_with(session("exec-2", "apiserver-0", 1000..EXIT + 10_000, SessionEnd::Silence))
}

/// One that is asked for and not opened.
pub(crate) fn not_opened() -> Recording {
    roll_with([refused(SIGNAL + 3000)])
}

fn refused(at: u64) -> (u64, Event) {
    let failure = Failure { class: ErrorClass::ConnectionRefused, text: "refused".into() };
    let mut seen = session("exec-new", "", at..at + 200, SessionEnd::Failed(failure));
    if let Event::Session(session) = &mut seen[0].1 {
        (session.opened_after, session.last_line, session.lines) = (None, None, 0);
    }
    let [(at, event), _] = seen;
    (at, event)
}

/// A connection to apiserver-0 as the balancer wrote it down: it was accepted when exec-2 was asked for, and ended then.
fn carried_until(at: u64, by: Party) -> (u64, Event) {
    let mut event = crate::runs::carried(SERVERS[0], End::Reset, by, at - 1000);
    if let Event::Connection(connection) = &mut event {
        connection.client = "127.0.0.1:12".into();
    }
    (1000, event)
}

fn stall(at: u64, lasted: u64) -> (u64, Event) {
    (at, Event::Stall(millis(lasted)))
}

/// Without other sessions on apiserver-0, which would tell that it still ran.
fn alone(recording: &mut Recording) {
    recording.observations.retain(|seen| !matches!(&seen.event, Event::Session(session) if session.probe == "exec-0"));
}

#[test]
fn a_session_may_end_with_its_apiserver_and_not_before() {
    upheld().compare(&roll_with([]));
    let ends = |at| roll_with(session("exec-2", "apiserver-0", 1000..at, reset()));
    violated("SESSION-1", "exec-2 was over at +6.500s (connection reset by peer (reset)), 0.100 s after its last line; apiserver-0 still ran, 1.500 s after its signal")
        .compare(&cut_while_draining());
    // We may learn of the end of a process a little later than its clients.
    upheld().compare(&ends(EXIT - 500));
    violated("SESSION-1", "still ran").compare(&ends(EXIT - CLOSE_NOTICED.as_millis() as u64 - 1));
    let clean = session("exec-2", "apiserver-0", 1000..SIGNAL + 1500, SessionEnd::Clean);
    violated("SESSION-1", "ended without an error").compare(&roll_with(clean));
}

#[test]
fn in_the_last_second_somebody_has_to_say_who_ended_a_session() {
    let last = EXIT - 950;
    let ends = |at: u64| session("exec-2", "apiserver-0", 1000..at, reset());
    // Another session on it had a line after that.
    violated("SESSION-1", "still ran").compare(&roll_with(ends(last)));
    let mut unknown = roll_with(ends(last));
    alone(&mut unknown);
    unknown.header.judged_by.truncate(1);
    inconclusive("SESSION-1", "exec-2 was over 0.950 s before the process of apiserver-0 ended: nobody knows")
        .compare(&unknown);
    // The balancer's record says.
    let recorded = |at: u64, ended: u64, by| {
        let mut seen: Vec<_> = ends(at).into();
        seen.push(carried_until(ended, by));
        let mut recording = roll_with(seen);
        alone(&mut recording);
        recording.header.judged_by.truncate(1);
        recording
    };
    upheld().compare(&recorded(last, last, Party::Server));
    violated("SESSION-1", "still ran").compare(&recorded(last, last, Party::Balancer));
    violated("SESSION-1", "still ran").compare(&recorded(EXIT - 5, EXIT - 5, Party::Balancer));
    inconclusive("SESSION-1", "by the balancer's record its client ended it").compare(&recorded(
        last,
        last,
        Party::Client,
    ));
    // A record in which nobody ended it then is one of somebody else's doing.
    violated("SESSION-1", "still ran").compare(&recorded(last, EXIT, Party::Server));
    upheld().compare(&recorded(EXIT - 5, EXIT, Party::Server));
}

#[test]
fn no_stall_of_ours_resets_a_session() {
    let cut = |more: &[(u64, Event)], end| {
        let mut seen: Vec<_> = session("exec-2", "apiserver-0", 1000..SIGNAL + 1500, end).into();
        seen.extend_from_slice(more);
        let mut recording = roll_with(seen);
        recording.header.judged_by.truncate(1);
        recording
    };
    violated("SESSION-1", "still ran").compare(&cut(&[stall(SIGNAL + 1000, 600)], reset()));
    // But a line may have come while we did not look; and the end of a process.
    violated("SESSION-1", "no line any more").compare(&cut(&[], SessionEnd::Silence));
    inconclusive("SESSION-1", "did not run").compare(&cut(&[stall(SIGNAL + 1450, 600)], SessionEnd::Silence));
    let late = |stalled: u64| {
        let mut seen: Vec<_> = session("exec-2", "apiserver-0", 1000..EXIT - 1500, reset()).into();
        seen.push(stall(EXIT - 1400, stalled));
        let mut recording = roll_with(seen);
        recording.header.judged_by.truncate(1);
        recording
    };
    inconclusive("SESSION-1", "did not run").compare(&late(700));
    let mut early = late(700);
    early.observations.iter_mut().for_each(|seen| {
        if let Event::Session(session) = &mut seen.event {
            session.ended = session.ended - millis(if session.probe == "exec-2" { 1000 } else { 0 });
        }
    });
    violated("SESSION-1", "still ran").compare(&early);
}

#[test]
fn one_session_that_cannot_be_judged_hides_no_other() {
    let [stranger, _] = session("exec-3", "apiserver-0", 1000..2000, reset());
    let mut seen: Vec<_> = session("exec-2", "apiserver-0", 1000..SIGNAL + 1500, reset()).into();
    seen.push(stranger);
    violated("SESSION-1", "exec-2 was over")
        .and_inconclusive("SESSION-2", "in no apiserver's audit log")
        .and_inconclusive("SESSION-3", "in no apiserver's audit log")
        .compare(&roll_with(seen));
}

#[test]
fn a_session_beside_a_restart_goes_on() {
    let beside = session("exec-2", "apiserver-1", 1000..SIGNAL + 1500, reset());
    violated("SESSION-1", "which nobody was restarting").compare(&roll_with(beside));
}

#[test]
fn each_kind_has_to_be_there_when_its_apiserver_is_stopped() {
    let mut logs = session("logs", "apiserver-1", 1000..NEXT_EXIT, reset());
    if let Event::Session(session) = &mut logs[0].1 {
        session.kind = SessionKind::Logs;
    }
    inconclusive("SESSION-1", "no logs was open on apiserver-0 when it was stopped").compare(&roll_with(logs));
}

#[test]
fn a_session_in_use_has_lines() {
    let with = |change: fn(&mut Session)| {
        let mut seen = session("exec-2", "apiserver-0", 1000..EXIT, reset());
        if let Event::Session(session) = &mut seen[0].1 {
            change(session);
        }
        roll_with(seen)
    };
    inconclusive("SESSION-1", "exec-2 was without a line for 6.000 s, and may be for 5.000 s")
        .compare(&with(|session| session.longest_wait = secs(6)));
    inconclusive("SESSION-1", "exec-2 was without a line for 6.000 s")
        .compare(&with(|session| session.last_line = Some(Moment((EXIT - 6000) * 1_000_000))));
    upheld().compare(&with(|session| session.longest_wait = secs(4)));
    let longest = with(|session| session.longest_wait = secs(4));
    let (_, figures) = rollproof::verdict::judge(rollproof::spec::requirement("SESSION-1").unwrap(), &longest);
    assert_eq!(figures.iter().find(|it| it.name == "longest wait").map(|it| it.value), Some(4000.0));
}

#[test]
fn a_quiet_session_has_to_answer() {
    violated("SESSION-2", "exec-quiet was over at +11.000s").compare(&cut_while_quiet());
    let silent = quiet(1000..14_000, 0, SessionEnd::Silence);
    violated("SESSION-2", "no line any more, and no word why")
        .and_violated("SESSION-3", "no line any more")
        .compare(&roll_with(silent));
    let short = || recording(None, &["SESSION-2"], quiet(1000..9000, 0, SessionEnd::Ours).into());
    inconclusive("SESSION-2", "no quiet session was there for long enough").compare(&short());
    upheld().compare(&recording(None, &["SESSION-2"], quiet(1000..15_000, 1, SessionEnd::Ours).into()));
    // A reset is no matter of stalls.
    let mut stalled = cut_while_quiet();
    stalled.observations.insert(0, observed(SIGNAL + 5500, Event::Stall(millis(600))));
    stalled.header.judged_by.retain(|by| by.requirement == "SESSION-2");
    violated("SESSION-2", "exec-quiet was over at +11.000s").compare(&stalled);
}

#[test]
fn each_quiet_session_has_to_answer() {
    let with = |probe: &str, kind, answers, open: std::ops::Range<u64>| {
        let mut seen = quiet(open, answers, SessionEnd::Ours);
        if let Event::Session(session) = &mut seen[0].1 {
            (session.probe, session.kind) = (probe.into(), kind);
        }
        seen
    };
    let one = || with("one", SessionKind::Exec, 1, 1000..15_000);
    let both = |other: [(u64, Event); 2]| recording(None, &["SESSION-2"], [one(), other].concat());
    inconclusive("SESSION-2", "other was there for 14.000 s and has not answered after a silence")
        .compare(&both(with("other", SessionKind::Exec, 0, 1001..15_001)));
    upheld().compare(&both(with("other", SessionKind::Exec, 1, 1001..15_001)));
    // One that was not there for a whole silence does not matter, if another of its kind was.
    upheld().compare(&both(with("other", SessionKind::Exec, 0, 1001..9000)));
    inconclusive("SESSION-2", "for long enough to be silent (port-forward)").compare(&both(with(
        "other",
        SessionKind::PortForward,
        0,
        1001..9000,
    )));
}

#[test]
fn the_end_has_to_be_told_soon() {
    let told = |after| roll_with(session("exec-2", "apiserver-0", 1000..EXIT + after, reset()));
    upheld().compare(&told(1000));
    violated("SESSION-3", "1.001 s after the end of apiserver-0").compare(&told(1001));
    violated("SESSION-3", "exec-2: no line any more, and no word why").compare(&left_hanging());
    upheld().compare(&recording(Some(Restart::Killed), &["SESSION-1", "SESSION-3"], well(Restart::Killed)));
    let none = recording(Some(Restart::Graceful), &["SESSION-3"], restarts(Restart::Graceful));
    inconclusive("SESSION-3", "no session was open when its apiserver ended").compare(&none);
    let mut of_one = roll_with([]);
    alone(&mut of_one);
    of_one.header.judged_by.retain(|by| by.requirement == "SESSION-3");
    inconclusive("SESSION-3", "no session was open when its apiserver ended (apiserver-0)").compare(&of_one);
    let undisturbed = |end| recording(None, &["SESSION-3"], session("exec-1", "apiserver-1", 1000..9000, end).into());
    inconclusive("SESSION-3", "no session came to an end that had to be told").compare(&undisturbed(SessionEnd::Ours));
    upheld().compare(&undisturbed(reset()));
}

#[test]
fn a_stall_excuses_late_word_only_where_it_overlaps_it() {
    let stalled = |mut recording: Recording, at| {
        let (at, stall) = stall(at, 600);
        recording.observations.push(observed(at, stall));
        recording.header.judged_by.retain(|by| by.requirement == "SESSION-3");
        recording
    };
    let late = || roll_with(session("exec-2", "apiserver-0", 1000..EXIT + 1500, reset()));
    inconclusive("SESSION-3", "did not run for 0.600 s").compare(&stalled(late(), EXIT + 500));
    violated("SESSION-3", "1.500 s after the end of apiserver-0").compare(&stalled(late(), NEXT_SIGNAL));
    violated("SESSION-3", "no word why").compare(&stalled(left_hanging(), SIGNAL));
    inconclusive("SESSION-3", "did not run for 0.600 s").compare(&stalled(left_hanging(), EXIT + 9950));
}

#[test]
fn a_session_that_is_asked_for_is_opened() {
    violated("SESSION-4", "exec-new: connection refused (refused)").compare(&not_opened());
    // What fails when no apiserver is being restarted is no matter of restarts.
    upheld().compare(&roll_with([refused(1000)]));
    let few = recording(Some(Restart::Graceful), &["SESSION-4"], restarts(Restart::Graceful));
    inconclusive("SESSION-4", "0 sessions were asked for during the disturbance; at least 10 are needed").compare(&few);
}

#[test]
fn new_sessions_are_asked_for_throughout_each_restart() {
    let without = |when: std::ops::Range<u64>| {
        let mut recording = roll_with([]);
        recording.header.judged_by.retain(|by| by.requirement == "SESSION-4");
        recording.observations.retain(|seen| {
            let asked = when.contains(&(seen.at.0 / 1_000_000));
            !(asked && matches!(&seen.event, Event::Session(session) if session.probe == "exec-new"))
        });
        recording
    };
    upheld().compare(&without(6000..10_000));
    inconclusive("SESSION-4", "has no sample for 5.").compare(&without(6000..11_500));
    inconclusive("SESSION-4", "has no sample for 6.").compare(&without(18_000..21_500));
}

#[test]
fn a_stall_excuses_a_refusal_only_where_it_may_have_led_to_it() {
    let refused = |stalls: &[(u64, Event)]| {
        let mut recording = roll_with([vec![refused(SIGNAL + 3000)], stalls.to_vec()].concat());
        recording.header.judged_by.retain(|by| by.requirement == "SESSION-4");
        recording
    };
    violated("SESSION-4", "connection refused").compare(&refused(&[stall(NEXT_SIGNAL, 600)]));
    inconclusive("SESSION-4", "did not run").compare(&refused(&[stall(SIGNAL + 2900, 600)]));
    // Between the signal and the refusal, it takes one for which the balancer has no time to spare (1.5 s).
    violated("SESSION-4", "connection refused").compare(&refused(&[stall(SIGNAL + 500, 600)]));
    inconclusive("SESSION-4", "did not run").compare(&refused(&[stall(SIGNAL + 500, 1600)]));
}

#[test]
fn a_session_that_no_audit_log_has_proves_nothing() {
    let [stranger, _] = session("exec-2", "apiserver-0", 1000..2000, reset());
    let recording = roll_with([stranger]);
    inconclusive("SESSION-1", "in no apiserver's audit log")
        .and_inconclusive("SESSION-2", "in no apiserver's audit log")
        .and_inconclusive("SESSION-3", "in no apiserver's audit log")
        .compare(&recording);
}

#[test]
fn what_is_behind_sessions_is_said_beside_their_verdict() {
    let quiet = stream(Shape::QuietLogs, "quiet-1", 1000, "apiserver-1");
    let gateway =
        gateway_verdicts::recording([(1000, Event::GatewayStream(told(quiet, 8000, ErrorClass::StreamReset)))]);
    for (mut recording, what) in [(roll_with([]), "sessions"), (gateway, "quiet sessions")] {
        let said = |recording: &Recording| {
            let judged = rollproof::verdict::judge_all(recording).unwrap();
            let mut figures = judged.iter().flat_map(|it| &it.figures);
            figures.find(|it| it.name.contains(" into ")).map(|it| it.name.clone())
        };
        assert_eq!(said(&recording), Some(format!("{what} into pods")));
        let kwok = Subject { name: "kwok".into(), version: "v0.8.0".into(), digest: String::new() };
        recording.header.subjects.push(kwok);
        assert_eq!(said(&recording), Some(format!("{what} into kwok (no containers)")));
    }
}
