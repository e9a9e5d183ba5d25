//! IDLE-1, -2 and -6: an idle timeout is announced to both sides, nothing else is cut, and keepalive holds a connection.
//!
//! Both ends of these connections are ours. That an end came is on record, since no stall of ours makes one come; when it came, and that none did,
//! rests on our having looked.
//!
//! ```text
//! timeout 11 s, message every 26 s: client reset at 11.0 s, server at 11.0 s          ->  IDLE-1 upheld
//! timeout 11 s, message every 26 s: nobody was told, and no byte came through         ->  IDLE-1 violated
//! timeout 11 s, message every 26 s: nobody was told, and bytes still came through     ->  IDLE-1 inconclusive
//! timeout 11 s, message every 26 s: nobody was told, and nobody tried                 ->  IDLE-1 inconclusive
//! timeout 11 s, message every 0.3 s: open, and carrying after 14 s                    ->  IDLE-2 upheld
//! timeout 11 s: reset when it had been idle for 5 s                                   ->  IDLE-2 violated
//! timeout 11 s, message every 0.3 s: reset when nothing had come for 11 s             ->  IDLE-2 violated: it was in use
//! timeout 11 s, keepalive every 3 s: open, and carrying after 14 s                    ->  IDLE-6 upheld
//! timeout 11 s, keepalive every 3 s: reset at 11.0 s                                  ->  IDLE-6 violated
//! ```

use std::collections::HashSet;

use super::breaches::{Breach, first_breach};
use super::conclusive::{Rests, conclude};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::wire::{self, Wire};
use super::{Figure, Verdict};
use crate::timeline::{Event, Manner, Moment, Party, TimerConnection, Told};

/// What was found of one connection.
enum Found<'a> {
    Kept,
    Unproven(String),
    Broken(Breach<'a>),
}

/// IDLE-1.
pub(super) fn announced(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let wire = Wire::of(facts);
    let left: Vec<_> = connections(facts).filter(|(_, connection)| is_left_idle(connection)).collect();
    let claims = left.iter().map(|(at, connection)| told_both(facts, &wire, *at, connection));
    let found = worst(facts, claims, "no connection was left idle for longer than the timeout");
    let told = left.iter().flat_map(|(_, connection)| [&connection.client_told, &connection.server_told]).flatten();
    let longest = told.map(|told| told.idle).max();
    let mut figures = vec![Figure::count("connections left idle", left.len())];
    figures.extend(longest.map(|idle| Figure::seconds("longest idle time", idle)));
    (conclude(facts, &[], found), figures)
}

/// IDLE-2.
pub(super) fn not_before(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (wire, cut) = (Wire::of(facts), cut_early(facts));
    let all: Vec<_> = connections(facts).collect();
    let in_use = |connection: &TimerConnection| is_used(facts, connection) && outlived(connection);
    let used = all.iter().filter(|(_, connection)| in_use(connection)).count();
    let claims = all.iter().map(|(at, connection)| carried(facts, &wire, &cut, *at, connection));
    let found = match worst(facts, claims, "no connection was used for longer than the timeout") {
        Verdict::Upheld if used == 0 => Verdict::inconclusive("no connection was used for longer than the timeout"),
        found => found,
    };
    let figures = vec![Figure::count("connections", all.len()), Figure::count("connections in use", used)];
    (conclude(facts, &[], found), figures)
}

/// IDLE-6.
pub(super) fn held(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let wire = Wire::of(facts);
    let kept: Vec<_> = all(facts).filter(|(_, connection)| keeps_alive(connection)).collect();
    let claims = kept.iter().map(|(at, connection)| held_on(facts, &wire, *at, connection));
    let found = worst(facts, claims, "no connection had nothing but keepalive for longer than the timeout");
    (conclude(facts, &[], found), vec![Figure::count("connections kept alive", kept.len())])
}

