//! GATEWAY-2: what is new goes to an apiserver that answers.
//!
//! ```text
//! lost at 10 s, a GET of 23 s not answered within 3 s, or with 503                     ->  violated
//! lost at 10 s and until the end, a GET still waiting when its client is stopped       ->  says nothing
//! lost at 10 s, no GET, or no new watch, from 23 s to 26 s                             ->  inconclusive
//! ```

use super::{Found, Ground, seconds, too_few, unless};
use crate::timeline::{GatewayStream, Shape};
use crate::verdict::conclusive::{Rests, conclude};
use crate::verdict::facts::Facts;
use crate::verdict::streams::{Death, Stream};
use crate::verdict::{Figure, Verdict};

/// GATEWAY-2.
pub(in crate::verdict) fn new_ones_go_elsewhere(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (bound, answered) = (facts.bounds.gateway_ended, facts.bounds.gateway_answered);
    let ground = Ground::of(facts);
    let concerned = |death: &Death<'_>, (began, stream): &Stream<'_>| {
        !stream.shape.is_quiet()
            && !stream.shape.is_session()
            && *began > death.on + bound
            && *began + answered < death.off
            // One that we ended ourselves, before it had to be answered, says nothing.
            && (stream.answered.is_some() || stream.told.is_some() || stream.lasted >= answered)
    };
    let found = ground.each(
        facts,
        concerned,
        |death, (began, stream)| {
            let in_time = stream.answered.is_some_and(|it| it.after <= answered);
            if in_time && stream.succeeded() {
                return Ok(());
            }
            let (shape, gateway) = (stream.shape, &stream.gateway);
            let (after, what) = match (stream.answered, &stream.told) {
                (Some(it), _) if in_time => (it.after, format!("was answered with {}", it.status)),
                (Some(it), _) => (it.after, format!("was answered after {}", seconds(it.after))),
                (None, Some(end)) if end.after <= answered => (end.after, "failed without an answer".to_owned()),
                (None, _) => (answered, format!("had no answer within {}", seconds(answered))),
            };
            let expected = format!(
                "every new stream to be answered within {}, from {} after the loss of {} on",
                seconds(answered),
                seconds(bound),
                death.server
            );
            let actual = format!("a {shape} of {} through {gateway} {what}", facts.clock(*began));
            Err(Found { at: *began, rests: Rests::OnTime(*began, *began + after), alive: None, expected, actual })
        },
        "nothing was asked for late enough after the loss",
    );
    let asked = ground.count(concerned);
    let few = too_few(facts, asked, "were asked for late enough after the loss");
    let lacking = few.or_else(|| {
        let stopped = ground.stopped()?;
        let window = |death: &Death<'_>| (death.on + bound, death.off.min(stopped) - answered);
        let new = |shape| move |stream: &GatewayStream| stream.shape == shape;
        let watched = ground.streams.all().iter().any(|(_, stream)| stream.shape == Shape::NewWatch);
        let watches = || ground.unasked(facts, "new watch", new(Shape::NewWatch), window).filter(|_| watched);
        ground.unasked(facts, "request", new(Shape::Request), window).or_else(watches)
    });
    (conclude(facts, &[], unless(found, lacking)), Vec::new())
}
