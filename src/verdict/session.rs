//! SESSION-1 to -4: sessions into a pod last as long as their apiserver, also when they are quiet; their end is told; new ones open.
//!
//! Which apiserver a session is on is said by the audit log that has its Audit-ID. It ends its sessions with its process: one that
//! is over before was ended by somebody else.
//!
//! ```text
//! exec on apiserver-0, SIGTERM at 5, process gone at 11, exec reset at 11.0          ->  SESSION-1 and -3 upheld
//! exec on apiserver-0, SIGTERM at 5, exec reset at 6.5, process gone at 11           ->  SESSION-1 violated
//! exec on apiserver-1, apiserver-0 is stopped, exec reset                            ->  SESSION-1 violated
//! quiet exec, silent for 12 s, then its line comes back                              ->  SESSION-2 upheld
//! quiet exec, reset when it had been silent for 11 s, its apiserver lives            ->  SESSION-2 violated
//! exec on apiserver-0, killed at 5, no line for 10 s and no word why                 ->  SESSION-3 violated
//! exec is asked for at 8, connection refused                                         ->  SESSION-4 violated
//! no port-forward was open on apiserver-0 at its SIGTERM                             ->  SESSION-1 inconclusive
//! ```

use std::collections::BTreeSet;

use super::conclusive::conclude;
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Restart, Session, SessionEnd, SessionKind, Step};
use crate::timing::CLOSE_NOTICED;

/// A session that was open once, and its apiserver.
struct Open<'a> {
    asked: Moment,
    session: &'a Session,
    server: &'a str,
    /// When the process of its apiserver ended, if that is why it was over.
    outlived: Option<Moment>,
}

/// SESSION-1.
pub(super) fn not_cut(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let Some(open) = sessions(facts) else { return unattributed() };
    let used: Vec<_> = open.iter().filter(|open| open.session.quiet.is_none()).collect();
    let found = used.iter().find_map(|open| cut(facts, open)).or_else(|| untested(facts, &used));
    let others = used.iter().filter(|open| facts.restarts.iter().any(|fault| is_beside(open, fault.server, fault.on)));
    let figures = vec![
        Figure::count(format!("sessions into {}", facts.behind_sessions()), used.len()),
        Figure::count("of them ended with their apiserver", used.iter().filter(|open| open.outlived.is_some()).count()),
        Figure::count("of them seen through another's restart", others.count()),
    ];
    (conclude(facts, &[], found.unwrap_or(Verdict::Upheld)), figures)
}

/// SESSION-2.
pub(super) fn quiet(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let Some(open) = sessions(facts) else { return unattributed() };
    let quiet: Vec<_> = open.iter().filter(|open| open.session.quiet.is_some()).collect();
    let answers: u64 = quiet.iter().map(|open| open.session.after_silence).sum();
    let found = quiet.iter().find_map(|open| cut(facts, open)).unwrap_or_else(|| match answers {
        0 => Verdict::inconclusive("no quiet session was there for long enough to be silent"),
        _ => Verdict::Upheld,
    });
    let silence = quiet.iter().filter_map(|open| open.session.quiet).max().unwrap_or_default();
    let figures = vec![Figure::seconds("silence", silence), Figure::count("answers after it", answers as usize)];
    (conclude(facts, &[], found), figures)
}

/// SESSION-3.
pub(super) fn told(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let Some(open) = sessions(facts) else { return unattributed() };
    let after = |open: &Open<'_>| open.outlived.map(|exited| open.session.ended.since(exited));
    let longest = open.iter().filter_map(after).max();
    let breach = open
        .iter()
        .find(|open| open.session.end == SessionEnd::Silence || after(open).is_some_and(|after| after > CLOSE_NOTICED));
    let found = match (breach, longest) {
        (Some(open), _) => {
            let Session { probe, ended, last_line, .. } = open.session;
            let silent = ended.since(last_line.unwrap_or(open.asked)).as_secs_f64();
            let why = match after(open) {
                Some(after) => format!(", {:.3} s after the end of {}", after.as_secs_f64(), open.server),
                None => String::new(),
            };
            let how = open.session.ending();
            Verdict::Violated {
                expected: format!("to be told within {:.3} s", CLOSE_NOTICED.as_secs_f64()),
                actual: format!("{probe}: {how} after {silent:.3} s without a line{why}"),
                excerpt: around(facts, open),
            }
        }
        (None, None) if facts.disturbance().is_some() => {
            Verdict::inconclusive("no session was open when its apiserver ended")
        }
        (None, None) if open.iter().all(|open| open.session.end == SessionEnd::Ours) => {
            Verdict::inconclusive("no session came to an end that had to be told")
        }
        (None, _) => Verdict::Upheld,
    };
    let figures = longest.map(|after| Figure::millis("slowest word of an end", after)).into_iter().collect();
    (conclude(facts, &[], found), figures)
}

