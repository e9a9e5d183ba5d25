//! LOST-1: a silent loss is noticed.
//!
//! A watch has noticed when it ends, or another is asked for; a raw TCP client when its kernel tells it. Only those count that were
//! carried to the lost apiserver when it was lost: watches by its audit log. One that is frozen is lost as silently. A client has until the bound, or until the loss is over.
//! What ends within a moment of the loss was told before it.
//!
//! ```text
//! lost at 10.0 s, a watch from there ended at 27.1 s, bound 20 s                      ->  upheld
//! lost at 10.0 s, a watch from there still open at 31.0 s, bound 20 s                 ->  violated
//! lost at 10.0 s, over at 15.0 s, nobody noticed, bound 20 s                          ->  inconclusive
//! lost at 10.0 s, every watch was elsewhere                                           ->  inconclusive
//! lost at 10.0 s, a raw client had been told of its end at 8.0 s                      ->  inconclusive: it was not connected
//! lost at 10.0 s, a watch was open, and no audit log has it                           ->  inconclusive
//! lost at 10.0 s, and the watch from there delivered for 15 s more, or ended cleanly  ->  inconclusive: it was not lost
//! ```

use std::time::Duration;

use super::breaches::{Breach, first_breach};
use super::conclusive::{Rests, conclude};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::overlap::Lasting;
use super::silence::Silence;
use super::streams::{Death, How, silences};
use super::watches::{Watch, concerns};
use super::wire::{self, Wire};
use super::{Figure, Verdict};
use crate::timeline::{Call, Event, Lost, Moment, Step, TimerConnection};

/// Somebody who had reason to notice.
struct Client<'a> {
    who: Who<'a>,
    server: &'a str,
    lost: Moment,
    /// Until when there was something to notice.
    until: Moment,
    noticed: Option<Moment>,
    /// Why it is not known that it had.
    doubt: Option<String>,
}

#[derive(Clone, Copy)]
enum Who<'a> {
    Raw(Moment, &'a TimerConnection),
    Watch(&'a Watch<'a>),
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (silence, wire) = (Silence::of(facts), Wire::of(facts));
    let both = |death: &Death<'_>| matches!(death.how, How::Lost(Lost::Both) | How::Frozen);
    let losses: Vec<_> = silences(facts).into_iter().filter(both).collect();
    let timers = facts.recording.each(|event| if let Event::Timer(timer) = event { Some(timer) } else { None });
    let timers = Lasting::of(timers.collect(), |(opened, _)| *opened, |(_, timer)| timer.lasted);
    let (mut found, mut unknown) = (Vec::new(), None);
    for loss in &losses {
        let doubt = silence.doubt(facts, loss);
        found.extend(raw(&timers, loss, &doubt));
        for watch in &facts.watches {
            match before(facts, watch, loss.on) {
                Some(Some(server)) if server == loss.server => found.push(watching(watch, loss, &doubt)),
                Some(None) => drop(unknown.get_or_insert((watch.probe, loss.on))),
                _ => {}
            }
        }
    }
    // What was told of its end within a moment of the loss had been told before.
    found.retain(|client| client.noticed.is_none_or(|at| at.since(client.lost) > facts.bounds.close_noticed));
    let breaches = found.iter().filter(|client| client.doubt.is_none());
    let breached = first_breach(facts, breaches.filter_map(|client| breach(facts, &wire, client)));
    let unproven = found.iter().find_map(|client| unproven(facts, client));
    let unknown = unknown.map(|(probe, lost)| {
        let lost = facts.clock(lost);
        format!("{probe} had a watch open when an apiserver was lost at {lost}, and no audit log says where")
    });
    let otherwise = match unproven.or(unknown) {
        Some(why) => Verdict::inconclusive(why),
        None if found.is_empty() => Verdict::inconclusive("nobody was connected to an apiserver when it was lost"),
        None => Verdict::Upheld,
    };
    let figures = found.iter().filter_map(|client| {
        let took = client.noticed?.since(client.lost);
        Some(Figure::seconds(&format!("{} noticed after", client.who.name()), took))
    });
    (conclude(facts, &[], breached.unwrap_or(otherwise)), figures.collect())
}

