//! SESSION-1 to -4: sessions into a pod last as long as their apiserver, also when they are quiet; their end is told; new ones open.
//!
//! Which apiserver a session is on is said by the audit log that has its Audit-ID. It ends its sessions with its process: one that
//! is over before was ended by somebody else ([`session_ends`](super::session_ends)).
//!
//! ```text
//! exec on apiserver-0, SIGTERM at 5, process gone at 11, exec reset at 11.0          ->  SESSION-1 and -3 upheld
//! exec on apiserver-0, SIGTERM at 5, exec reset at 6.5, process gone at 11           ->  SESSION-1 violated
//! exec on apiserver-1, apiserver-0 is stopped, exec reset                            ->  SESSION-1 violated
//! exec without a line for 6 s, then reset with its apiserver                         ->  SESSION-1 inconclusive
//! no port-forward was open on apiserver-0 at its SIGTERM                             ->  SESSION-1 inconclusive
//! quiet exec, silent for 12 s, then its line comes back                              ->  SESSION-2 upheld
//! quiet exec, reset when it had been silent for 11 s, its apiserver lives            ->  SESSION-2 violated
//! two quiet ones, silent for 12 s, and only one has answered                         ->  SESSION-2 inconclusive
//! exec on apiserver-0, killed at 5, no line for 10 s and no word why                 ->  SESSION-3 violated
//! the same, and we did not run for 3 s of it                                         ->  SESSION-3 inconclusive
//! exec is asked for at 8, connection refused                                         ->  SESSION-4 violated
//! none is asked for during 6 s of a restart                                          ->  SESSION-4 inconclusive
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::conclusive::{Rests, Traffic, conclude, first_breach, with_a_hole};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::outage::began_at;
use super::session_ends::{Ended, Open, Witnesses};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Restart, Session, SessionEnd, SessionKind, Step};

/// SESSION-1.
pub(super) fn not_cut(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (open, stranger) = sessions(facts);
    let used: Vec<_> = open.iter().filter(|open| open.session.quiet.is_none()).collect();
    let doubts = [cut(facts, &used), stranger, untested(facts, &used), unused(facts, &used)];
    let found = Verdict::worst(doubts.into_iter().flatten()).unwrap_or(Verdict::Upheld);
    let others = used.iter().filter(|open| facts.restarts.iter().any(|fault| is_beside(open, fault.server, fault.on)));
    let longest = used.iter().map(|open| longest_wait(open)).max().unwrap_or_default();
    let figures = vec![
        Figure::count(format!("sessions into {}", facts.behind_sessions()), used.len()),
        Figure::count(
            "of them ended with their apiserver",
            used.iter().filter(|open| open.ended_by_server().is_some()).count(),
        ),
        Figure::count("of them seen through another's restart", others.count()),
        Figure::millis("longest wait", longest),
    ];
    (conclude(facts, &[], found), figures)
}

/// SESSION-2.
pub(super) fn quiet(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (open, stranger) = sessions(facts);
    let quiet: Vec<_> = open.iter().filter(|open| open.session.quiet.is_some()).collect();
    let answers = quiet.iter().map(|open| open.session.after_silence).fold(0, u64::saturating_add);
    let doubts = [cut(facts, &quiet), stranger, unanswered(facts, &quiet)];
    let found = Verdict::worst(doubts.into_iter().flatten()).unwrap_or(Verdict::Upheld);
    let silence = quiet.iter().filter_map(|open| open.session.quiet).max().unwrap_or_default();
    let figures = vec![Figure::seconds("silence", silence), Figure::count("answers after it", answers as usize)];
    (conclude(facts, &[], found), figures)
}

