//! GATEWAY-1: what is open on a dead apiserver is ended.
//!
//! ```text
//! lost at 10 s, a watch from there ended at 14.1 s, bound 12 s                         ->  upheld
//! lost at 10 s, a watch from there not ended at 30 s                                   ->  violated
//! lost at 10 s, healed at 18 s, a watch from there not ended, bound 12 s               ->  inconclusive
//! of many watches of one client only 90 were there, and 100 fit one connection         ->  inconclusive
//! a watch was open when the apiserver was lost, and nobody knows where                 ->  inconclusive
//! packets to it are lost, and its apiserver ended a watch when it had lasted as asked  ->  says nothing
//! ```

use std::collections::BTreeSet;

use super::{Found, Ground, is_watch, seconds, unless, was_there};
use crate::timeline::{Lost, Shape};
use crate::verdict::conclusive::{Rests, conclude};
use crate::verdict::facts::Facts;
use crate::verdict::informer;
use crate::verdict::streams::{Death, How, Stream, ended};
use crate::verdict::{Figure, Verdict};

/// GATEWAY-1.
pub(in crate::verdict) fn dead_streams_end(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (bound, ground) = (facts.bounds.gateway_ended, Ground::of(facts));
    let there = |death: &Death<'_>, stream: &Stream<'_>| {
        is_watch(stream.1) && was_there(facts, stream, death) && !by_its_apiserver(facts, death, stream)
    };
    let took = |death: &Death<'_>, stream: &Stream<'_>| {
        ended(stream).filter(|end| *end <= death.off).map(|end| end.since(death.on))
    };
    // For how long one that was not ended was seen under the fault: its client may have ended it itself.
    let seen = |death: &Death<'_>, (began, stream): &Stream<'_>| death.off.min(*began + stream.lasted).since(death.on);
    // One whose end did not have to come so soon.
    let healed = |death: &Death<'_>, stream: &Stream<'_>| {
        there(death, stream) && took(death, stream).is_none() && seen(death, stream) <= bound
    };
    let concerned = |death: &Death<'_>, stream: &Stream<'_>| there(death, stream) && !healed(death, stream);
    let worst = ground
        .pairs()
        .filter(|(death, stream)| concerned(death, stream))
        .filter_map(|(death, stream)| took(death, stream))
        .max();
    let too_soon = ground.pairs().find(|(death, stream)| healed(death, stream)).map(|(death, stream)| {
        let (server, seen) = (death.server, seen(death, stream));
        match death.on + seen < death.off {
            true => format!(
                "the {} was over for its client {} after {server} was lost, before it had to be ended, and nobody says why",
                stream.1.shape,
                seconds(seen)
            ),
            false => format!("{server} was back after {}, before what is open there had to be ended", seconds(seen)),
        }
    });
    let watches = ground.streams.all().iter().map(|(_, stream)| stream).filter(|it| is_watch(it));
    let shapes: BTreeSet<_> = watches.map(|it| it.shape).collect();
    let there_too: BTreeSet<_> =
        ground.pairs().filter(|(death, it)| there(death, it)).map(|(_, it)| it.1.shape).collect();
    let absent = shapes.difference(&there_too).next();
    let absent = absent.map(|shape| format!("no {shape} was open on the apiserver that was lost"));
    let many = ground.pairs().filter(|(death, it)| it.1.shape == Shape::WatchMany && there(death, it)).count();
    let streams = facts.bounds.gateway_streams;
    let one_connection = (1..=streams as usize)
        .contains(&many)
        .then(|| format!("{many} watches among many were there, and {streams} fit one connection"));
    let unknown = ground.somewhere(facts, is_watch);
    let nobody = too_soon.clone().or(unknown.clone());
    let nobody = nobody.unwrap_or_else(|| "no watch was open on the apiserver that was lost".to_owned());
    let found = ground.each(
        facts,
        concerned,
        |death, stream| {
            let (shape, gateway) = (stream.1.shape, &stream.1.gateway);
            let due = death.on + bound;
            let (rests, actual) = match took(death, stream) {
                Some(took) if took <= bound => return Ok(()),
                Some(took) => (
                    Rests::OnTime(due, death.on + took),
                    format!("the {shape} through {gateway} ended {} after its apiserver was lost", seconds(took)),
                ),
                // An end that came meanwhile would have been seen, but for what lasted until then.
                None => (
                    Rests::OnTime(death.on + seen(death, stream), death.on + seen(death, stream)),
                    format!(
                        "the {shape} through {gateway} had not ended {} after its apiserver was lost",
                        seconds(seen(death, stream))
                    ),
                ),
            };
            let expected = format!("every watch on {} to be ended within {}", death.server, seconds(bound));
            Err(Found { at: death.on, rests, alive: None, expected, actual })
        },
        &nobody,
    );
    let worst = worst.map(|took| Figure::seconds("dead watch ended after", took));
    let many = (many > 0).then(|| Figure::count("dead watches among many", many));
    let informers = ground.deaths.iter().flat_map(|(death, _)| informer::figures(facts, ground.streams.all(), death));
    let figures = worst.into_iter().chain(many).chain(informers).collect();
    let lacking = too_soon.or(unknown).or(absent).or(one_connection);
    (conclude(facts, &[], unless(found, lacking)), figures)
}

/// Whether its apiserver ended a watch when it had lasted as asked. It can where its packets still pass, or just before the loss.
fn by_its_apiserver(facts: &Facts<'_>, death: &Death<'_>, stream: &Stream<'_>) -> bool {
    let Some(end) = ended(stream).filter(|end| *end <= death.off && stream.1.is_over()) else { return false };
    let passes = matches!(death.how, How::Lost(Lost::ToServer) | How::Restarted(_));
    passes || end <= death.on + facts.bounds.close_noticed
}
