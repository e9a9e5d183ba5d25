//! ROLLOUT-6: a restarted apiserver takes traffic again soon.
//!
//! ```text
//! Started, Ready after 2.4 s, MetThroughBalancer after 3.6 s         ->  upheld (bound 21.5 s)
//! Started, Ready after 2.4 s, MetThroughBalancer after 30 s          ->  violated
//! Started, Ready after 2.4 s, the recording goes on for a minute     ->  violated: never met
//! Started, Ready after 2.4 s, the recording ends                     ->  inconclusive
//! Started, we ourselves do not run for 20 s, Ready after 30 s        ->  inconclusive
//! ```

use super::conclusive::{Rests, breach, every_fault, unproven};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let Some(how) = facts.disturbance() else {
        return (Verdict::inconclusive("no apiserver was restarted here"), Vec::new());
    };
    // A server that never comes back leaves its fault unfinished and the others undone: that is the violation, not a
    // flaw of the recording. So here a fault counts once it is proven; only to be upheld takes all of them.
    let verdicts = facts.restarts.iter().map(|restart| match (unproven(how, restart), claim(facts, restart)) {
        (Some(why), _) => Verdict::inconclusive(why),
        (None, verdict) => verdict,
    });
    // That it was ready and was met in time is a fact, whatever we did meanwhile.
    let verdict = match Verdict::worst(verdicts).unwrap_or(Verdict::Upheld) {
        Verdict::Upheld => every_fault(facts).map_or(Verdict::Upheld, Verdict::inconclusive),
        verdict => verdict,
    };
    (verdict, figures(facts))
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>) -> Verdict {
    let (server, bound) = (restart.server, facts.bounds.back);
    let Some(started) = restart.at(Step::Started) else {
        return Verdict::inconclusive(format!("{server} was not started again"));
    };
    let late = [Step::Ready, Step::MetThroughBalancer].into_iter().find_map(|step| {
        let reached = restart.steps.iter().find(|(at, seen)| seen.step == step && *at >= started).map(|(at, _)| *at);
        let took = reached.unwrap_or(facts.end).since(started);
        (took > bound || reached.is_none()).then_some((step, reached, took))
    });
    match late {
        None => Verdict::Upheld,
        Some((step, None, took)) if took <= bound => Verdict::inconclusive(format!(
            "the recording ends {:.3} s after {server} was started, before {step:?}",
            took.as_secs_f64()
        )),
        Some((step, reached, took)) => {
            let (seconds, at) = (took.as_secs_f64(), reached.unwrap_or(facts.end));
            let when = if reached.is_some() { "took" } else { "had not come after" };
            let violated = violated(facts, server, at, format!("{server}: {step:?} {when} {seconds:.3} s"));
            breach(facts, Rests::OnTime(started, at), violated)
        }
    }
}

fn violated(facts: &Facts<'_>, server: &str, at: Moment, actual: String) -> Verdict {
    Verdict::Violated {
        expected: format!("Ready and MetThroughBalancer within {:.3} s of Started", facts.bounds.back.as_secs_f64()),
        actual,
        excerpt: excerpt(facts, at, |event| match event {
            Event::Lifecycle(step) => step.server == server,
            Event::BackendHealth(health) => health.server == server,
            _ => false,
        }),
    }
}

fn figures(facts: &Facts<'_>) -> Vec<Figure> {
    let slowest = |step| {
        let spans =
            facts.restarts.iter().filter_map(move |restart| Some(restart.at(step)?.since(restart.at(Step::Started)?)));
        spans.max()
    };
    let named = [("slowest ready", Step::Ready), ("slowest back", Step::MetThroughBalancer)];
    named.into_iter().filter_map(|(name, step)| Some(Figure::seconds(name, slowest(step)?))).collect()
}
