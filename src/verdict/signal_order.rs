//! ROLLOUT-5: lifecycle signals come in the order of their causes, and the process ends by itself.
//!
//! The causes are those of the drawing above RunWithContext (k8s.io/apiserver v0.37 pkg/server/genericapiserver.go). With
//! --shutdown-send-retry-after, the listener waits until no request is in flight any more.
//! What we see are log lines, and some signals are given *before* their line is written: NotAcceptingNewRequest,
//! PreShutdownHooksStopped, InFlightRequestsDrained and HTTPServerStoppedListening. A line that follows such a signal
//! may overtake that signal's own line; these pairs may be out of order by as much as our own looking may be late, the
//! stall bound. So may the end of the process and the lines before it, which we see in different ways. PreShutdownHooksStopped and
//! ShutdownInitiated do not depend on each other, and the process may end before the last lines are out, so the two signals that the
//! requirement does not name are judged only where they are seen.
//!
//! ```text
//! TermSent, ShutdownInitiated, (3 s) AfterShutdownDelayDuration, NotAcceptingNewRequest,
//!     HTTPServerStoppedListening, InFlightRequestsDrained, Exited (exit status 0)        ->  upheld
//! ... AfterShutdownDelayDuration before ShutdownInitiated                                ->  violated
//! ... no HTTPServerStoppedListening                                                      ->  violated
//! ... no ShutdownInitiated                                                               ->  inconclusive: no graceful stop is proven
//! ... Exited (signal 9)                                                                  ->  violated
//! ... Exited 2 s before NotAcceptingNewRequest                                           ->  violated
//! with --shutdown-send-retry-after:
//!     ... InFlightRequestsDrained, HTTPServerStoppedListening                            ->  upheld
//!     ... HTTPServerStoppedListening, 1.1 s, InFlightRequestsDrained                     ->  violated
//!     ... HTTPServerStoppedListening, no InFlightRequestsDrained                         ->  inconclusive
//! ```

use std::time::Duration;

use super::conclusive::{Rests, breach, every_fault, unproven};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Restart, Step};

/// What a graceful termination has to go through.
const NEEDED: [Step; 4] = [
    Step::ShutdownInitiated,
    Step::AfterShutdownDelayDuration,
    Step::NotAcceptingNewRequest,
    Step::HTTPServerStoppedListening,
];

/// Cause and effect whose log lines cannot overtake each other: the cause's line is written before its signal is given.
const STRICT: [(Step, Step); 4] = [
    (Step::ShutdownInitiated, Step::AfterShutdownDelayDuration),
    (Step::AfterShutdownDelayDuration, Step::NotAcceptingNewRequest),
    (Step::AfterShutdownDelayDuration, Step::HTTPServerStoppedListening),
    (Step::AfterShutdownDelayDuration, Step::InFlightRequestsDrained),
];

/// Cause and effect whose lines may overtake each other for a moment.
const RACY: [(Step, Step); 11] = [
    (Step::TermSent, Step::ShutdownInitiated),
    (Step::TermSent, Step::PreShutdownHooksStopped),
    (Step::PreShutdownHooksStopped, Step::NotAcceptingNewRequest),
    (Step::NotAcceptingNewRequest, Step::HTTPServerStoppedListening),
    (Step::NotAcceptingNewRequest, Step::InFlightRequestsDrained),
    (Step::ShutdownInitiated, Step::Exited),
    (Step::AfterShutdownDelayDuration, Step::Exited),
    (Step::PreShutdownHooksStopped, Step::Exited),
    (Step::NotAcceptingNewRequest, Step::Exited),
    (Step::InFlightRequestsDrained, Step::Exited),
    (Step::HTTPServerStoppedListening, Step::Exited),
];

/// Likewise, where a stopping apiserver answers 429 until all are served (--shutdown-send-retry-after).
const RACY_WITH_RETRY_AFTER: (Step, Step) = (Step::InFlightRequestsDrained, Step::HTTPServerStoppedListening);

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let verdict = Verdict::worst(facts.restarts.iter().map(|restart| claim(facts, restart))).unwrap_or(Verdict::Upheld);
    // What is written down in order needs no clock of ours to be so.
    let verdict = match verdict {
        Verdict::Upheld => every_fault(facts).map_or(Verdict::Upheld, Verdict::inconclusive),
        verdict => verdict,
    };
    let took = facts.restarts.iter().filter_map(|restart| span(restart, Step::TermSent, Step::Exited)).max();
    let figures = took.map(|took| Figure::seconds("longest termination", took)).into_iter().collect();
    (verdict, figures)
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>) -> Verdict {
    let found = [ended_otherwise(facts, restart), missing(facts, restart), too_soon(facts, restart)];
    let found = found.into_iter().flatten().chain(out_of_order(facts, restart));
    let drained = || {
        let unseen = sends_retry_after(facts, restart.server) && restart.at(Step::InFlightRequestsDrained).is_none();
        let (effect, cause) = (Step::HTTPServerStoppedListening, Step::InFlightRequestsDrained);
        unseen.then(|| {
            Verdict::inconclusive(format!(
                "{}: {effect:?} has to wait for {cause:?}, which was not seen",
                restart.server
            ))
        })
    };
    Verdict::worst(found).or_else(drained).unwrap_or(Verdict::Upheld)
}

