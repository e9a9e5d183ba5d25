//! GATEWAY-5: what clients are told is something after which they try again.
//!
//! ```text
//! lost at 10 s, a GET answered with 503 at 14 s                                        ->  violated
//! lost at 10 s, in the middle of an answer, which is reset at 14 s                     ->  says nothing
//! a GET not answered until its client lost patience                                    ->  violated
//! nothing but ten GETs at the end of the loss                                          ->  inconclusive
//! ```

use super::{Found, Ground, is_watch, too_few, unless};
use crate::timeline::{ErrorClass, GatewayStream, Moment, Shape};
use crate::verdict::conclusive::{Rests, conclude};
use crate::verdict::facts::Facts;
use crate::verdict::sporadic::sporadic;
use crate::verdict::streams::{Death, Stream, ended, server_of};
use crate::verdict::{Figure, Verdict};

/// GATEWAY-5.
pub(in crate::verdict) fn errors_can_be_repeated(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    use ErrorClass::{BrokenPipe, ConnectionReset, Goaway, StreamReset, Timeout, UnexpectedEof};
    let ground = Ground::of(facts);
    let during = |death: &Death<'_>, (began, _): &Stream<'_>, at: Moment| at >= death.on && *began <= death.off;
    // Its headers are with the client, and the rest is lost: no gateway can repeat it.
    let begun = |death: &Death<'_>, (began, stream): &Stream<'_>| {
        stream.shape == Shape::Request
            && stream.succeeded()
            && server_of(facts, stream) == Some(death.server)
            && *began <= death.on
    };
    let told = |death: &Death<'_>, stream: &Stream<'_>| {
        let ours = stream.1.told.as_ref().and_then(|end| end.failure.as_ref()).is_some_and(|it| it.class == Timeout);
        let error = stream.1.told.is_some()
            && !stream.1.is_over()
            && (is_watch(stream.1) || !stream.1.succeeded() || failed(stream.1));
        let excused = stream.1.shape.is_quiet() || stream.1.shape.is_session() || begun(death, stream);
        // A read that hangs until its client loses patience has failed; what else hangs is GATEWAY-1's and -2's.
        let excused = excused || (ours && stream.1.shape != Shape::Request);
        error && !excused && ended(stream).is_some_and(|at| during(death, stream, at))
    };
    let found = ground.each(
        facts,
        told,
        |_, stream| {
            let class = stream.1.told.as_ref().and_then(|end| end.failure.as_ref()).map(|failure| failure.class);
            let closed = matches!(class, Some(UnexpectedEof | ConnectionReset | BrokenPipe | Goaway));
            let status = stream.1.answered.filter(|_| !stream.1.succeeded()).map(|answered| answered.status);
            let repeated = match (is_watch(stream.1) || stream.1.shape == Shape::NewWatch, status) {
                (true, Some(status)) => status == 429 || status >= 500,
                (true, None) => closed || class.is_none() || class == Some(StreamReset),
                (false, Some(_)) => false,
                (false, None) => closed,
            };
            if repeated {
                return Ok(());
            }
            let what =
                status.map_or_else(|| class.map_or_else(String::new, |class| class.to_string()), |it| it.to_string());
            let (shape, gateway) = (stream.1.shape, &stream.1.gateway);
            let at = ended(stream).unwrap_or(stream.0);
            // Its own patience is ours to have; what it was told was told by somebody else.
            let (rests, alive) = match class {
                Some(Timeout) => (Rests::OnTime(stream.0, at), None),
                _ => (Rests::OnRecord, Some((stream.0, at))),
            };
            let actual = format!("a {shape} of {} through {gateway} got {what}", facts.clock(stream.0));
            Err(Found {
                at,
                rests,
                alive,
                expected: "nothing that a client does not repeat by itself".to_owned(),
                actual,
            })
        },
        "nobody was told anything",
    );
    let errors = ground.count(told);
    let reads = ground.count(|death, (began, it)| it.shape == Shape::Request && (death.on..=death.off).contains(began));
    let lacking = too_few(facts, reads, "reads were asked for meanwhile").or_else(|| {
        let stopped = ground.stopped()?;
        let window = |death: &Death<'_>| (death.on, death.off.min(stopped));
        ground.unasked(facts, "read", |stream| stream.shape == Shape::Request, window)
    });
    let figures = std::iter::once(Figure::count("streams ended with an error", errors)).chain(sporadic(facts));
    (conclude(facts, &[], unless(found, lacking)), figures.collect())
}

fn failed(stream: &GatewayStream) -> bool {
    stream.told.as_ref().is_some_and(|end| end.failure.is_some())
}
