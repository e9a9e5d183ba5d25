//! LOST-1: a silent loss is noticed.
//!
//! A watch has noticed when it ends, or another is asked for; a raw TCP client when its kernel tells it. Only those count that were
//! carried to the lost apiserver when it was lost: watches by its audit log. One that is frozen is lost as silently. A client has until the bound, or until the loss is over.
//!
//! ```text
//! lost at 10.0 s, a watch from there ended at 27.1 s, bound 20 s                      ->  upheld
//! lost at 10.0 s, a watch from there still open at 31.0 s, bound 20 s                 ->  violated
//! lost at 10.0 s, over at 15.0 s, nobody noticed, bound 20 s                          ->  inconclusive
//! lost at 10.0 s, every watch was elsewhere                                           ->  inconclusive
//! ```

use std::time::Duration;

use super::conclusive::conclude;
use super::excerpt::excerpt;
use super::facts::Facts;
use super::watches::{Watch, concerns};
use super::{Figure, Verdict, wire};
use crate::timeline::{Call, Event, Lost, Moment, Step};

/// Somebody who had reason to notice.
struct Client<'a> {
    name: &'a str,
    server: &'a str,
    lost: Moment,
    /// Until when there was something to notice.
    until: Moment,
    noticed: Option<Moment>,
    excerpt: Vec<String>,
    wire: String,
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let losses = facts.losses.iter().filter(|(.., loss)| loss.lost == Lost::Both);
    let losses = losses.map(|(lost, over, loss)| (*lost, *over, loss.server.as_str())).chain(facts.frozen());
    let clients: Vec<_> = losses.flat_map(|loss| clients(facts, loss)).collect();
    let found = Verdict::worst(clients.iter().map(|client| claim(facts, client)));
    let found = found.unwrap_or_else(|| Verdict::inconclusive("nobody was connected to an apiserver when it was lost"));
    let figures = clients.iter().filter_map(|client| {
        let took = client.noticed?.since(client.lost);
        Some(Figure::seconds(&format!("{} noticed after", client.name), took))
    });
    let figures = figures.collect();
    (conclude(facts, &[], found), figures)
}

fn claim(facts: &Facts<'_>, client: &Client<'_>) -> Verdict {
    let bound = facts.bounds.lost;
    let (name, server) = (client.name, client.server);
    let seconds = |span: Duration| span.as_secs_f64();
    let actual = match client.noticed {
        Some(noticed) if noticed.since(client.lost) <= bound => return Verdict::Upheld,
        Some(noticed) => format!("{name} noticed after {:.3} s", seconds(noticed.since(client.lost))),
        None if client.until.since(client.lost) < bound => {
            let lasted = seconds(client.until.since(client.lost));
            return Verdict::inconclusive(format!(
                "{server} was lost for {lasted:.3} s only, and {name} noticed nothing"
            ));
        }
        None => format!("{name} had not noticed after {:.3} s", seconds(client.until.since(client.lost))),
    };
    Verdict::Violated {
        expected: format!("the loss of {server} to be noticed within {:.3} s", seconds(bound)),
        actual: format!("{actual}{}", client.wire),
        excerpt: client.excerpt.clone(),
    }
}

fn clients<'a>(facts: &Facts<'a>, (lost, over, server): (Moment, Option<Moment>, &'a str)) -> Vec<Client<'a>> {
    let over = over.unwrap_or(facts.end);
    let there = |watch: &&Watch<'_>| {
        let before = watch.story.iter().take_while(|seen| seen.at < lost);
        let last = before.filter_map(|seen| match &seen.event {
            Event::ListWatch(call) if call.call == Call::Watch => Some(facts.audit.server_of(&call.audit_id)),
            Event::WatchEnded(_) => Some(None),
            _ => None,
        });
        last.last().flatten() == Some(server)
    };
    let watches = facts.watches.iter().filter(there).map(|watch| {
        let noticed = watch.story.iter().find(|seen| {
            seen.at >= lost && seen.at <= over && matches!(seen.event, Event::WatchEnded(_) | Event::ListWatch(_))
        });
        Client {
            name: watch.probe,
            server,
            lost,
            until: over,
            noticed: noticed.map(|seen| seen.at),
            excerpt: excerpt(facts, lost, |event| is_loss(event) || concerns(watch, "")(event)),
            wire: String::new(),
        }
    });
    let raw = facts.recording.each(move |event| match event {
        Event::Timer(connection) if connection.server == server => Some(connection),
        _ => None,
    });
    let raw = raw.filter(|(opened, connection)| *opened < lost && *opened + connection.lasted > lost);
    let raw = raw.map(|(opened, connection)| Client {
        name: &connection.probe,
        server,
        lost,
        until: over.min(opened + connection.lasted),
        noticed: connection.client_told.as_ref().map(|told| opened + told.after),
        excerpt: excerpt(facts, lost, wire::concerns(connection)),
        wire: wire::told(facts, opened, connection),
    });
    // Of several that noticed nothing the first is named: whose packets were seen.
    raw.chain(watches).collect()
}

fn is_loss(event: &Event) -> bool {
    match event {
        Event::LossOn(_) | Event::LossOff(_) => true,
        Event::Lifecycle(step) => matches!(step.step, Step::Frozen | Step::Thawed),
        _ => false,
    }
}
