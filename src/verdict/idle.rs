//! IDLE-1, -2 and -6: an idle timeout is announced to both sides, nothing else is cut, and keepalive holds a connection.
//!
//! ```text
//! timeout 11 s, message every 26 s: client reset at 11.0 s, server at 11.0 s          ->  IDLE-1 upheld
//! timeout 11 s, message every 26 s: nobody was told, and no byte came through         ->  IDLE-1 violated
//! timeout 11 s, message every 26 s: nobody was told, and bytes still came through     ->  IDLE-1 inconclusive
//! timeout 11 s, message every 0.3 s: open, and carrying after 14 s                    ->  IDLE-2 upheld
//! timeout 11 s: reset when it had been idle for 5 s                                   ->  IDLE-2 violated
//! timeout 11 s, keepalive every 3 s: open, and carrying after 14 s                    ->  IDLE-6 upheld
//! timeout 11 s, keepalive every 3 s: reset at 11.0 s                                  ->  IDLE-6 violated
//! ```

use super::conclusive::conclude;
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict, wire};
use crate::timeline::{Event, Manner, Moment, TimerConnection, Told};
use crate::timing::CLOSE_NOTICED;

/// IDLE-1.
pub(super) fn announced(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let left: Vec<_> = connections(facts).filter(|(_, connection)| is_left_idle(connection)).collect();
    let claims = left.iter().map(|(at, connection)| told_both(facts, *at, connection));
    let found = Verdict::worst(claims);
    let found =
        found.unwrap_or_else(|| Verdict::inconclusive("no connection was left idle for longer than the timeout"));
    let told = left.iter().flat_map(|(_, connection)| [&connection.client_told, &connection.server_told]).flatten();
    let longest = told.map(|told| told.idle).max();
    let mut figures = vec![Figure::count("connections left idle", left.len())];
    figures.extend(longest.map(|idle| Figure::seconds("longest idle time", idle)));
    (conclude(facts, &[], found), figures)
}

/// IDLE-2.
pub(super) fn not_before(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let all: Vec<_> = connections(facts).collect();
    let used = all.iter().filter(|(_, connection)| !is_left_idle(connection) && outlived(connection)).count();
    let found = match Verdict::worst(all.iter().map(|(at, connection)| carried(facts, *at, connection))) {
        Some(Verdict::Upheld) | None if used == 0 => {
            Verdict::inconclusive("no connection was used for longer than the timeout")
        }
        found => found.unwrap_or(Verdict::Upheld),
    };
    let figures = vec![Figure::count("connections", all.len()), Figure::count("connections in use", used)];
    (conclude(facts, &[], found), figures)
}

/// IDLE-6.
pub(super) fn held(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let kept: Vec<_> = all(facts).filter(|(_, connection)| keeps_alive(connection)).collect();
    let found = Verdict::worst(kept.iter().map(|(at, connection)| held_on(facts, *at, connection)));
    let none = || Verdict::inconclusive("no connection had nothing but keepalive for longer than the timeout");
    (conclude(facts, &[], found.unwrap_or_else(none)), vec![Figure::count("connections kept alive", kept.len())])
}

fn held_on(facts: &Facts<'_>, at: Moment, connection: &TimerConnection) -> Verdict {
    if let Some(why) = wire::unfaithful(facts, connection) {
        return Verdict::inconclusive(why);
    }
    let told = [&connection.client_told, &connection.server_told].into_iter().flatten();
    let actual = match told.map(|told| told.after).min() {
        Some(after) => format!("its end after {:.3} s", after.as_secs_f64()),
        None if connection.carries == Some(false) => "no end, and bytes that go nowhere".to_owned(),
        None => return Verdict::Upheld,
    };
    Verdict::Violated {
        expected: format!("{} to be carried", connection.probe),
        actual: format!("{actual}{}", wire::told(facts, at, connection)),
        excerpt: excerpt(facts, at, wire::concerns(connection)),
    }
}

/// Whether nothing but keepalive has kept it from being idle.
fn keeps_alive(connection: &TimerConnection) -> bool {
    let Manner { keepalive, writes_after, .. } = connection.manner;
    let in_time = keepalive.is_some_and(|keepalive| keepalive.idle < connection.idle_timeout);
    in_time && writes_after.is_none() && is_left_idle(connection)
}

fn told_both(facts: &Facts<'_>, at: Moment, connection: &TimerConnection) -> Verdict {
    if let Some(why) = wire::unfaithful(facts, connection) {
        return Verdict::inconclusive(why);
    }
    let (who, seconds) = (&connection.probe, connection.lasted.as_secs_f64());
    let missing = match (&connection.client_told, &connection.server_told) {
        (Some(client), Some(server)) if client.after.abs_diff(server.after) <= CLOSE_NOTICED => return Verdict::Upheld,
        (Some(client), Some(server)) => {
            let (client, server) = (client.after.as_secs_f64(), server.after.as_secs_f64());
            format!("the client was told after {client:.3} s, the server after {server:.3} s")
        }
        (None, None) if connection.carries == Some(true) => {
            return Verdict::inconclusive(format!(
                "{who} was idle for {seconds:.3} s and still carried: no timeout was met"
            ));
        }
        (None, None) => "neither side was told, and bytes go nowhere".to_owned(),
        (Some(_), None) => format!("the client was told, the server was not in {seconds:.3} s"),
        (None, Some(_)) => format!("the server was told, the client was not in {seconds:.3} s"),
    };
    Verdict::Violated {
        expected: format!("an end for both sides within {:.3} s", CLOSE_NOTICED.as_secs_f64()),
        actual: format!("{who}: {missing}{}", wire::told(facts, at, connection)),
        excerpt: excerpt(facts, at, wire::concerns(connection)),
    }
}

fn carried(facts: &Facts<'_>, at: Moment, connection: &TimerConnection) -> Verdict {
    let timeout = connection.idle_timeout;
    let told = [&connection.client_told, &connection.server_told].into_iter().flatten();
    // Who had been left idle for a whole interval, and then spoke, was told in time, however soon after.
    let told = told.filter(|told| !is_left_idle(connection) || told.after < connection.interval);
    // A side counts from its own last byte, which the balancer may have passed on a little later.
    let early = told.min_by_key(|told| told.idle).filter(|told| told.idle + CLOSE_NOTICED < timeout);
    let actual = match early {
        Some(Told { idle, failure, .. }) => {
            let how = failure.as_ref().map_or("FIN".to_owned(), |failure| failure.class.to_string());
            let (probe, idle, wire) = (&connection.probe, idle.as_secs_f64(), wire::told(facts, at, connection));
            format!("{probe} was cut ({how}) when it had been idle for {idle:.3} s{wire}")
        }
        None if !is_left_idle(connection) && connection.carries == Some(false) => {
            format!("{} had not been idle for that long, and bytes go nowhere", connection.probe)
        }
        None => return Verdict::Upheld,
    };
    Verdict::Violated {
        expected: format!("to be carried until it is idle for {:.3} s", timeout.as_secs_f64()),
        actual,
        excerpt: excerpt(facts, at, wire::concerns(connection)),
    }
}

/// Whether the balancer has reason to end it.
fn is_left_idle(connection: &TimerConnection) -> bool {
    connection.interval > connection.idle_timeout && outlived(connection)
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
