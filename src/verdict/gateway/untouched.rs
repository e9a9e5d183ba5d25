//! GATEWAY-3: what is open on an apiserver that answers goes on.
//!
//! A watch goes on if it tells of each change that is acknowledged meanwhile, and an `exec` session in which lines go to and fro if they come back.
//!
//! ```text
//! lost at 10 s, a watch or an exec on the other apiserver ended at 18 s                ->  violated
//! a watch there told of change 7 when it had been acknowledged for 2.5 s, bound 2 s    ->  violated
//! a watch there never told of it                                                       ->  violated
//! an exec there had no line for 2.5 s                                                  ->  violated
//! an informer's watch there ended when it had lasted as asked                          ->  says nothing
//! no change was made for 2.5 s of the loss                                             ->  inconclusive
//! an exec was open on the dead apiserver, and none on another                          ->  inconclusive
//! ```

use std::collections::{BTreeSet, HashMap};

use super::{Found, Ground, is_watch, seconds, unless, was_elsewhere, was_there};
use crate::timeline::{Effect, GatewayStream, Moment, Shape, Verb};
use crate::verdict::conclusive::{Rests, conclude};
use crate::verdict::facts::Facts;
use crate::verdict::streams::{Death, Stream, ended, hole, server_of};
use crate::verdict::{Figure, Verdict};

/// GATEWAY-3.
pub(in crate::verdict) fn others_are_untouched(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let ground = Ground::of(facts);
    let goes_on = |stream: &GatewayStream| is_watch(stream) || stream.shape == Shape::Exec;
    let concerned = |death: &Death<'_>, stream: &Stream<'_>| goes_on(stream.1) && was_elsewhere(facts, stream, death);
    let found = ground.each(
        facts,
        concerned,
        |death, stream| {
            let end = ended(stream).filter(|end| *end <= death.off);
            let until = end.unwrap_or(death.off).min(stream.0 + stream.1.lasted);
            let interrupted = match end.filter(|_| !stream.1.is_over()) {
                Some(end) => {
                    let alive = Some((end - facts.bounds.gateway_silent, end));
                    Some((end, Rests::OnRecord, alive, format!("was ended at {}", facts.clock(end))))
                }
                None if is_watch(stream.1) => untold(facts, death, stream, until),
                None => unheard(facts, death, stream, until),
            };
            let Some((at, rests, alive, what)) = interrupted else { return Ok(()) };
            let server = server_of(facts, stream.1).unwrap_or("another");
            let (shape, gateway) = (stream.1.shape, &stream.1.gateway);
            let expected = format!("what is open on {server} to go on while {} is lost", death.server);
            Err(Found { at, rests, alive, expected, actual: format!("the {shape} through {gateway} {what}") })
        },
        "nothing was open on another apiserver",
    );
    let shapes = |there: &dyn Fn(&Death<'_>, &Stream<'_>) -> bool| -> BTreeSet<Shape> {
        let open = ground.pairs().filter(|(death, stream)| goes_on(stream.1) && there(death, stream));
        open.map(|(_, stream)| stream.1.shape).collect()
    };
    let dead = shapes(&|death, stream| was_there(facts, stream, death));
    let others = shapes(&|death, stream| was_elsewhere(facts, stream, death));
    let absent = dead.difference(&others).next().map(|shape| format!("no {shape} was open on another apiserver"));
    let lacking = absent.or_else(|| ground.somewhere(facts, goes_on)).or_else(|| {
        let watched = others.iter().any(|shape| shape.is_watch());
        watched.then(|| ground.deaths.iter().find_map(|(death, _)| unchanged(facts, death))).flatten()
    });
    (conclude(facts, &[], unless(found, lacking)), Vec::new())
}

/// How something was interrupted: around when, what that rests on, when its apiserver has to have had time, and in words.
type Interrupted = (Moment, Rests, Option<(Moment, Moment)>, String);

/// A change that was acknowledged while the apiserver was dead, and that a watch told of late or never.
fn untold(facts: &Facts<'_>, death: &Death<'_>, (began, stream): &Stream<'_>, until: Moment) -> Option<Interrupted> {
    let bound = facts.bounds.gateway_silent;
    let mut heard: HashMap<u64, Moment> = HashMap::new();
    for event in &stream.heard {
        if let Some(change) = event.change {
            heard.entry(change).or_insert(*began + event.after);
        }
    }
    let writes = &facts.writes.all;
    let first = writes.partition_point(|(at, _)| *at < death.on);
    let owed = writes[first..].iter().take_while(|(at, _)| *at <= until);
    let owed = owed.filter(|(_, write)| write.effect() == Effect::Certain && write.verb != Verb::Delete);
    for (at, write) in owed {
        let (acknowledged, change) = (*at + write.exchange.took, write.change);
        // Well before the end: it would not do to be told of it when all is over.
        let due = acknowledged + bound;
        if due > until {
            continue;
        }
        let when = facts.clock(acknowledged);
        match heard.get(&change) {
            Some(told) if *told <= due => {}
            _ if !stream.heard.iter().any(|event| (death.on..=until).contains(&(*began + event.after))) => {
                let what = "told of nothing, though changes were acknowledged meanwhile".to_owned();
                return Some((death.on, Rests::OnTime(until, until), None, what));
            }
            Some(told) => {
                let late = seconds(told.since(acknowledged));
                let what = format!("told of change {change}, acknowledged at {when}, after {late}");
                return Some((acknowledged, Rests::OnTime(due, *told), None, what));
            }
            None => {
                // What was told later shows that it was left out.
                let later = stream.heard.last().is_some_and(|event| *began + event.after > due);
                let rests = if later { Rests::OnRecord } else { Rests::OnTime(until, until) };
                let what = format!("never told of change {change}, acknowledged at {when}");
                return Some((acknowledged, rests, None, what));
            }
        }
    }
    None
}

/// A stretch in which no line came back in a session.
fn unheard(facts: &Facts<'_>, death: &Death<'_>, (began, stream): &Stream<'_>, until: Moment) -> Option<Interrupted> {
    let lines = stream.heard.iter().map(|line| (*began + line.after, *began + line.after));
    let (from, to) = hole(lines.filter(|(at, _)| *at > death.on), (death.on, until), facts.bounds.gateway_silent)?;
    let what = format!("had no line for {} from {} on", seconds(to.since(from)), facts.clock(from));
    Some((from, Rests::OnTime(from, to), None, what))
}

/// Where too long no change was acknowledged that a watch could have told of.
fn unchanged(facts: &Facts<'_>, death: &Death<'_>) -> Option<String> {
    let bound = facts.bounds.gateway_silent;
    let first = facts.writes.all.partition_point(|(at, _)| *at < death.on);
    let certain = facts.writes.all[first..].iter().filter(|(_, write)| write.effect() == Effect::Certain);
    let spans = certain.map(|(at, write)| (*at, *at + write.exchange.took));
    let last = facts.writes.all.last().map_or(death.on, |(at, _)| *at);
    // Where it is never back, nothing is written any more at last.
    let until = if death.off >= facts.end { death.off.min(last) } else { death.off };
    let (from, to) = match first == facts.writes.all.len() {
        true => (death.on, death.off),
        false => hole(spans, (death.on, until), bound)?,
    };
    let (length, from) = (seconds(to.since(from)), facts.clock(from));
    Some(format!("no change was made for {length} from {from} on, and at most {} may pass", seconds(bound)))
}
