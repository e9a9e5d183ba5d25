//! What became of the field report's informer: its hang detector, the age of its watch, its PINGs. For people; it decides nothing.
//!
//! ```text
//! lost at 10 s, told of nothing until 30 s, the detector waits for 12 s       ->  struck after 12 s
//! asked to last 15 s, opened at 5 s, not ended when all is healed at 30 s     ->  25 s old
//! ended by a reset, and the next one from revision 0                          ->  went on anew
//! ```

use std::time::Duration;

use super::Figure;
use super::cures::{Recovery, recoveries};
use super::facts::Facts;
use super::streams::{Death, Stream, ended, was_on};
use crate::timeline::{Moment, Shape};
use crate::timing::Bounds;

/// The informer whose watch was on the apiserver that died.
#[derive(Clone, Debug, PartialEq)]
pub struct Informer {
    /// When it told of changes again.
    pub recovery: Recovery,
    /// When its hang detector struck, after the fault.
    pub struck: Option<Duration>,
    /// How old that watch was when it ended, or the fault was over.
    pub age: Duration,
    /// How long it had been asked to last.
    pub asked: Duration,
    /// How many PINGs were answered on its connection while the watch was open. None was sent while something came.
    pub pings: u64,
    /// How it went on, if it did.
    pub went_on: Option<Onward>,
}

/// How an informer goes on when its watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// From the last revision.
    Resumed,
    /// With whatever there is: where client-go lists.
    Anew,
}

/// The informer that was on the dead apiserver.
pub(super) fn informer(all: &[Stream<'_>], death: &Death<'_>, bounds: &Bounds) -> Option<Informer> {
    let dead = all.iter().find(|stream| stream.1.shape == Shape::Informer && was_on(stream, death))?;
    let of_it = all.iter().filter(|(_, it)| it.shape == Shape::Informer && it.client == dead.1.client);
    let next = of_it.clone().find(|(at, it)| *at > dead.0 && *at < death.off && it.succeeded());
    let anew = |from| if from == Some(0) { Onward::Anew } else { Onward::Resumed };
    let heard = of_it.flat_map(|(began, it)| it.heard.iter().map(|heard| *began + heard.after));
    Some(Informer {
        recovery: recoveries(all, Shape::Informer, death, bounds).next()?,
        struck: struck(heard.collect(), death, bounds.gateway_hang),
        age: ended(dead).map_or(death.off, |end| end.min(death.off)).since(dead.0),
        asked: dead.1.asked_to_last?,
        pings: dead.1.pings.unwrap_or(0),
        went_on: next.map(|(_, it)| anew(it.from)),
    })
}

/// When a hang detector strikes that is told of changes at these moments.
fn struck(mut heard: Vec<Moment>, death: &Death<'_>, hang: Duration) -> Option<Duration> {
    heard.retain(|at| (death.on..death.off).contains(at));
    heard.sort_unstable();
    let edges = std::iter::once(death.on).chain(heard.iter().copied());
    let mut gaps = edges.zip(heard.iter().copied().chain([death.off]));
    gaps.find(|(from, to)| to.since(*from) >= hang).map(|(from, _)| (from + hang).since(death.on))
}

/// Of GATEWAY-1: none where there was no informer.
pub(super) fn figures(facts: &Facts<'_>, all: &[Stream<'_>], death: &Death<'_>) -> Vec<Figure> {
    let Some(informer) = informer(all, death, &facts.bounds) else { return Vec::new() };
    let struck = informer.struck.map(|after| Figure::seconds("hang detector struck after", after));
    let age = Figure::seconds("age of the informer's watch", informer.age);
    let pings = Figure::count("PINGs of its client answered", informer.pings as usize);
    struck.into_iter().chain([age, pings]).collect()
}
