//! Whether a recording is whole and agrees with itself: else nothing is upheld by it, whatever the requirement.
//!
//! ```text
//! the header names apiserver-0, its cell has two                    ->  nothing is upheld
//! --shutdown-delay-duration=70s, and the header's timer is 3 s      ->  nothing
//! a graceful restart is announced, and a kill begins                ->  nothing
//! apiserver-1 exits, and nobody had sent it a signal                ->  nothing
//! a bound of a day, where the timers give 11.5 s                    ->  nothing
//! kube-rs observed, and there is no request of it                   ->  nothing
//! no sign of life of the ticker for 3 s                             ->  nothing
//! ```

use std::collections::HashSet;
use std::time::Duration;

use super::facts::Facts;
use crate::timeline::{Event, Moment, Step};

/// Why nothing can be upheld by this recording, whatever the requirement: its header and its observations disagree, or something happened that
/// nobody announced.
pub(super) fn unsound(facts: &Facts<'_>) -> Option<String> {
    other_servers(facts)
        .or_else(|| other_flags(facts))
        .or_else(|| unannounced_fault(facts))
        .or_else(|| died_unasked(facts))
        .or_else(|| loose_bound(facts))
        .or_else(|| lost_observer(facts))
        .or_else(|| lost_connection(facts))
        .or_else(|| {
            let (from, until) = facts.probed()?;
            lifeless(facts, from, until)
        })
}

/// Why the header's apiservers are not those of the recording, if so.
fn other_servers(facts: &Facts<'_>) -> Option<String> {
    let header = &facts.recording.header;
    let named = header.servers.len();
    if named != header.cell.apiservers {
        return Some(format!("the header names {named} apiservers, and its cell has {}", header.cell.apiservers));
    }
    let known = |name: &str| header.servers.iter().any(|server| server.name == name);
    let lives = facts.lifecycle.iter().map(|(_, step)| step.server.as_str());
    let looks = facts.health.iter().map(|(_, health)| health.server.as_str());
    let stranger = lives.chain(looks).find(|name| !known(name))?;
    Some(format!("{stranger} is in the recording, and not in its header"))
}

/// Why the header's timers are not those that its apiservers were started with, if so.
fn other_flags(facts: &Facts<'_>) -> Option<String> {
    let header = &facts.recording.header;
    let timers = [
        ("--shutdown-delay-duration=", header.timers.shutdown_delay),
        ("--shutdown-watch-termination-grace-period=", header.timers.watch_termination_grace),
    ];
    header.servers.iter().find_map(|server| {
        timers.iter().find_map(|(flag, timer)| {
            // Both are zero where a whole command line does not name them.
            let given = server.flags.iter().rev().find_map(|given| given.strip_prefix(flag));
            let whole = server.flags.iter().any(|given| given.starts_with("--etcd-servers="));
            let value = given.or(whole.then_some("0"))?;
            // As Go writes durations: 1m10s.
            let given_at_all = given.is_some();
            let given: Option<Duration> = match value {
                "0" => Some(Duration::ZERO),
                value => value.parse::<jiff::SignedDuration>().ok().and_then(|it| it.try_into().ok()),
            };
            let differs = given.is_none_or(|given| given != *timer);
            let with = if given_at_all {
                format!("with {flag}{value}")
            } else {
                format!("without {}", flag.trim_end_matches('='))
            };
            differs.then(|| format!("{} was started {with}, and the header has {timer:?}", server.name))
        })
    })
}

/// A probe that observed, and of which nothing is left.
fn lost_observer(facts: &Facts<'_>) -> Option<String> {
    let observers = facts.recording.each(|event| match event {
        Event::Observers(observers) => Some(&observers.probes),
        _ => None,
    });
    let observers: Vec<_> = observers.flat_map(|(_, probes)| probes).collect();
    if observers.is_empty() {
        let told = facts.recording.header.format >= 2 && facts.probed().is_some();
        return told.then(|| "the recording does not tell which probes observed".to_owned());
    }
    let seen: HashSet<&str> = facts.recording.observations.iter().filter_map(|seen| seen.event.probe()).collect();
    let lost = observers.into_iter().find(|probe| !seen.contains(probe.as_str()))?;
    Some(format!("{lost} observed, and nothing that it saw is in the recording"))
}