/// A client that noticed too late, or not at all though there was time.
fn breach<'a>(facts: &'a Facts<'_>, wire: &Wire<'_>, client: &Client<'a>) -> Option<Breach<'a>> {
    let (bound, name) = (facts.bounds.lost, client.who.name());
    let due = client.lost + bound;
    let (rests, actual) = match client.noticed {
        Some(noticed) if noticed <= due => return None,
        Some(noticed) => {
            let took = seconds(noticed.since(client.lost));
            (Rests::OnTime(due, noticed), format!("{name} noticed after {took:.3} s"))
        }
        None if client.until < due => return None,
        // What it noticed meanwhile would have been seen, but for what lasted until then.
        None => {
            let lasted = seconds(client.until.since(client.lost));
            (Rests::OnTime(client.until, client.until), format!("{name} had not noticed after {lasted:.3} s"))
        }
    };
    let (who, lost) = (client.who, client.lost);
    let wire = match who {
        Who::Raw(opened, connection) => wire.told(opened, connection),
        Who::Watch(_) => String::new(),
    };
    Some(Breach {
        rests,
        expected: format!("the loss of {} to be noticed within {:.3} s", client.server, seconds(bound)),
        actual: format!("{actual}{wire}"),
        excerpt: Box::new(move || match who {
            Who::Raw(_, connection) => excerpt(facts, lost, wire::concerns(connection)),
            Who::Watch(watch) => excerpt(facts, lost, |event| is_loss(event) || concerns(watch, "")(event)),
        }),
    })
}

/// Why a client proves nothing, if so.
fn unproven(facts: &Facts<'_>, client: &Client<'_>) -> Option<String> {
    let short = client.noticed.is_none() && client.until < client.lost + facts.bounds.lost;
    client.doubt.clone().or_else(|| {
        let (server, name) = (client.server, client.who.name());
        let lasted = seconds(client.until.since(client.lost));
        short.then(|| format!("{server} was lost for {lasted:.3} s only, and {name} noticed nothing"))
    })
}

/// Where a watch was open then: its apiserver by the audit logs, if one has it; `None` if it was not.
fn before<'a>(facts: &Facts<'a>, watch: &Watch<'a>, lost: Moment) -> Option<Option<&'a str>> {
    let earlier = &watch.story[..watch.story.partition_point(|seen| seen.at < lost)];
    let last = earlier.iter().rev().find_map(|seen| match &seen.event {
        Event::ListWatch(call) if call.call == Call::Watch => {
            let open = call.answer == Ok(200) && seen.at + call.took < lost;
            Some(open.then(|| facts.audit.server_of(&call.audit_id)))
        }
        Event::WatchEnded(_) => Some(None),
        _ => None,
    });
    last.flatten()
}

fn watching<'a>(watch: &'a Watch<'a>, loss: &Death<'a>, doubt: &Option<String>) -> Client<'a> {
    let later = &watch.story[watch.story.partition_point(|seen| seen.at < loss.on)..];
    let noticed = later.iter().take_while(|seen| seen.at <= loss.off);
    let mut noticed = noticed.filter(|seen| matches!(seen.event, Event::WatchEnded(_) | Event::ListWatch(_)));
    let noticed = noticed.next().map(|seen| seen.at);
    let (who, doubt) = (Who::Watch(watch), doubt.clone());
    Client { who, server: loss.server, lost: loss.on, until: loss.off, noticed, doubt }
}

/// The raw clients that were connected to it, and not yet told of an end.
fn raw<'a>(
    timers: &Lasting<(Moment, &'a TimerConnection)>,
    loss: &Death<'a>,
    doubt: &Option<String>,
) -> impl Iterator<Item = Client<'a>> {
    let (lost, over, server) = (loss.on, loss.off, loss.server);
    let raw = timers.within(lost, lost).iter().copied().filter(move |(_, connection)| connection.server == server);
    raw.filter_map(move |(opened, connection)| {
        let noticed = connection.client_told.as_ref().map(|told| opened + told.after);
        let end = opened + connection.lasted;
        let connected = opened < lost && end > lost && noticed.is_none_or(|at| at > lost);
        let (who, doubt) = (Who::Raw(opened, connection), doubt.clone());
        // What it was told when all was over, it did not notice by itself.
        let noticed = noticed.filter(|at| *at <= over);
        connected.then(|| Client { who, server, lost, until: over.min(end), noticed, doubt })
    })
}

impl<'a> Who<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Raw(_, connection) => &connection.probe,
            Self::Watch(watch) => watch.probe,
        }
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

fn is_loss(event: &Event) -> bool {
    match event {
        Event::LossOn(_) | Event::LossOff(_) => true,
        Event::Lifecycle(step) => matches!(step.step, Step::Frozen | Step::Thawed),
        _ => false,
    }
}