/// SESSION-3.
pub(super) fn told(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (open, stranger) = sessions(facts);
    let bound = facts.bounds.close_noticed;
    let breaches = open.iter().filter_map(|open| match (open.session.end == SessionEnd::Silence, open.told_after()) {
        (_, Some(after)) if after > bound => Some((open, open.exited.unwrap_or(open.due()))),
        (true, _) => Some((open, open.due())),
        _ => None,
    });
    let violated =
        first_breach(facts, breaches.map(|(open, from)| (Rests::OnTime(from, open.session.ended), open)), |open| {
            let Session { probe, ended, last_line, .. } = open.session;
            let silent = ended.since(last_line.unwrap_or(open.asked)).as_secs_f64();
            let why = match open.told_after() {
                Some(after) => format!(", {:.3} s after the end of {}", after.as_secs_f64(), open.server),
                None => String::new(),
            };
            let how = open.session.ending();
            Verdict::Violated {
                expected: format!("to be told within {:.3} s", bound.as_secs_f64()),
                actual: format!("{probe}: {how} after {silent:.3} s without a line{why}"),
                excerpt: around(facts, open),
            }
        });
    let longest = open.iter().filter(|open| open.how == Ended::WithServer).filter_map(Open::told_after).max();
    let doubts = [violated, stranger, untold(facts, &open)];
    let found = Verdict::worst(doubts.into_iter().flatten()).unwrap_or(Verdict::Upheld);
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
    // A refusal may be a balancer's that a stall of ours has kept from looking.
    let refused = asked.iter().filter(|(_, session)| !session.opened());
    let refused = refused.map(|(at, session)| (Rests::OnTime(began_at(facts, *at), session.ended), (*at, *session)));
    let broken = first_breach(facts, refused, |(at, session)| Verdict::Violated {
        expected: format!("{} to be opened", session.kind),
        actual: format!("{}: {}", session.probe, session.ending()),
        excerpt: excerpt(facts, at, |event| match event {
            Event::Session(other) => other.probe == session.probe,
            Event::Lifecycle(_) | Event::BackendHealth(_) => true,
            _ => false,
        }),
    });
    let found = match broken {
        Some(broken) => broken,
        None if asked.len() < facts.bounds.samples as usize => Verdict::inconclusive(format!(
            "{} sessions were asked for during the disturbance; at least {} are needed",
            asked.len(),
            facts.bounds.samples
        )),
        None => {
            let took = |session: &Session, at: Moment| session.opened_after.unwrap_or(session.ended.since(at));
            let samples = all(facts).map(|(at, session)| (at, took(session, at), session.opened()));
            let traffic = Traffic::of(facts, "a user of new sessions".to_owned(), facts.bounds.session_gap, samples);
            with_a_hole(facts, &traffic).map_or(Verdict::Upheld, Verdict::inconclusive)
        }
    };
    let slowest = asked.iter().filter_map(|(_, session)| session.opened_after).max().unwrap_or_default();
    let figures = vec![Figure::count("sessions asked for", asked.len()), Figure::millis("slowest to answer", slowest)];
    (conclude(facts, &[], found), figures)
}

/// The breach, if a session ended while its apiserver lived; or why nobody knows.
fn cut(facts: &Facts<'_>, open: &[&Open<'_>]) -> Option<Verdict> {
    let before = open.iter().filter(|open| open.how == Ended::Before);
    let found = first_breach(facts, before.map(|open| (open.rests(facts), *open)), |open| {
        let (session, server) = (open.session, open.server);
        let signal = facts.restarts.iter().filter(|fault| fault.server == server).find_map(|fault| {
            let sent = fault.at(Step::TermSent).or(fault.at(Step::KillSent))?;
            (sent <= session.ended && fault.at(Step::Exited).is_none_or(|exited| exited > session.ended))
                .then_some(sent)
        });
        let stage = match signal {
            Some(sent) => format!("{:.3} s after its signal", session.ended.since(sent).as_secs_f64()),
            None => "which nobody was restarting".to_owned(),
        };
        let silent = session.ended.since(session.last_line.unwrap_or(open.asked)).as_secs_f64();
        Verdict::Violated {
            expected: format!("to be carried as long as {server} lives"),
            actual: format!(
                "{} was over at {} ({}), {silent:.3} s after its last line; {server} still ran, {stage}",
                session.probe,
                facts.clock(session.ended),
                session.ending()
            ),
            excerpt: around(facts, open),
        }
    });
    let unknown = open.iter().find_map(|open| match &open.how {
        Ended::Unknown(why) => Some(Verdict::inconclusive(why)),
        _ => None,
    });
    Verdict::worst(found.into_iter().chain(unknown))
}

/// What was not put to the test: a kind of session that nobody had open on an apiserver when it was stopped.
fn untested(facts: &Facts<'_>, used: &[&Open<'_>]) -> Option<Verdict> {
    let kinds: BTreeSet<SessionKind> = used.iter().map(|open| open.session.kind).collect();
    if kinds.is_empty() {
        return Some(Verdict::inconclusive("no session was open"));
    }
    let missing = facts.restarts.iter().flat_map(|fault| kinds.iter().map(move |kind| (fault, *kind))).find(
        |(fault, kind)| {
            let opened = |open: &Open<'_>| open.asked + open.session.opened_after.unwrap_or_default();
            let there = |open: &&&Open<'_>| opened(open) <= fault.signal() && open.session.ended >= fault.signal();
            !used.iter().filter(there).any(|open| open.session.kind == *kind && open.server == fault.server)
        },
    )?;
    Some(Verdict::inconclusive(format!("no {} was open on {} when it was stopped", missing.1, missing.0.server)))
}

