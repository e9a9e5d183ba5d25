//! GATEWAY: what a gateway makes of an apiserver that is dead and has not said so. Each claim is about the gateway that is judged, or
//! about all where none is named; each has a file of its own.
//!
//! What all have in common: an apiserver is dead only where its [silence](super::silence) is proven, and what a stream rests on is known only
//! where its apiserver is, by the gateway's word or by an audit log.
//!
//! ```text
//! lost at 10 s, a watch from there ended at 25 s, bound 12 s                      ->  violated
//! the same, and that apiserver still told of a change at 14 s                     ->  inconclusive: it was not lost
//! the same, and nobody had wanted anything of that apiserver                      ->  inconclusive
//! the same, and rollproof did not run from 21 s to 25 s                           ->  inconclusive: the end may have come in time
//! the same, and rollproof did not run at 15 s                                     ->  violated
//! ```

mod elsewhere;
mod ended;
mod quiet;
mod repeatable;
mod resumed;
mod untouched;

use std::collections::HashSet;
use std::time::Duration;

pub(super) use self::elsewhere::new_ones_go_elsewhere;
pub(super) use self::ended::dead_streams_end;
pub(super) use self::quiet::quiet_ones_live;
pub(super) use self::repeatable::errors_can_be_repeated;
pub(super) use self::resumed::resumed_ones_miss_nothing;
pub(super) use self::untouched::others_are_untouched;
use super::Verdict;
use super::breaches::{Breach, first_breach};
use super::conclusive::{Rests, starved};
use super::excerpt::{describe, excerpt};
use super::facts::Facts;
use super::overlap::Lasting;
use super::silence::Silence;
use super::streams::{Death, Logged, Stream, deaths, hole, open_at, server_of, streams};
use crate::timeline::{Event, GatewayStream, Moment, Observation};

/// What the claims look at.
struct Ground<'a> {
    /// The apiservers that died, and why that is not known, if so.
    deaths: Vec<(Death<'a>, Option<String>)>,
    streams: Lasting<Stream<'a>>,
    logged: Logged<'a>,
}

/// Something that a gateway must not do.
struct Found {
    /// Around which the observations are that tell of it.
    at: Moment,
    rests: Rests,
    /// When an apiserver that is not dead has to have had time to answer, if that decides.
    alive: Option<(Moment, Moment)>,
    expected: String,
    actual: String,
}

impl<'a> Ground<'a> {
    fn of(facts: &'a Facts<'_>) -> Self {
        let silence = Silence::of(facts);
        let deaths = deaths(facts).into_iter().map(|death| {
            let doubt = silence.doubt(facts, &death);
            (death, doubt)
        });
        let streams = Lasting::of(streams(facts, facts.gateway), |(began, _)| *began, |(_, stream)| lasted(stream));
        Self { deaths: deaths.collect(), streams, logged: Logged::of(facts) }
    }

    /// The streams under the apiservers that died: there when one did, or while it was dead.
    fn pairs(&self) -> impl Iterator<Item = (&Death<'a>, &Stream<'a>)> {
        self.deaths.iter().flat_map(|(death, _)| self.under(death).iter().map(move |stream| (death, stream)))
    }

    /// How many streams are like that under some death.
    fn count(&self, which: impl Fn(&Death<'_>, &Stream<'a>) -> bool) -> usize {
        let found = self.pairs().filter(|(death, stream)| which(death, stream));
        found.map(|(_, (_, stream))| std::ptr::from_ref::<GatewayStream>(stream)).collect::<HashSet<_>>().len()
    }

    fn under(&self, death: &Death<'_>) -> &[Stream<'a>] {
        self.streams.within(death.on, death.off)
    }

    /// A claim about each stream of some kind under each death.
    fn each(
        &self,
        facts: &Facts<'_>,
        concerned: impl Fn(&Death<'_>, &Stream<'a>) -> bool,
        claim: impl Fn(&Death<'_>, &Stream<'a>) -> Result<(), Found>,
        nobody: &str,
    ) -> Verdict {
        if self.deaths.is_empty() {
            return Verdict::inconclusive("no apiserver was lost, frozen or restarted");
        }
        let (mut held, mut doubted) = (false, None);
        for (death, doubt) in &self.deaths {
            for stream in self.under(death).iter().filter(|stream| concerned(death, stream)) {
                let found = match (doubt, claim(death, stream)) {
                    (Some(why), _) => Verdict::inconclusive(why),
                    (None, Ok(())) => Verdict::Upheld,
                    (None, Err(found)) => self.breach(facts, stream, found),
                };
                match found {
                    Verdict::Violated { .. } => return found,
                    Verdict::Inconclusive { .. } => doubted = doubted.or(Some(found)),
                    Verdict::Upheld => held = true,
                }
            }
        }
        let none = || if held { Verdict::Upheld } else { Verdict::inconclusive(nobody) };
        doubted.unwrap_or_else(none)
    }