/// SESSION-4.
pub(super) fn opens(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let (from, until) = facts.disturbed();
    let asked: Vec<_> = all(facts).filter(|(at, _)| (from..=until).contains(at)).collect();
    let found = match asked.iter().find(|(_, session)| !session.opened()) {
        Some((at, session)) => Verdict::Violated {
            expected: format!("{} to be opened", session.kind),
            actual: format!("{}: {}", session.probe, session.ending()),
            excerpt: excerpt(facts, *at, |event| match event {
                Event::Session(other) => other.probe == session.probe,
                Event::Lifecycle(_) | Event::BackendHealth(_) => true,
                _ => false,
            }),
        },
        None if asked.len() < facts.bounds.samples as usize => Verdict::inconclusive(format!(
            "{} sessions were asked for during the disturbance, it takes {}",
            asked.len(),
            facts.bounds.samples
        )),
        None => Verdict::Upheld,
    };
    let slowest = asked.iter().filter_map(|(_, session)| session.opened_after).max().unwrap_or_default();
    let figures = vec![Figure::count("sessions asked for", asked.len()), Figure::millis("slowest to answer", slowest)];
    (conclude(facts, &[], found), figures)
}

/// The breach, if a session ended while its apiserver lived.
fn cut(facts: &Facts<'_>, open: &Open<'_>) -> Option<Verdict> {
    let Open { session, server, outlived: None, .. } = open else { return None };
    if session.end == SessionEnd::Ours {
        return None;
    }
    let signal = facts.restarts.iter().filter(|fault| fault.server == *server).find_map(|fault| {
        let sent = fault.at(Step::TermSent).or(fault.at(Step::KillSent))?;
        (sent <= session.ended && fault.at(Step::Exited).is_none_or(|exited| exited > session.ended)).then_some(sent)
    });
    let stage = match signal {
        Some(sent) => format!("{:.3} s after its signal", session.ended.since(sent).as_secs_f64()),
        None => "which nobody was restarting".to_owned(),
    };
    let silent = session.ended.since(session.last_line.unwrap_or(open.asked)).as_secs_f64();
    Some(Verdict::Violated {
        expected: format!("to be carried as long as {server} lives"),
        actual: format!(
            "{} was over at {} ({}), {silent:.3} s after its last line; {server} still ran, {stage}",
            session.probe,
            facts.clock(session.ended),
            session.ending()
        ),
        excerpt: around(facts, open),
    })
}

/// What was not put to the test: a kind of session that nobody had open on an apiserver when it was stopped.
fn untested(facts: &Facts<'_>, used: &[&Open<'_>]) -> Option<Verdict> {
    let kinds: BTreeSet<SessionKind> = used.iter().map(|open| open.session.kind).collect();
    if kinds.is_empty() {
        return Some(Verdict::inconclusive("no session was open"));
    }
    let missing = facts.restarts.iter().flat_map(|fault| kinds.iter().map(move |kind| (fault, *kind))).find(
        |(fault, kind)| {
            let there = |open: &&&Open<'_>| open.asked <= fault.on && open.session.ended >= fault.on;
            !used.iter().filter(there).any(|open| open.session.kind == *kind && open.server == fault.server)
        },
    )?;
    Some(Verdict::inconclusive(format!("no {} was open on {} when it was stopped", missing.1, missing.0.server)))
}

/// Whether a session was open on another apiserver at that moment.
fn is_beside(open: &Open<'_>, stopped: &str, at: Moment) -> bool {
    open.server != stopped && open.asked <= at && open.session.ended >= at
}

/// The sessions that were open, with their apiservers; `None` where no audit log has one of them.
fn sessions<'a>(facts: &Facts<'a>) -> Option<Vec<Open<'a>>> {
    let opened = all(facts).filter(|(_, session)| session.opened());
    let attributed = opened.map(|(asked, session)| {
        let server = facts.audit.server_of(&session.audit_id)?;
        let mut exits = facts.lifecycle.iter().filter(|(_, step)| step.server == server && step.step == Step::Exited);
        let outlived = exits.find(|(at, _)| *at >= asked && *at <= session.ended + CLOSE_NOTICED).map(|(at, _)| *at);
        Some(Open { asked, session, server, outlived })
    });
    attributed.collect()
}

fn unattributed() -> (Verdict, Vec<Figure>) {
    (Verdict::inconclusive("a session is in no apiserver's audit log"), Vec::new())
}

fn all<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (Moment, &'a Session)> {
    facts.recording.each(|event| if let Event::Session(session) = event { Some(session) } else { None })
}

fn around(facts: &Facts<'_>, open: &Open<'_>) -> Vec<String> {
    excerpt(facts, open.session.ended, |event| match event {
        Event::Session(session) => session == open.session,
        Event::Lifecycle(step) => step.server == open.server,
        Event::BackendHealth(health) => health.server == open.server,
        _ => false,
    })
}
