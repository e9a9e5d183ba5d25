//! Whether a recording is good enough for a verdict: the same for every claim.
//!
//! A fault that was not seen to bite proves nothing; an outage can hide where there was too little traffic; and where
//! we ourselves stalled, a late answer may be our lateness.
//!
//! ```text
//! SIGTERM sent, process gone, ShutdownInitiated never seen      ->  inconclusive: the fault is not proven
//! 12 requests before, 3 during, 40 after (bound: 10 each)       ->  upheld becomes inconclusive, violated stands
//! our ticker was late by 0.8 s during the roll (bound: 0.5 s)   ->  inconclusive, whatever was found
//! an undisturbed apiserver left a check of the balancer unanswered  ->  violated becomes inconclusive
//! ```

use super::Verdict;
use super::facts::{Facts, Restarted};
use crate::timeline::{Loss, Moment, Restart, Step};

/// How much a probe did before, during and after the disturbance.
pub(super) struct Traffic {
    who: String,
    /// Successful samples before the first fault; in a recording without faults, all of them.
    before: u32,
    /// Samples of any outcome during the disturbance.
    during: u32,
    /// Successful samples after the last fault.
    after: u32,
    /// The first sample.
    first: Option<Moment>,
}

impl Traffic {
    /// Counts samples, given as when they began and whether they succeeded.
    pub(super) fn of(facts: &Facts<'_>, who: String, samples: impl Iterator<Item = (Moment, bool)>) -> Self {
        let mut traffic = Self { who, before: 0, during: 0, after: 0, first: None };
        let (from, until) = if facts.disturbance().is_some() { facts.disturbed() } else { (facts.end, facts.end) };
        for (at, succeeded) in samples {
            traffic.first.get_or_insert(at);
            if facts.disturbance().is_none() || at < from {
                traffic.before += u32::from(succeeded);
            } else if at <= until {
                traffic.during += 1;
            } else {
                traffic.after += u32::from(succeeded);
            }
        }
        traffic
    }
}

/// What may be said, given what a claim has `found` and the traffic of the probes that it speaks of.
///
/// A violation stands once the fault is proven and the probe was seen working before it: the probe may well have been
/// unable to do much after. To be upheld takes enough traffic in every stretch.
pub(super) fn conclude(facts: &Facts<'_>, traffic: &[&Traffic], found: Verdict) -> Verdict {
    let reason = match &found {
        Verdict::Inconclusive { .. } => None,
        Verdict::Violated { .. } => every_fault(facts)
            .or_else(|| traffic.iter().find_map(|traffic| idle_before(facts, traffic)))
            .or_else(|| {
                let first = traffic.iter().filter_map(|traffic| traffic.first).min();
                stalled(facts, first.unwrap_or(facts.disturbed().0), facts.end)
            })
            .or_else(|| starved(facts)),
        Verdict::Upheld => every_fault(facts)
            .or_else(|| traffic.iter().find_map(|traffic| idle_before(facts, traffic)))
            .or_else(|| traffic.iter().find_map(|traffic| idle_later(facts, traffic)))
            .or_else(|| {
                let (from, until) = facts.disturbed();
                let first = traffic.iter().filter_map(|traffic| traffic.first).min();
                stalled(facts, first.map_or(from, |first| first.max(from)), until)
            }),
    };
    reason.map_or(found, Verdict::inconclusive)
}

/// Why the announced disturbance was not seen to happen to every server, if so.
pub(super) fn every_fault(facts: &Facts<'_>) -> Option<String> {
    let restart = facts.disturbance()?;
    let servers = &facts.recording.header.servers;
    if servers.is_empty() {
        return Some("the header names no apiserver that could have been disturbed".to_owned());
    }
    for server in servers {
        let mut faults = facts.restarts.iter().filter(|fault| fault.server == server.name).peekable();
        if faults.peek().is_none() {
            return Some(format!("no {restart} of {} is in the recording", server.name));
        }
        for fault in faults {
            if fault.off.is_none() {
                return Some(format!("the {restart} of {} was never over", server.name));
            }
            if let Some(why) = unproven(restart, fault) {
                return Some(why);
            }
        }
    }
    None
}