/// A connection that a probe used, and that is not in the record of the builtin balancer, which writes down each.
fn lost_connection(facts: &Facts<'_>) -> Option<String> {
    let header = &facts.recording.header;
    if header.cell.balancer != "builtin" {
        return None;
    }
    let noted = facts.recording.each(|event| match event {
        Event::Connection(connection) => Some(connection.client.as_str()),
        _ => None,
    });
    let noted: HashSet<&str> = noted.map(|(_, client)| client).collect();
    let exchanges = facts.recording.each(|event| match event {
        Event::Request(request) => Some((request.probe.as_str(), &request.exchange)),
        Event::Load(load) => Some((load.worker.as_str(), &load.exchange)),
        Event::Read(read) => Some((read.probe.as_str(), &read.exchange)),
        Event::GuardedUpdate(update) => Some((update.probe.as_str(), &update.exchange)),
        _ => None,
    });
    let answered = exchanges.filter(|(_, (_, exchange))| exchange.status.is_some());
    let mut used = answered.filter_map(|(_, (probe, exchange))| Some((probe, exchange.connection.as_ref()?)));
    let (probe, lost) = used.find(|(_, used)| {
        let past_it = header.servers.iter().any(|server| server.address == used.remote);
        !past_it && !used.local.is_empty() && !noted.contains(used.local.as_str())
    })?;
    Some(format!("the balancer's record lacks the connection {} of {probe}", lost.local))
}

/// A fault of another kind than the header announces.
pub(super) fn unannounced_fault(facts: &Facts<'_>) -> Option<String> {
    let (at, fault) = facts.other_faults.first()?;
    let announced = facts.disturbance().map_or("no restart".to_owned(), |restart| format!("a {restart}"));
    Some(format!(
        "the header announces {announced}, and a {} of {} begins at {}",
        fault.restart,
        fault.server,
        facts.clock(*at)
    ))
}

/// An apiserver whose process ended though nobody had sent it a signal.
fn died_unasked(facts: &Facts<'_>) -> Option<String> {
    let exits = facts.lifecycle.iter().enumerate().filter(|(_, (_, step))| step.step == Step::Exited);
    let mut unasked = exits.filter(|(position, (_, exit))| {
        let before = facts.lifecycle[..*position].iter().rev().filter(|(_, step)| step.server == exit.server);
        let this_life = before.take_while(|(_, step)| !matches!(step.step, Step::Started | Step::Exited));
        !this_life.into_iter().any(|(_, step)| matches!(step.step, Step::TermSent | Step::KillSent))
    });
    let (_, (at, exit)) = unasked.next()?;
    Some(format!("{} ended at {}, and nobody had stopped it ({})", exit.server, facts.clock(*at), exit.text))
}

/// A bound that asks for less than the timers in the header allow.
fn loose_bound(facts: &Facts<'_>) -> Option<String> {
    let header = &facts.recording.header;
    let (name, found, due) = header.bounds.loosened(&header.timers)?;
    Some(format!("the header's bound {name} is {found}, and with its timers it is {due}"))
}

/// Since when there is no sign of life of our own, if there is none somewhere in that window. Format 1 has none at all.
pub(super) fn lifeless(facts: &Facts<'_>, from: Moment, until: Moment) -> Option<String> {
    if facts.recording.header.format < 2 {
        return None;
    }
    let mut alive = from;
    for (at, ticked) in &facts.ticked {
        // A span that a stall made long is told as that stall.
        if at.min(&until).since(alive) > facts.bounds.stall {
            break;
        }
        alive = alive.max(*at + ticked.lasted);
    }
    let silent = until.since(alive) > facts.bounds.stall;
    silent.then(|| {
        format!("the ticker gives no sign of life from {} on: nobody knows whether rollproof ran", facts.clock(alive))
    })
}
