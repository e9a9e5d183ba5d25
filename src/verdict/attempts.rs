//! ROLLOUT-13: no attempt at a request hangs while apiservers are gracefully restarted.
//!
//! Each attempt counts by itself, whether it succeeds or not: a retry, and each attempt of a client library. What lies between attempts is a
//! wait that somebody asked for. Requests that are held in flight on purpose are not asked, nor is who goes past the balancer.
//!
//! ```text
//! all attempts answered within 0.3 s                                ->  upheld (bound 5 s)
//! one answered after 5.2 s, or refused after 5.2 s                  ->  violated
//! library: 429 with Retry-After 6, then an answer, 6.1 s in all     ->  upheld
//! library: 504, then an answer, 8.1 s in all                        ->  inconclusive: it may have waited, or the answer was late
//! one answered after 5.2 s, and we ourselves did not run for 4 s    ->  inconclusive
//! nobody asked for 1.5 s of a restart (bound 1 s)                   ->  inconclusive
//! ```

use std::time::Duration;

use super::conclusive::{Rests, Traffic, breach, conclude, seen_working};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{Event, Exchange, Moment, Request, Restart};

/// One attempt at a request.
struct Attempt<'a> {
    who: &'a str,
    at: Moment,
    took: Duration,
    exchange: &'a Exchange,
    /// How much of it may have been a wait before it: a library does not tell when its last attempt began.
    waited: Duration,
}

/// One who asks through the balancer.
struct Asking<'a> {
    attempts: Vec<Attempt<'a>>,
    /// Whether there is enough of it; `None` of those who need not ask all the time.
    traffic: Option<Traffic>,
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() == Some(Restart::Killed) {
        let why = "apiservers were killed here: this is about graceful restarts";
        return (Verdict::inconclusive(why), Vec::new());
    }
    let asking = asking(facts);
    let mut took: Vec<_> = asking.iter().flat_map(|one| &one.attempts).map(|attempt| attempt.took).collect();
    took.sort_unstable();
    if asking.iter().all(|one| one.traffic.is_none()) {
        return (Verdict::inconclusive("no requester, client library or load is in the recording"), figures(&took));
    }
    let verdicts = asking.iter().map(|one| {
        let found = claim(facts, one);
        match &one.traffic {
            Some(traffic) => conclude(facts, &[traffic], seen_working(facts, traffic, found)),
            None => found,
        }
    });
    (Verdict::worst(verdicts).unwrap_or(Verdict::Upheld), figures(&took))
}

fn asking<'a>(facts: &'a Facts<'_>) -> Vec<Asking<'a>> {
    let gap = facts.bounds.request_gap;
    let mut all = Vec::new();
    for (probe, requests) in &facts.requesters {
        let samples = requests.iter().map(|(at, request)| (*at, request.exchange.took, request.exchange.succeeded()));
        let traffic = Traffic::of(facts, format!("the requester {probe}"), gap, samples).steady();
        let attempts = requests.iter().flat_map(|(at, request)| attempts(probe, *at, request)).collect();
        all.push(Asking { attempts, traffic: Some(traffic) });
    }
    if !facts.load.is_empty() {
        // The workers do the same in turn, so that there is enough traffic if all of them together have it.
        let steps = || facts.load.iter().flat_map(|(worker, steps)| steps.iter().map(|step| (*worker, step)));
        let samples = steps().map(|(_, (at, load))| (*at, load.exchange.took, load.succeeded()));
        let traffic = Traffic::of(facts, "the load".to_owned(), gap, samples).steady();
        let attempts = steps().map(|(worker, (at, load))| Attempt::whole(worker, *at, &load.exchange)).collect();
        all.push(Asking { attempts, traffic: Some(traffic) });
    }
    let others = facts.recording.each(|event| match event {
        Event::Read(read) => Some((read.probe.as_str(), &read.exchange)),
        Event::GuardedUpdate(update) => Some((update.probe.as_str(), &update.exchange)),
        _ => None,
    });
    let others = others.map(|(at, (probe, exchange))| Attempt::whole(probe, at, exchange)).collect();
    all.push(Asking { attempts: others, traffic: None });
    all
}