fn violated(facts: &Facts<'_>, restart: &Restarted<'_>, at: Moment, actual: &str) -> Verdict {
    let server = restart.server;
    Verdict::Violated {
        expected: "ShutdownInitiated, AfterShutdownDelayDuration, NotAcceptingNewRequest and \
                   HTTPServerStoppedListening, each after its causes, and then an exit of its own"
            .to_owned(),
        actual: format!("{server}: {actual}"),
        excerpt: excerpt(facts, at, |event| matches!(event, Event::Lifecycle(step) if step.server == server)),
    }
}

/// A process that did not end by itself.
fn ended_otherwise(facts: &Facts<'_>, restart: &Restarted<'_>) -> Option<Verdict> {
    let exited = restart.steps.iter().find(|(_, seen)| seen.step == Step::Exited);
    let last = exited.map_or(facts.end, |(at, _)| *at);
    if let Some(at) = restart.at(Step::KillSent).filter(|at| *at <= last) {
        return Some(violated(facts, restart, at, "it did not end by itself: SIGKILL had to be sent"));
    }
    let (at, seen) = exited?;
    if seen.text.is_empty() {
        return Some(Verdict::inconclusive(format!("nobody knows how {} ended", restart.server)));
    }
    // `exit status: 0`, or, of a container, `exit code 0`; a Go panic is 2.
    let well = seen.text.starts_with("exit") && seen.text.ends_with(" 0");
    (!well).then(|| violated(facts, restart, *at, &format!("it did not end by itself: {}", seen.text)))
}

/// A signal that never came, of an apiserver that was seen to stop gracefully.
fn missing(facts: &Facts<'_>, restart: &Restarted<'_>) -> Option<Verdict> {
    if let Some(why) = unproven(Restart::Graceful, restart) {
        return Some(Verdict::inconclusive(why));
    }
    let missing = NEEDED.into_iter().find(|step| restart.at(*step).is_none())?;
    let last = restart.at(Step::Exited).unwrap_or(facts.end);
    Some(violated(facts, restart, last, &format!("{missing:?} never came")))
}

fn out_of_order(facts: &Facts<'_>, restart: &Restarted<'_>) -> impl Iterator<Item = Verdict> {
    let listener = sends_retry_after(facts, restart.server).then_some(RACY_WITH_RETRY_AFTER);
    let racy = RACY.into_iter().chain(listener).map(|pair| (pair, facts.bounds.stall));
    let pairs = STRICT.into_iter().map(|pair| (pair, Duration::ZERO)).chain(racy);
    pairs.filter_map(|((cause, effect), tolerance)| {
        let (earlier, later) = (restart.at(cause)?, restart.at(effect)?);
        if later + tolerance >= earlier {
            return None;
        }
        let by = earlier.since(later).as_secs_f64();
        let violated = violated(facts, restart, earlier, &format!("{effect:?} came {by:.3} s before {cause:?}"));
        // Lines of one log are in the order in which they were written, whenever we read them. A copy of a log may be late.
        let copied = facts.recording.header.cell.control_plane == "kind";
        Some(match (cause, effect) {
            (_, Step::Exited) if copied => Verdict::inconclusive(format!(
                "{}: the copy of its log may be late: {effect:?} before {cause:?}",
                restart.server
            )),
            (Step::TermSent, _) | (_, Step::Exited) => breach(facts, Rests::OnTime(later, earlier), violated),
            _ => violated,
        })
    })
}

/// A shutdown delay that was over before its time.
fn too_soon(facts: &Facts<'_>, restart: &Restarted<'_>) -> Option<Verdict> {
    let delay = facts.recording.header.timers.shutdown_delay;
    let waited = span(restart, Step::ShutdownInitiated, Step::AfterShutdownDelayDuration)?;
    let at = restart.at(Step::AfterShutdownDelayDuration)?;
    let (waited_s, delay_s) = (waited.as_secs_f64(), delay.as_secs_f64());
    let actual = format!("the shutdown delay of {delay_s:.3} s was over after {waited_s:.3} s");
    let violated = violated(facts, restart, at, &actual);
    (waited + facts.bounds.stall < delay).then(|| breach(facts, Rests::OnTime(restart.signal(), at), violated))
}

/// Whether an apiserver was started with --shutdown-send-retry-after.
fn sends_retry_after(facts: &Facts<'_>, server: &str) -> bool {
    let flags =
        facts.recording.header.servers.iter().filter(|known| known.name == server).flat_map(|known| &known.flags);
    let last = flags.filter_map(|flag| flag.strip_prefix("--shutdown-send-retry-after")).next_back();
    last.is_some_and(|value| value.is_empty() || value == "=true")
}

fn span(restart: &Restarted<'_>, from: Step, to: Step) -> Option<Duration> {
    Some(restart.at(to)?.since(restart.at(from)?))
}
