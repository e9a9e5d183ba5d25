//! An audit log's silence excuses something only where the log is known to be complete.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::verdict::{Verdict, judge};

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::Reused;
use Restart::Graceful;

const FIRST: &str = "requester-reused-6000";

/// A run in which a kept connection was closed by its stopping apiserver, which an excuse is granted for if nobody had received the request.
fn closed() -> Recording {
    let exchange = Exchange { audit_id: format!("{FIRST}-again"), ..answered(200) };
    let (probe, retries, attempts) = (requester(Reused).into(), Some(FIRST.to_owned()), Vec::new());
    let retry = Request { probe, on: Reused, retries, exchange, attempts };
    let run = run(Some(Graceful)).requests_fail(Reused, 6000..6050, ErrorClass::UnexpectedEof);
    run.with(6005, Event::Request(retry)).whole()
}

fn verdict(id: &str, recording: &Recording) -> Verdict {
    judge(spec::requirement(id).expect("it exists"), recording).0
}

/// What is taken from the evidence, and what is then said of the log.
type Flaw = (fn(&mut Recording), &'static str);

fn logs(recording: &mut Recording, mut change: impl FnMut(&mut AuditLogRead)) {
    for seen in &mut recording.observations {
        if let Event::AuditLog(log) = &mut seen.event
            && log.server == SERVERS[0]
        {
            change(log);
        }
    }
}

fn lines(recording: &mut Recording, keep: impl Fn(&Audited) -> bool) {
    recording.observations.retain(|seen| !matches!(&seen.event, Event::Audited(audited) if !keep(audited)));
}

/// How a line of the log is changed: that of a request which apiserver-0 answered.
fn line(recording: &mut Recording, change: impl Fn(&mut Audited)) {
    for seen in &mut recording.observations {
        if let Event::Audited(audited) = &mut seen.event
            && audited.audit_id == "requester-reused-1000"
        {
            change(audited);
        }
    }
}

const FLAWS: &[Flaw] = &[
    (|it| lines(it, |_| false), "the audit log of apiserver-0 lacks"),
    (|it| lines(it, |line| line.server != SERVERS[0]), "the audit log of apiserver-0 lacks"),
    (
        |it| lines(it, |line| !(line.server == SERVERS[0] && line.audit_id.starts_with("requester-new-11"))),
        "the audit log of apiserver-0 lacks requester-new-11",
    ),
    (|it| lines(it, |line| line.audit_id != "requester-reused-1000"), "lacks requester-reused-1000"),
    (|it| line(it, |line| line.server = SERVERS[1].into()), "the audit log of apiserver-0 lacks requester-reused-1000"),
    (|it| it.observations.retain(|seen| !matches!(seen.event, Event::AuditLog(_))), "was not read"),
    (|it| logs(it, |log| log.partial = true), "is there in part only"),
    (|it| logs(it, |log| log.unreadable = 3), "has 3 lines that are no events"),
    (|it| logs(it, |log| log.omitted_stages = vec!["RequestReceived".into()]), "omits RequestReceived"),
    (
        |it| line(it, |line| line.stages = vec!["ResponseComplete".into()]),
        "does not have RequestReceived of every request",
    ),
    (|it| line(it, |line| line.stages.clear()), "does not have RequestReceived of every request"),
    (
        |it| it.header.servers[0].flags.push("--audit-log-mode=batch".into()),
        "the audit log of apiserver-0 is written in the mode batch",
    ),
    (without_its_id, "has no Audit-ID"),
];

fn without_its_id(recording: &mut Recording) {
    for seen in &mut recording.observations {
        match &mut seen.event {
            Event::Request(request) if request.exchange.audit_id == FIRST => request.exchange.audit_id.clear(),
            Event::Request(request) if request.retries.is_some() => request.retries = Some(String::new()),
            _ => {}
        }
    }
}

#[test]
fn the_silence_of_a_log_that_is_not_known_to_be_complete_proves_nothing() {
    assert_eq!(verdict("ROLLOUT-2", &closed()), Verdict::Upheld);
    for (spoil, flaw) in FLAWS {
        let mut recording = closed();
        spoil(&mut recording);
        let Verdict::Inconclusive { why } = verdict("ROLLOUT-2", &recording) else { panic!("{flaw}") };
        let asked = "nobody knows whether an apiserver had received the request";
        assert!(why.contains(asked) && why.contains(flaw), "{why}\nexpected: {flaw}");
        // Where nothing is excused, nobody asks.
        assert_eq!(verdict("ROLLOUT-1", &recording), Verdict::Upheld);
    }
}

#[test]
fn what_says_nothing_of_completeness_is_no_flaw() {
    let mut blocking = closed();
    blocking.header.servers[0].flags.push("--audit-log-mode=blocking-strict".into());
    assert_eq!(verdict("ROLLOUT-2", &blocking), Verdict::Upheld);
    let mut omitted = closed();
    logs(&mut omitted, |log| log.omitted_stages = vec!["ResponseStarted".into()]);
    assert_eq!(verdict("ROLLOUT-2", &omitted), Verdict::Upheld);
    // An answer 401 begins with its end; a refusal of a stopping apiserver is in no log.
    let mut unauthorized = closed();
    let stages = vec!["ResponseComplete".to_owned()];
    let audited = Audited { server: SERVERS[0].into(), audit_id: "other".into(), stages, status: Some(401) };
    unauthorized.observations.push(observed(21_000, Event::Audited(audited)));
    assert_eq!(verdict("ROLLOUT-2", &unauthorized), Verdict::Upheld);
    // The log of the other apiserver cannot have it.
    let mut other = closed();
    let known = |seen: &mut Observation| {
        if let Event::Request(request) = &mut seen.event
            && request.exchange.audit_id == FIRST
        {
            request.exchange.server = Some(SERVERS[0].into());
        }
    };
    other.observations.iter_mut().for_each(known);
    other.observations.retain(|seen| !matches!(&seen.event, Event::AuditLog(log) if log.server == SERVERS[1]));
    assert_eq!(verdict("ROLLOUT-2", &other), Verdict::Upheld);
}

#[test]
fn a_recording_of_format_1_is_asked_for_what_it_can_tell() {
    let mut old = closed();
    old.header.format = 1;
    old.observations.retain(|seen| !matches!(seen.event, Event::AuditLog(_) | Event::Ticked(_)));
    assert_eq!(verdict("ROLLOUT-2", &old), Verdict::Upheld);
    lines(&mut old, |line| line.server != SERVERS[0]);
    assert!(matches!(verdict("ROLLOUT-2", &old), Verdict::Inconclusive { .. }));
}