    /// What stands of what was found on a stream, and the observations that tell of it.
    fn breach(&self, facts: &Facts<'_>, stream: &Stream<'_>, found: Found) -> Verdict {
        let Found { at, rests, alive, expected, actual } = found;
        if let Some(why) = alive.and_then(|(from, until)| starved(facts, from, until)) {
            return Verdict::inconclusive(why);
        }
        let told = || {
            let seen = Observation { at: stream.0, event: Event::GatewayStream(stream.1.clone()) };
            let mut lines = vec![describe(facts.recording.header.began_at, &seen)];
            lines.extend(self.logged.told(facts, stream.1));
            lines.extend(excerpt(facts, at, |event| {
                matches!(event, Event::LossOn(_) | Event::LossOff(_) | Event::Lifecycle(_) | Event::Endpoints(_))
            }));
            lines.truncate(8);
            lines
        };
        let breach = Breach { rests, expected, actual, excerpt: Box::new(told) };
        first_breach(facts, [breach]).unwrap_or(Verdict::Upheld)
    }

    /// A stream that was open when an apiserver died, and of which nobody knows where it was.
    fn somewhere(&self, facts: &Facts<'_>, kind: impl Fn(&GatewayStream) -> bool) -> Option<String> {
        let mut open = self.pairs().filter(|(death, stream)| kind(stream.1) && open_at(stream, death.on));
        let (_, (began, stream)) = open.find(|(_, stream)| server_of(facts, stream.1).is_none())?;
        let (shape, gateway) = (stream.shape, &stream.gateway);
        Some(format!("nobody knows on which apiserver the {shape} of {} through {gateway} was", facts.clock(*began)))
    }

    /// When the clients of the gateway stopped.
    fn stopped(&self) -> Option<Moment> {
        self.streams.all().iter().map(|(began, stream)| *began + stream.lasted).max()
    }

    /// Where too long nothing of that kind was asked for through it, if anywhere in a window of each death.
    fn unasked(
        &self,
        facts: &Facts<'_>,
        what: &str,
        kind: impl Fn(&GatewayStream) -> bool,
        window: impl Fn(&Death<'_>) -> (Moment, Moment),
    ) -> Option<String> {
        let gap = facts.bounds.gateway_silent;
        let (from, until) = self.deaths.iter().find_map(|(death, _)| {
            let (from, until) = window(death);
            let asked = self.streams.within(from, until).iter().filter(|(_, stream)| kind(stream));
            hole(asked.map(|(began, stream)| (*began, *began + stream.lasted)), (from, until), gap)
        })?;
        let (length, from) = (seconds(until.since(from)), facts.clock(from));
        Some(format!("no {what} was asked for in {length} from {from} on, and at most {} may pass", seconds(gap)))
    }
}

/// Whether a stream was open on the apiserver that died, when it did.
fn was_there(facts: &Facts<'_>, stream: &Stream<'_>, death: &Death<'_>) -> bool {
    server_of(facts, stream.1) == Some(death.server) && open_at(stream, death.on)
}

/// Whether it was open on another then.
fn was_elsewhere(facts: &Facts<'_>, stream: &Stream<'_>, death: &Death<'_>) -> bool {
    server_of(facts, stream.1).is_some_and(|server| server != death.server) && open_at(stream, death.on)
}

/// Until the last that is known of it.
fn lasted(stream: &GatewayStream) -> Duration {
    let told = stream.told.as_ref().map_or(Duration::ZERO, |end| end.after);
    stream.lasted.max(told).max(stream.answered.map_or(Duration::ZERO, |it| it.after))
}

fn is_watch(stream: &GatewayStream) -> bool {
    stream.shape.is_watch()
}

fn seconds(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}

/// What was found, unless it is upheld with too little to go by.
fn unless(found: Verdict, lacking: Option<String>) -> Verdict {
    match (found, lacking) {
        (Verdict::Upheld, Some(lacking)) => Verdict::inconclusive(lacking),
        (found, _) => found,
    }
}

/// What is lacking if there are so few.
fn too_few(facts: &Facts<'_>, found: usize, what: &str) -> Option<String> {
    let takes = facts.bounds.samples;
    (found < takes as usize).then(|| format!("{found} {what}; at least {takes} are needed"))
}
