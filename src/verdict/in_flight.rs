//! ROLLOUT-9: what was in flight at SIGTERM completes, whole, and takes effect exactly once.
//!
//! Judged is what was in flight when its apiserver got SIGTERM; what was over before, or began later, is not.
//!
//! ```text
//! POST received, SIGTERM, rest of the body sent, 201, 1 object     ->  upheld
//! LIST received, SIGTERM, read on, 200, 24 of 24 items             ->  upheld
//! POST received, SIGTERM, rest of the body sent, reset             ->  violated
//! POST received, SIGTERM, rest of the body sent, 201, 2 objects    ->  violated: took effect twice
//! POST received, SIGTERM, we did not run for 40 s, 504             ->  inconclusive: we held it too long
//! POST let go before SIGTERM, none under way at SIGTERM            ->  inconclusive
//! POST reset, and its apiserver got no SIGTERM                     ->  not judged
//! ```

use std::collections::BTreeSet;

use super::conclusive::{Rests, breach, every_fault, unproven};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{ErrorClass, Event, Held, InFlight, Moment, Restart, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    match facts.disturbance() {
        None => return (Verdict::inconclusive("no apiserver was restarted here"), Vec::new()),
        Some(Restart::Killed) => {
            let why = "apiservers were killed here: this is about SIGTERM";
            return (Verdict::inconclusive(why), Vec::new());
        }
        Some(Restart::Graceful) => {}
    }
    let kinds: BTreeSet<Held> = facts.in_flight.iter().map(|(_, held)| held.held).collect();
    if kinds.is_empty() {
        return (Verdict::inconclusive("no request was held in flight"), Vec::new());
    }
    let mut met = Vec::new();
    let mut unmet = None;
    for restart in &facts.restarts {
        for kind in &kinds {
            let caught: Vec<_> = facts.in_flight.iter().filter(|(_, held)| caught(restart, *kind, held)).collect();
            if caught.is_empty() {
                unmet.get_or_insert_with(|| {
                    format!("no {kind:?} is known to have been in flight on {} at its SIGTERM", restart.server)
                });
            }
            met.extend(caught.into_iter().map(|(at, held)| (*at, *held, restart)));
        }
    }
    let verdicts = facts.in_flight.iter().filter_map(|(_, held)| {
        let restart = facts.restarts.iter().find(|restart| struck(restart, held))?;
        let what = broken(held)?;
        Some(unproven(Restart::Graceful, restart).map_or_else(|| judged(facts, held, what), Verdict::inconclusive))
    });
    let verdict = Verdict::worst(verdicts).unwrap_or_else(|| {
        let unknown = || {
            let unknown = met.iter().find(|(_, held, _)| held.got.is_none())?;
            Some(format!("nobody could tell the effect of {}", unknown.1.audit_id))
        };
        every_fault(facts).or(unmet).or_else(unknown).map_or(Verdict::Upheld, Verdict::inconclusive)
    });
    (verdict, figures(&met))
}

/// Whether a request was in flight on the server when that got SIGTERM. One that was over when it was to be let go was cut meanwhile; if that
/// was before SIGTERM, it was not in flight then.
fn struck(restart: &Restarted<'_>, held: &InFlight) -> bool {
    let Some(term) = restart.at(Step::TermSent) else { return false };
    held.server == restart.server
        && held.received.is_some_and(|received| received <= term)
        && held.finished >= term
        && (held.under_way || held.resumed >= term)
}

/// Whether a request of that kind was, and was still under way when it was let go afterwards.
fn caught(restart: &Restarted<'_>, kind: Held, held: &InFlight) -> bool {
    let term = restart.at(Step::TermSent);
    struck(restart, held) && held.held == kind && held.under_way && term.is_some_and(|term| held.resumed >= term)
}

/// A violation, unless it is one of time, which we may have taken ourselves.
fn judged(facts: &Facts<'_>, held: &InFlight, what: String) -> Verdict {
    let timeout = held.failure.as_ref().is_some_and(|failure| failure.class == ErrorClass::Timeout);
    let rests = match timeout || matches!(held.status, Some(408 | 504)) {
        true => Rests::OnTime(held.received.unwrap_or(held.resumed), held.finished),
        false => Rests::OnRecord,
    };
    breach(facts, rests, violated(facts, held, what))
}

fn broken(held: &InFlight) -> Option<String> {
    let (wanted, got) = (held.wanted, held.got);
    let what = match (held.held, &held.failure, held.status, got) {
        (_, Some(failure), _, _) => format!("failed: {} ({})", failure.class, failure.text),
        (_, None, Some(status), _) if !(200..300).contains(&status) => format!("was answered {status}"),
        (_, None, None, _) => "was not answered".to_owned(),
        (Held::Create, None, _, Some(got)) if got != wanted => format!("was acknowledged, and {got} objects exist"),
        (Held::List, None, _, Some(got)) if got != wanted => format!("brought {got} of {wanted} items"),
        _ => return None,
    };
    Some(what)
}

fn violated(facts: &Facts<'_>, held: &InFlight, what: String) -> Verdict {
    let InFlight { probe, server, audit_id, .. } = held;
    let effects = match (held.held, held.got) {
        (Held::Create, Some(objects)) if held.failure.is_some() => format!("; {objects} objects exist"),
        _ => String::new(),
    };
    let life = facts.restarts.iter().find(|restart| restart.server == *server && restart.on <= held.finished);
    let term = life.and_then(|restart| restart.at(Step::TermSent));
    let after = term.map_or(String::new(), |term| {
        format!(", {:.3} s after {server} got SIGTERM", held.finished.since(term).as_secs_f64())
    });
    Verdict::Violated {
        expected: "what is in flight to complete, whole, and to take effect exactly once".to_owned(),
        actual: format!("{probe} ({audit_id}) {what}{after}{effects}"),
        excerpt: excerpt(facts, held.finished, |event| match event {
            Event::InFlight(other) => other.audit_id == *audit_id,
            Event::Lifecycle(step) => step.server == *server,
            Event::Audited(audited) => audited.audit_id == *audit_id,
            _ => false,
        }),
    }
}

fn figures(met: &[(Moment, &InFlight, &Restarted<'_>)]) -> Vec<Figure> {
    let after = |held: &InFlight, restart: &Restarted<'_>| Some(held.finished.since(restart.at(Step::TermSent)?));
    let longest = met.iter().filter_map(|(_, held, restart)| after(held, restart)).max();
    // Nothing but what is in flight keeps a server alive that has closed its listener.
    let draining = met.iter().filter(|(_, held, restart)| {
        restart.at(Step::HTTPServerStoppedListening).is_some_and(|closed| closed <= held.resumed)
    });
    vec![
        Figure::count("in flight at SIGTERM", met.len()),
        Figure::count("of them completed", met.iter().filter(|(_, held, _)| held.completed()).count()),
        Figure::count("of them let go after the listener had closed", draining.count()),
        Figure::seconds("longest from SIGTERM to its end", longest.unwrap_or_default()),
    ]
}