/// The longest that a session in use was without a line, but for its opening.
fn longest_wait(open: &Open<'_>) -> Duration {
    let Session { lines, longest_wait, last_line, ended, .. } = open.session;
    let lived = open.ended_by_server().unwrap_or(*ended).min(*ended);
    let wait = if *lines > 1 { *longest_wait } else { Duration::ZERO };
    wait.max(lived.since(last_line.unwrap_or(open.asked)))
}

/// A session in use that was without a line for so long that nobody knows whether it was carried.
fn unused(facts: &Facts<'_>, used: &[&Open<'_>]) -> Option<Verdict> {
    let gap = facts.bounds.session_gap;
    let idle = used.iter().find(|open| longest_wait(open) > gap)?;
    Some(Verdict::inconclusive(format!(
        "{} was without a line for {:.3} s, and may be for {:.3} s",
        idle.session.probe,
        longest_wait(idle).as_secs_f64(),
        gap.as_secs_f64()
    )))
}

/// A quiet session that was there for longer than its silence and has not answered after one; or a kind of which none has.
fn unanswered(facts: &Facts<'_>, quiet: &[&Open<'_>]) -> Option<Verdict> {
    let silent = |open: &&&Open<'_>| {
        let Session { quiet, opened_after, ended, .. } = open.session;
        let enough = quiet.unwrap_or_default() + opened_after.unwrap_or_default() + facts.bounds.close_noticed;
        let lived = open.ended_by_server().unwrap_or(*ended).min(*ended);
        open.session.after_silence == 0 && lived.since(open.asked) > enough
    };
    if let Some(open) = quiet.iter().find(silent) {
        let Session { probe, ended, .. } = open.session;
        let lasted = ended.since(open.asked).as_secs_f64();
        return Some(Verdict::inconclusive(format!(
            "{probe} was there for {lasted:.3} s and has not answered after a silence"
        )));
    }
    let mut answered: BTreeMap<SessionKind, bool> = BTreeMap::new();
    for open in quiet {
        *answered.entry(open.session.kind).or_default() |= open.session.after_silence > 0;
    }
    let Some((kind, _)) = answered.iter().find(|(_, answered)| !**answered) else {
        let none = "no quiet session was there for long enough to be silent";
        return answered.is_empty().then(|| Verdict::inconclusive(none));
    };
    Some(Verdict::inconclusive(format!("no quiet session was there for long enough to be silent ({kind})")))
}

/// Why an end that has to be told was not put to the test.
fn untold(facts: &Facts<'_>, open: &[Open<'_>]) -> Option<Verdict> {
    if facts.disturbance().is_none() {
        let all_ours = open.iter().all(|open| open.how == Ended::Ours);
        return all_ours.then(|| Verdict::inconclusive("no session came to an end that had to be told"));
    }
    let there = |server: &str, exited| {
        let its = |open: &&Open<'_>| open.server == server && open.exited == exited && open.how != Ended::Ours;
        open.iter().filter(its).any(|open| open.told_after().is_some())
    };
    let missing = facts.restarts.iter().find(|fault| !there(fault.server, fault.at(Step::Exited)))?;
    Some(Verdict::inconclusive(format!("no session was open when its apiserver ended ({})", missing.server)))
}

/// Whether a session was open on another apiserver at that moment.
fn is_beside(open: &Open<'_>, stopped: &str, at: Moment) -> bool {
    open.server != stopped && open.asked <= at && open.session.ended >= at
}

/// The sessions that were open, with their apiservers; and what is to be said if no audit log has one of them.
fn sessions<'a>(facts: &Facts<'a>) -> (Vec<Open<'a>>, Option<Verdict>) {
    let opened: Vec<_> = all(facts).filter(|(_, session)| session.opened()).collect();
    let witnesses = Witnesses::of(facts, &opened);
    let attributed = opened.iter().filter_map(|(asked, session)| {
        let server = facts.audit.server_of(&session.audit_id)?;
        Some(witnesses.tell(facts, *asked, session, server))
    });
    let attributed: Vec<_> = attributed.collect();
    let all = attributed.len() == opened.len();
    (attributed, (!all).then(|| Verdict::inconclusive("a session is in no apiserver's audit log")))
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