impl<'a> Attempt<'a> {
    fn whole(who: &'a str, at: Moment, exchange: &'a Exchange) -> Self {
        Self { who, at, took: exchange.took, exchange, waited: Duration::ZERO }
    }
}

/// A request's attempts. Of a library's last one the recording has no moment, but that it came after the one before, and after the wait that
/// was asked for.
fn attempts<'a>(who: &'a str, at: Moment, request: &'a Request) -> impl Iterator<Item = Attempt<'a>> {
    let before = request.attempts.iter().map(move |one| Attempt::whole(who, one.at, &one.exchange));
    let last = match request.attempts.last() {
        None => Attempt::whole(who, at, &request.exchange),
        Some(one) => {
            let over = one.at + one.exchange.took;
            let asked_for = Duration::from_secs(one.exchange.retry_after.unwrap_or(0).into());
            let rest = (at + request.exchange.took).since(over);
            let (began, took) = (over + asked_for.min(rest), rest.saturating_sub(asked_for));
            Attempt { who, at: began, took, exchange: &request.exchange, waited: took }
        }
    };
    before.chain([last])
}

fn claim(facts: &Facts<'_>, asking: &Asking<'_>) -> Verdict {
    let bound = facts.bounds.attempt;
    let (disturbed, _) = facts.disturbed();
    let slow = asking.attempts.iter().filter(|attempt| attempt.took > bound);
    // What was over before anything was disturbed is none of a restart's; where nobody restarts anything, it is.
    let early = |attempt: &&Attempt<'_>| !facts.restarts.is_empty() && attempt.at + attempt.took < disturbed;
    let (early, mut slow): (Vec<_>, Vec<_>) = slow.partition(early);
    slow.sort_by_key(|attempt| std::cmp::Reverse(attempt.took));
    let verdicts = slow.iter().map(|attempt| match attempt.waited.is_zero() {
        true => {
            let rests = Rests::OnTime(attempt.at, attempt.at + attempt.took);
            breach(facts, rests, violated(facts, attempt, slow.len()))
        }
        false => Verdict::inconclusive(format!(
            "{} repeated a request, and had its answer {:.3} s after the attempt before: how long it waited, the recording does not tell",
            attempt.who,
            attempt.took.as_secs_f64()
        )),
    });
    let too_early = || {
        let early = early.first()?;
        let (who, seconds, at) = (early.who, early.took.as_secs_f64(), facts.clock(early.at));
        Some(Verdict::inconclusive(format!(
            "an attempt took {seconds:.3} s before anything was disturbed, from {at} on ({who})"
        )))
    };
    Verdict::worst(verdicts).or_else(too_early).unwrap_or(Verdict::Upheld)
}

fn violated(facts: &Facts<'_>, slowest: &Attempt<'_>, count: usize) -> Verdict {
    let Attempt { who, at, took, exchange, .. } = slowest;
    let outcome = match (&exchange.failure, exchange.status) {
        (Some(failure), _) => failure.class.to_string(),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "no answer".to_owned(),
    };
    let (seconds, from) = (took.as_secs_f64(), facts.clock(*at));
    Verdict::Violated {
        expected: format!("no attempt longer than {:.3} s", facts.bounds.attempt.as_secs_f64()),
        actual: format!("{count} longer, the slowest {seconds:.3} s from {from} on ({outcome}, {who})"),
        excerpt: excerpt(facts, *at, |event| match event {
            Event::Request(request) => request.probe == *who,
            Event::Load(load) => load.worker == *who,
            Event::Read(read) => read.probe == *who,
            Event::GuardedUpdate(update) => update.probe == *who,
            Event::Lifecycle(_) | Event::BackendHealth(_) | Event::FaultOn(_) | Event::FaultOff(_) => true,
            _ => false,
        }),
    }
}

/// By how long the attempts took, in order.
fn figures(took: &[Duration]) -> Vec<Figure> {
    let p99 = took.get((took.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    vec![
        Figure::count("attempts", took.len()),
        Figure::millis("slowest attempt", took.last().copied().unwrap_or_default()),
        Figure::millis("p99 of attempts", p99),
    ]
}
