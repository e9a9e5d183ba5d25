//! Whether a recording is good enough for a verdict: the same for every claim.
//!
//! To be upheld takes evidence for all that the claim speaks of: every fault is seen to bite, every probe has samples throughout, and we
//! ourselves ran all the time. A violation takes no more than what it rests on: a record of somebody else's stands whatever we did meanwhile,
//! and a wait counts unless we stalled, or the machine had no time, during that wait.
//!
//! ```text
//! SIGTERM sent, process gone, ShutdownInitiated never seen          ->  upheld becomes inconclusive: the fault is not proven
//! 12 requests before, 3 during, 40 after (bound: 10 each)           ->  upheld becomes inconclusive, violated stands
//! 40 requests during, none for 3 s of a restart (bound: 1 s)        ->  likewise
//! our ticker was late by 0.8 s during the roll (bound: 0.5 s)       ->  upheld becomes inconclusive
//! the same, while an outage lasted                                  ->  that outage is inconclusive; one six seconds later stands
//! the same, while an event came twice                               ->  violated: no stall of ours does that
//! an outage while an undisturbed apiserver did not answer /livez    ->  inconclusive: the machine had no time for it
//! ```

use std::time::Duration;

use super::Verdict;
use super::facts::{Facts, Restarted};
use super::sound::{lifeless, unannounced_fault};
use crate::timeline::{Lifecycle, Loss, Moment, Restart, ServerHealth, Step};

/// What a breach rests on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rests {
    /// On what somebody else wrote down, or on a contradiction: no stall explains it.
    OnRecord,
    /// On what passed, or did not, between these moments, as we saw it.
    OnTime(Moment, Moment),
}

/// How much a probe did, and when.
pub(super) struct Traffic {
    who: String,
    /// When each sample began and ended, in order of their beginning.
    samples: Vec<(Moment, Moment)>,
    /// How long the longest of them took.
    longest: Duration,
    /// How long there may be no sample while an apiserver is restarted.
    gap: Duration,
    /// Successful samples before the first fault; in a recording without faults, all of them.
    before: u32,
    /// Samples of any outcome during the disturbance.
    during: u32,
    /// Successful samples after the last fault.
    after: u32,
    /// Whether it never rests, so that a recording without faults has to have samples throughout as well.
    steady: bool,
}

impl Traffic {
    /// Counts samples, given as when they began, how long they took and whether they succeeded. Between them may be no more than `gap`.
    pub(super) fn of(
        facts: &Facts<'_>,
        who: String,
        gap: Duration,
        samples: impl Iterator<Item = (Moment, Duration, bool)>,
    ) -> Self {
        let longest = Duration::ZERO;
        let mut traffic =
            Self { who, samples: Vec::new(), longest, gap, before: 0, during: 0, after: 0, steady: false };
        let (from, until) = if facts.disturbance().is_some() { facts.disturbed() } else { (facts.end, facts.end) };
        for (at, took, succeeded) in samples {
            traffic.samples.push((at, at + took));
            traffic.longest = traffic.longest.max(took);
            if facts.disturbance().is_none() || at < from {
                traffic.before += u32::from(succeeded);
            } else if at <= until {
                traffic.during += 1;
            } else {
                traffic.after += u32::from(succeeded);
            }
        }
        traffic.samples.sort_unstable();
        traffic
    }

    /// Of a probe that never rests.
    pub(super) fn steady(self) -> Self {
        Self { steady: true, ..self }
    }

    /// When the first sample began.
    fn first(&self) -> Option<Moment> {
        self.samples.first().map(|(at, _)| *at)
    }

    /// The first stretch of the window that no sample covers and that is longer than the gap.
    pub(super) fn hole(&self, (from, until): (Moment, Moment)) -> Option<(Moment, Moment)> {
        let mut covered = from;
        // Those before cannot reach into it.
        let first = self.samples.partition_point(|(began, _)| *began + self.longest < from);
        let meanwhile = self.samples[first..].iter().copied().take_while(|(began, _)| *began <= until);
        let edges = meanwhile.chain([(until, until)]);
        for (began, ended) in edges {
            if began.min(until).since(covered) > self.gap {
                return Some((covered, began.min(until)));
            }
            covered = covered.max(ended);
        }
        None
    }
}

/// What may be said, given what a claim has `found` and the traffic of the probes that it speaks of.
///
/// To be upheld takes enough traffic in every stretch. A violation stands: what it rests on was asked when it was [found](breach).
pub(super) fn conclude(facts: &Facts<'_>, traffic: &[&Traffic], found: Verdict) -> Verdict {
    let first = traffic.iter().filter_map(|traffic| traffic.first()).min();
    concluded(facts, traffic, found, || {
        let (from, until) = facts.disturbed();
        stalled(facts, first.map_or(from, |first| first.max(from)), until)
    })
}

