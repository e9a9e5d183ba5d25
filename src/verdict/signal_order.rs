//! ROLLOUT-5: lifecycle signals come in the order of their causes, and the process ends by itself.
//!
//! The causes are those of the drawing above RunWithContext (k8s.io/apiserver v0.37 pkg/server/genericapiserver.go).
//! What we see are log lines, and some signals are given *before* their line is written: NotAcceptingNewRequest,
//! PreShutdownHooksStopped, InFlightRequestsDrained and HTTPServerStoppedListening. A line that follows such a signal
//! may overtake that signal's own line; these pairs may be out of order by as much as our own looking may be late, the
//! stall bound. PreShutdownHooksStopped and ShutdownInitiated do not depend on each other, and the process may end
//! before the last lines are out, so the two signals that the requirement does not name are judged only where they are
//! seen.
//!
//! ```text
//! TermSent, ShutdownInitiated, (3 s) AfterShutdownDelayDuration, NotAcceptingNewRequest,
//!     HTTPServerStoppedListening, InFlightRequestsDrained, Exited (exit status 0)        ->  upheld
//! ... AfterShutdownDelayDuration before ShutdownInitiated                                ->  violated
//! ... no HTTPServerStoppedListening                                                      ->  violated
//! ... Exited (signal 9)                                                                  ->  violated
//! ```

use std::time::Duration;

use super::conclusive::conclude;
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
const RACY: [(Step, Step); 5] = [
    (Step::TermSent, Step::ShutdownInitiated),
    (Step::TermSent, Step::PreShutdownHooksStopped),
    (Step::PreShutdownHooksStopped, Step::NotAcceptingNewRequest),
    (Step::NotAcceptingNewRequest, Step::HTTPServerStoppedListening),
    (Step::NotAcceptingNewRequest, Step::InFlightRequestsDrained),
];

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let verdict = Verdict::worst(facts.restarts.iter().map(|restart| claim(facts, restart))).unwrap_or(Verdict::Upheld);
    let took = facts.restarts.iter().filter_map(|restart| span(restart, Step::TermSent, Step::Exited)).max();
    let figures = took.map(|took| Figure::seconds("longest termination", took)).into_iter().collect();
    (conclude(facts, &[], verdict), figures)
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>) -> Verdict {
    let server = restart.server;
    let Some((at, actual)) = breach(facts, restart) else { return Verdict::Upheld };
    Verdict::Violated {
        expected: "ShutdownInitiated, AfterShutdownDelayDuration, NotAcceptingNewRequest and \
                   HTTPServerStoppedListening, each after its causes, and then an exit of its own"
            .to_owned(),
        actual: format!("{server}: {actual}"),
        excerpt: excerpt(facts, at, |event| matches!(event, Event::Lifecycle(step) if step.server == server)),
    }
}

fn breach(facts: &Facts<'_>, restart: &Restarted<'_>) -> Option<(Moment, String)> {
    let exited = restart.steps.iter().find(|(_, seen)| seen.step == Step::Exited);
    let last = exited.map_or(facts.end, |(at, _)| *at);
    if let Some(at) = restart.at(Step::KillSent).filter(|at| *at <= last) {
        return Some((at, "it did not end by itself: SIGKILL had to be sent".to_owned()));
    }
    if let Some((at, seen)) = exited.filter(|(_, seen)| seen.text.contains("signal")) {
        return Some((*at, format!("it did not end by itself: {}", seen.text)));
    }
    if let Some(missing) = NEEDED.into_iter().find(|step| restart.at(*step).is_none()) {
        return Some((last, format!("{missing:?} never came")));
    }

    let pairs =
        STRICT.map(|pair| (pair, Duration::ZERO)).into_iter().chain(RACY.map(|pair| (pair, facts.bounds.stall)));
    for ((cause, effect), tolerance) in pairs {
        if let (Some(earlier), Some(later)) = (restart.at(cause), restart.at(effect))
            && later + tolerance < earlier
        {
            let by = earlier.since(later).as_secs_f64();
            return Some((earlier, format!("{effect:?} came {by:.3} s before {cause:?}")));
        }
    }

    let delay = facts.recording.header.timers.shutdown_delay;
    let waited = span(restart, Step::ShutdownInitiated, Step::AfterShutdownDelayDuration)?;
    let at = restart.at(Step::AfterShutdownDelayDuration)?;
    let (waited_s, delay_s) = (waited.as_secs_f64(), delay.as_secs_f64());
    (waited + facts.bounds.stall < delay)
        .then(|| (at, format!("the shutdown delay of {delay_s:.3} s was over after {waited_s:.3} s")))
}

fn span(restart: &Restarted<'_>, from: Step, to: Step) -> Option<Duration> {
    Some(restart.at(to)?.since(restart.at(from)?))
}