fn worst<'a>(facts: &Facts<'_>, claims: impl Iterator<Item = Found<'a>>, nobody: &str) -> Verdict {
    let (mut breaches, mut unproven, mut kept) = (Vec::new(), None, false);
    for found in claims {
        match found {
            Found::Kept => kept = true,
            Found::Unproven(why) => unproven = unproven.or(Some(why)),
            Found::Broken(breach) => breaches.push(breach),
        }
    }
    let otherwise = || match unproven {
        Some(why) => Verdict::inconclusive(why),
        None if kept => Verdict::Upheld,
        None => Verdict::inconclusive(nobody),
    };
    first_breach(facts, breaches).unwrap_or_else(otherwise)
}

/// A connection of which that was found.
fn broken<'a>(
    facts: &'a Facts<'_>,
    (at, connection): (Moment, &'a TimerConnection),
    rests: Rests,
    expected: String,
    actual: String,
) -> Found<'a> {
    let excerpt = Box::new(move || excerpt(facts, at, wire::concerns(connection)));
    Found::Broken(Breach { rests, expected, actual, excerpt })
}

/// What rests on our having looked at the end of the observation.
fn looked(at: Moment, connection: &TimerConnection) -> Rests {
    let end = at + connection.lasted;
    Rests::OnTime(end, end)
}

/// Where nobody was told, whether bytes still come through was tried at the end.
fn untried(connection: &TimerConnection) -> Found<'static> {
    Found::Unproven(format!("nobody tried whether bytes of {} still come through", connection.probe))
}

fn held_on<'a>(facts: &'a Facts<'_>, wire: &Wire<'_>, at: Moment, connection: &'a TimerConnection) -> Found<'a> {
    if let Some(why) = wire.unfaithful(connection) {
        return Found::Unproven(why);
    }
    let told = [&connection.client_told, &connection.server_told].into_iter().flatten();
    let (rests, actual) = match (told.map(|told| told.after).min(), connection.carries) {
        (Some(after), _) => (Rests::OnRecord, format!("its end after {:.3} s", after.as_secs_f64())),
        (None, Some(false)) => (looked(at, connection), "no end, and bytes that go nowhere".to_owned()),
        (None, Some(true)) => return Found::Kept,
        (None, None) => return untried(connection),
    };
    let expected = format!("{} to be carried", connection.probe);
    broken(facts, (at, connection), rests, expected, format!("{actual}{}", wire.told(at, connection)))
}

/// Whether nothing but keepalive has kept it from being idle.
fn keeps_alive(connection: &TimerConnection) -> bool {
    let Manner { keepalive, writes_after, .. } = connection.manner;
    let in_time = keepalive.is_some_and(|keepalive| keepalive.idle < connection.idle_timeout);
    in_time && writes_after.is_none() && is_left_idle(connection)
}

fn told_both<'a>(facts: &'a Facts<'_>, wire: &Wire<'_>, at: Moment, connection: &'a TimerConnection) -> Found<'a> {
    if let Some(why) = wire.unfaithful(connection) {
        return Found::Unproven(why);
    }
    let bound = facts.bounds.close_noticed;
    let (who, seconds) = (&connection.probe, connection.lasted.as_secs_f64());
    let (rests, missing) = match (&connection.client_told, &connection.server_told) {
        (Some(client), Some(server)) if client.after.abs_diff(server.after) <= bound => return Found::Kept,
        (Some(client), Some(server)) => {
            let (first, last) = (client.after.min(server.after), client.after.max(server.after));
            let (client, server) = (client.after.as_secs_f64(), server.after.as_secs_f64());
            let missing = format!("the client was told after {client:.3} s, the server after {server:.3} s");
            (Rests::OnTime(at + first + bound, at + last), missing)
        }
        (None, None) if connection.carries == Some(true) => {
            return Found::Unproven(format!("{who} was idle for {seconds:.3} s and still carried: no timeout was met"));
        }
        (None, None) if connection.carries.is_none() => return untried(connection),
        (None, None) => (looked(at, connection), "neither side was told, and bytes go nowhere".to_owned()),
        // The other would have had to be told within a moment.
        (Some(told), None) | (None, Some(told)) if told.after + bound > connection.lasted => {
            return Found::Unproven(format!("the observation of {who} was over when one side was told"));
        }
        (Some(_), None) => {
            (looked(at, connection), format!("the client was told, the server was not in {seconds:.3} s"))
        }
        (None, Some(_)) => {
            (looked(at, connection), format!("the server was told, the client was not in {seconds:.3} s"))
        }
    };
    let expected = format!("an end for both sides within {:.3} s", bound.as_secs_f64());
    broken(facts, (at, connection), rests, expected, format!("{who}: {missing}{}", wire.told(at, connection)))
}