/// Likewise for a claim about what is written down, in which no stall of ours could hide anything.
pub(super) fn conclude_from_records(facts: &Facts<'_>, traffic: &[&Traffic], found: Verdict) -> Verdict {
    concluded(facts, traffic, found, || None)
}

fn concluded(
    facts: &Facts<'_>,
    traffic: &[&Traffic],
    found: Verdict,
    hidden: impl FnOnce() -> Option<String>,
) -> Verdict {
    if found != Verdict::Upheld {
        return found;
    }
    let reason = every_fault(facts)
        .or_else(|| traffic.iter().find_map(|traffic| idle_before(facts, traffic)))
        .or_else(|| traffic.iter().find_map(|traffic| idle_later(facts, traffic)))
        .or_else(|| traffic.iter().find_map(|traffic| with_a_hole(facts, traffic)))
        .or_else(hidden);
    reason.map_or(found, Verdict::inconclusive)
}

/// A violation, unless what it rests on explains it otherwise: we did not run, the machine had no time for an apiserver, or it falls into a
/// restart that was not seen to happen as announced.
pub(super) fn breach(facts: &Facts<'_>, rests: Rests, violated: Verdict) -> Verdict {
    doubted(facts, rests).map_or(violated, Verdict::inconclusive)
}

/// The first of several breaches that stands, told as a violation; where none does, why the first is in doubt; `None` without any.
///
/// Only one is told, since an excerpt takes time.
pub(super) fn first_breach<T>(
    facts: &Facts<'_>,
    breaches: impl IntoIterator<Item = (Rests, T)>,
    tell: impl FnOnce(T) -> Verdict,
) -> Option<Verdict> {
    let mut doubt = None;
    for (rests, found) in breaches {
        match doubted(facts, rests) {
            None => return Some(tell(found)),
            Some(why) => drop(doubt.get_or_insert(why)),
        }
    }
    doubt.map(Verdict::inconclusive)
}

/// What else explains a breach, if anything.
fn doubted(facts: &Facts<'_>, rests: Rests) -> Option<String> {
    let Rests::OnTime(from, until) = rests else { return None };
    no_time(facts, from, until)
        .or_else(|| unproven_between(facts, from, until))
        // A restart that nobody announced ends connections, too.
        .or_else(|| unannounced_fault(facts).filter(|_| facts.other_faults.iter().any(|(at, _)| *at <= until)))
}

/// Why what passed between these moments, or did not, may have had no time to: we did not run, or the machine had none for an apiserver.
pub(super) fn no_time(facts: &Facts<'_>, from: Moment, until: Moment) -> Option<String> {
    stalled(facts, from, until).or_else(|| starved(facts, from, until)).or_else(|| {
        // Where the ticker is dead altogether, nothing is upheld; a violation is not voided by that.
        let (_, last) = facts.probed().filter(|_| !facts.ticked.is_empty())?;
        let margin = facts.bounds.stall;
        lifeless(facts, from - margin, (until + margin).min(last))
    })
}