/// Why a fault is not seen to have bitten, if so: a graceful restart without ShutdownInitiated and the end of the
/// process after SIGTERM, a kill without the end of the process after SIGKILL or with a graceful termination before it.
pub(super) fn unproven(restart: Restart, fault: &Restarted<'_>) -> Option<String> {
    let server = fault.server;
    let (signal, name) = match restart {
        Restart::Graceful => (Step::TermSent, "SIGTERM"),
        Restart::Killed => (Step::KillSent, "SIGKILL"),
    };
    let Some(sent) = fault.at(signal) else {
        return Some(format!("{server} is to be stopped by {name}, and none was sent"));
    };
    if fault.at(Step::Exited).is_none_or(|exited| exited < sent) {
        return Some(format!("{server} was sent {name} and is not seen to end"));
    }
    match (restart, fault.at(Step::ShutdownInitiated)) {
        (Restart::Graceful, None) => {
            Some(format!("{server} ended, but its log does not tell of ShutdownInitiated: the stop was not graceful"))
        }
        (Restart::Killed, Some(_)) => Some(format!("{server} was to be killed, but went through ShutdownInitiated")),
        _ => None,
    }
}

/// Where we ourselves did not run for longer than the bound, if anywhere in that window.
pub(super) fn stalled(facts: &Facts<'_>, from: Moment, until: Moment) -> Option<String> {
    let bound = facts.bounds.stall;
    let overlaps = |at: Moment, span| span > bound && at <= until && at + span >= from;
    let (at, span) = facts.stalls.iter().copied().find(|(at, span)| overlaps(*at, *span))?;
    Some(format!(
        "rollproof itself did not run for {:.3} s from {} on (bound {:.3} s): run it on a machine with less other work",
        span.as_secs_f64(),
        facts.clock(at),
        bound.as_secs_f64()
    ))
}

/// Where an apiserver that nobody disturbed did not answer the balancer's check in time, and so went out of service, if
/// anywhere: on a machine with two cores that is what a neighbour's start does. Whatever failed then may have failed of it.
fn starved(facts: &Facts<'_>) -> Option<String> {
    let disturbed = |at: Moment, server: &str| {
        let mut restarts = facts.restarts.iter().filter(|restart| restart.server == server);
        let lost = |(on, off, loss): &(Moment, Option<Moment>, &Loss)| {
            // A check that was lost is known to be some time later.
            let known = off.map(|off| off + facts.recording.header.timers.detection());
            loss.server == server && at >= *on && known.is_none_or(|known| at <= known)
        };
        restarts.any(|restart| at >= restart.on && restart.off.is_none_or(|off| at <= off))
            || facts.losses.iter().any(lost)
            || frozen(facts, at, server)
    };
    let (at, health) = facts.unanswered.iter().find(|(at, health)| !disturbed(*at, &health.server))?;
    Some(format!(
        "{}, which nobody disturbed, went out of service at {} ({}): run it on a machine with less other work",
        health.server,
        facts.clock(*at),
        health.why
    ))
}

/// Whether an apiserver was frozen then, or until so short a time before that a check which it had not answered was not known yet.
fn frozen(facts: &Facts<'_>, at: Moment, server: &str) -> bool {
    let known = facts.recording.header.timers.detection();
    let steps = facts.lifecycle.iter().filter(|(_, step)| step.server == server);
    let before = steps.filter(|(seen, _)| *seen <= at);
    before
        .filter(|(_, step)| matches!(step.step, Step::Frozen | Step::Thawed))
        .last()
        .is_some_and(|(seen, last)| last.step == Step::Frozen || at.since(*seen) <= known)
}

fn idle_before(facts: &Facts<'_>, traffic: &Traffic) -> Option<String> {
    let stretch = if facts.disturbance().is_some() { "before the first fault" } else { "in the whole recording" };
    too_few(facts, &traffic.who, traffic.before, &format!("successful samples {stretch}"))
}

fn idle_later(facts: &Facts<'_>, traffic: &Traffic) -> Option<String> {
    facts.disturbance()?;
    too_few(facts, &traffic.who, traffic.during, "samples during the disturbance")
        .or_else(|| too_few(facts, &traffic.who, traffic.after, "successful samples after the last fault"))
}

fn too_few(facts: &Facts<'_>, who: &str, count: u32, of_what: &str) -> Option<String> {
    let bound = facts.bounds.samples;
    (count < bound).then(|| format!("{who} has {count} {of_what}, it takes {bound}"))
}