fn carried<'a>(
    facts: &'a Facts<'_>,
    wire: &Wire<'_>,
    cut: &HashSet<&str>,
    at: Moment,
    connection: &'a TimerConnection,
) -> Found<'a> {
    let (timeout, bound) = (connection.idle_timeout, facts.bounds.close_noticed);
    let told = [&connection.client_told, &connection.server_told].into_iter().flatten();
    // Who had been left idle for a whole interval, and then spoke, was told in time, however soon after.
    let told = told.filter(|told| !is_left_idle(connection) || told.after < connection.interval);
    let first = told.min_by_key(|told| told.idle);
    let (probe, used) = (&connection.probe, is_used(facts, connection));
    let (rests, actual) = match first {
        // A side counts from its own last byte, which the balancer may have passed on a little later.
        Some(told) if told.idle + bound < timeout => {
            let Told { after, idle, failure } = told;
            let how = failure.as_ref().map_or("FIN".to_owned(), |failure| failure.class.to_string());
            // A connection that ended when it was younger than the timeout had not been idle for so long, whenever we read its last byte.
            let young = *after + bound < timeout || cut.contains(connection.client.as_str());
            let rests = if young { Rests::OnRecord } else { Rests::OnTime((at + *after) - *idle, at + *after) };
            (rests, format!("{probe} was cut ({how}) when it had been idle for {:.3} s", idle.as_secs_f64()))
        }
        Some(told) if used => {
            let (idle, every) = (told.idle.as_secs_f64(), connection.interval.as_secs_f64());
            let end = at + told.after;
            let actual = format!(
                "{probe} was sent something every {every:.3} s, and was cut when nothing had come for {idle:.3} s"
            );
            (Rests::OnTime(end - told.idle, end), actual)
        }
        None if !is_left_idle(connection) && connection.carries == Some(false) => {
            (looked(at, connection), format!("{probe} had not been idle for that long, and bytes go nowhere"))
        }
        None if used && connection.carries.is_none() => return untried(connection),
        _ => return Found::Kept,
    };
    let expected = format!("to be carried until it is idle for {:.3} s", timeout.as_secs_f64());
    broken(facts, (at, connection), rests, expected, format!("{actual}{}", wire.told(at, connection)))
}

/// The clients of connections that the balancer says it has cut when they had been idle for less than their timeout.
fn cut_early<'a>(facts: &Facts<'a>) -> HashSet<&'a str> {
    let timeout = all(facts).map(|(_, connection)| connection.idle_timeout).min().unwrap_or_default();
    let early = facts.recording.each(|event| match event {
        Event::Connection(connection) if connection.ended_by == Party::Balancer => Some(connection),
        _ => None,
    });
    let early = early.filter(|(_, connection)| connection.idle + facts.bounds.close_noticed < timeout);
    early.map(|(_, connection)| connection.client.as_str()).collect()
}

/// Whether the balancer has reason to end it.
fn is_left_idle(connection: &TimerConnection) -> bool {
    connection.interval > connection.idle_timeout && outlived(connection)
}

/// Whether it is never idle for so long that the balancer has reason to end it.
fn is_used(facts: &Facts<'_>, connection: &TimerConnection) -> bool {
    connection.interval + facts.bounds.close_noticed < connection.idle_timeout
}

/// Whether it was observed for long enough to be ended, and to be told so.
fn outlived(connection: &TimerConnection) -> bool {
    connection.lasted > connection.idle_timeout
}

/// The clients that only wait: what others do may hold a connection, or end it.
fn connections<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (Moment, &'a TimerConnection)> {
    all(facts).filter(|(_, connection)| connection.manner.is_plain())
}

fn all<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (Moment, &'a TimerConnection)> {
    facts.recording.each(|event| match event {
        Event::Timer(connection) => Some(connection),
        _ => None,
    })
}