/// A violation by a probe, unless it was not seen working before anything was disturbed.
pub(super) fn seen_working(facts: &Facts<'_>, traffic: &Traffic, found: Verdict) -> Verdict {
    match found {
        Verdict::Violated { .. } => idle_before(facts, traffic).map_or(found, Verdict::inconclusive),
        found => found,
    }
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

/// Why a restart that falls into that time is not proven, if so.
fn unproven_between(facts: &Facts<'_>, from: Moment, until: Moment) -> Option<String> {
    let restart = facts.disturbance()?;
    let mut meanwhile = facts.restarts.iter().filter(|fault| {
        let (on, off) = fault.window(facts.end);
        on <= until && off >= from
    });
    meanwhile.find_map(|fault| unproven(restart, fault))
}

/// Where we ourselves did not run for longer than the bound, if anywhere in that window: by a stall that was seen, or because there is no sign
/// of life.
pub(super) fn stalled(facts: &Facts<'_>, from: Moment, until: Moment) -> Option<String> {
    let bound = facts.bounds.stall;
    let stall = facts.stalls.within(from, until).find(|(_, span)| *span > bound);
    // A late tick is written down as a stall; where that is not there, it may have been anywhere in its span.
    let told = |at: Moment, span| facts.stalls.within(at, at + span).next().is_some();
    let late = || {
        // A span begins where the one before ends.
        let first = facts.ticked.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        let meanwhile = facts.ticked[first..].iter().take_while(|(at, _)| *at <= until);
        let late = meanwhile.filter(|(at, ticked)| ticked.latest > bound && *at + ticked.lasted >= from);
        late.filter(|(at, ticked)| !told(*at, ticked.lasted)).map(|(at, ticked)| (*at, ticked.latest)).next()
    };
    stall.or_else(late).map(|(at, span)| {
        format!(
            "rollproof itself did not run for {:.3} s from {} on (bound {:.3} s): run it on a less busy machine",
            span.as_secs_f64(),
            facts.clock(at),
            bound.as_secs_f64()
        )
    })
}

/// Where an apiserver that nobody disturbed had no time of the machine, if anywhere in that window: on one with two cores that is what a
/// neighbour's start does. Its /livez tells, asked past the balancer; where nobody asked, that the balancer's check was not answered.
pub(super) fn starved(facts: &Facts<'_>, from: Moment, until: Moment) -> Option<String> {
    let slow = facts.recording.header.timers.health_timeout / 2;
    // One that began before may have been waiting meanwhile.
    let first = facts.health.partition_point(|(at, _)| *at + facts.longest_look < from);
    let looks = || facts.health[first..].iter().take_while(|(at, _)| *at <= until);
    let overlaps = |at: Moment, health: &ServerHealth| at + health.took >= from;
    let slow_livez = looks().find(|(at, health)| {
        health.path == "/livez"
            && health.took >= slow
            && overlaps(*at, health)
            && !disturbed(facts, *at, &health.server)
    });
    if let Some((at, health)) = slow_livez {
        return Some(format!(
            "{}, which nobody disturbed, did not answer /livez within {:.3} s at {}: run it on a less busy machine",
            health.server,
            slow.as_secs_f64(),
            facts.clock(*at)
        ));
    }
    // The balancer knows of a check a moment after it was due.
    let known = facts.recording.header.timers.detection();
    let first = facts.unanswered.partition_point(|(at, _)| *at < from);
    let mut meanwhile = facts.unanswered[first..].iter().take_while(|(at, _)| *at <= until + known);
    let unanswered = meanwhile.find(|(at, health)| {
        let asked = || looks().any(|(_, look)| look.path == "/livez" && look.server == health.server);
        !disturbed(facts, *at, &health.server) && !asked()
    });
    unanswered.map(|(at, health)| {
        format!(
            "{}, which nobody disturbed, went out of service at {} ({}): run it on a less busy machine",
            health.server,
            facts.clock(*at),
            health.why
        )
    })
}

/// Whether something was done to an apiserver then, or so short a time before that a check may not know yet.
fn disturbed(facts: &Facts<'_>, at: Moment, server: &str) -> bool {
    let mut restarts = facts.restarts.iter().filter(|restart| restart.server == server);
    let lost = |(on, off, loss): &(Moment, Option<Moment>, &Loss)| {
        // A check that was lost is known to be some time later.
        let known = off.map(|off| off + facts.recording.header.timers.detection());
        loss.server == server && at >= *on && known.is_none_or(|known| at <= known)
    };
    restarts.any(|restart| at >= restart.on && restart.off.is_none_or(|off| at <= off))
        || facts.losses.iter().any(lost)
        || frozen(facts, at, server)
}

/// Whether an apiserver was frozen then, or until so short a time before that a check which it had not answered was not known yet.
fn frozen(facts: &Facts<'_>, at: Moment, server: &str) -> bool {
    let known = facts.recording.header.timers.detection();
    let told = |(seen, step): &&(Moment, &Lifecycle)| {
        *seen <= at && step.server == server && matches!(step.step, Step::Frozen | Step::Thawed)
    };
    let last = facts.lifecycle.iter().rfind(told);
    last.is_some_and(|(seen, last)| last.step == Step::Frozen || at.since(*seen) <= known)
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

/// Where a probe has no sample for too long: in a restart; or, if it never rests, anywhere while others had some.
pub(super) fn with_a_hole(facts: &Facts<'_>, traffic: &Traffic) -> Option<String> {
    let windows: Vec<_> = match facts.disturbance() {
        Some(_) => facts.restarts.iter().map(|restart| restart.window(facts.end)).collect(),
        None if traffic.steady => traffic.first().map(|first| (first, facts.asked_until)).into_iter().collect(),
        None => Vec::new(),
    };
    let (from, until) = windows.into_iter().find_map(|window| traffic.hole(window))?;
    Some(format!(
        "{} has no sample for {:.3} s from {} on, and may be without one for {:.3} s",
        traffic.who,
        until.since(from).as_secs_f64(),
        facts.clock(from),
        traffic.gap.as_secs_f64()
    ))
}

fn too_few(facts: &Facts<'_>, who: &str, count: u32, of_what: &str) -> Option<String> {
    let bound = facts.bounds.samples;
    (count < bound).then(|| format!("{who} has {count} {of_what}; at least {bound} are needed"))
}
