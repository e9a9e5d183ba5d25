//! GATEWAY: what a gateway makes of an apiserver that is dead and has not said so. Each claim is about the gateway that is judged, or
//! about all where none is named.
//!
//! ```text
//! lost at 10 s, a watch from there ended at 14.1 s, bound 12 s                         ->  GATEWAY-1 upheld
//! lost at 10 s, a watch from there not ended at 30 s                                   ->  GATEWAY-1 violated
//! lost at 10 s, a GET of 23 s not answered within 3 s, or with 503                     ->  GATEWAY-2 violated
//! lost at 10 s, a watch or an exec on the other apiserver ended at 18 s                ->  GATEWAY-3 violated
//! a quiet stream or session on an apiserver that was never lost ended after 8 s           ->  GATEWAY-4 violated
//! a quiet exec there had no line come back when it was spoken to after 30 s            ->  GATEWAY-4 violated
//! a quiet attach, or logs, there had no line when the container spoke after 30 s        ->  GATEWAY-4 violated
//! lost at 10 s and until the end, a GET still waiting when its client is stopped           ->  says nothing
//! a quiet stream was not changed, or not quiet for long enough                         ->  GATEWAY-4 inconclusive
//! lost at 10 s, a GET answered with 503 at 14 s                                        ->  GATEWAY-5 violated
//! lost at 10 s, in the middle of an answer, which is reset at 14 s                     ->  says nothing
//! a GET not answered until its client lost patience                                   ->  GATEWAY-5 violated
//! a watch on the other apiserver told of no change that was made meanwhile             ->  GATEWAY-3 violated
//! a watch ended and did not go on, and change 7 was acknowledged                       ->  GATEWAY-6 violated
//! lost at 10 s, healed at 18 s, a watch from there not ended, bound 12 s               ->  GATEWAY-1 inconclusive
//! of many watches of one client only 90 were there, and 100 fit one connection         ->  GATEWAY-1 inconclusive
//! an informer's watch on the other apiserver ended when it had lasted as asked         ->  says nothing
//! an informer began anew after a reset                                                 ->  GATEWAY-6 says nothing: it is told of states
//! a watch ended, went on, and change 7, acknowledged meanwhile, never came             ->  GATEWAY-6 violated
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::conclusive::conclude;
use super::excerpt::{describe, excerpt};
use super::facts::Facts;
use super::informer;
use super::sporadic::sporadic;
use super::streams::{Death, Stream, deaths, ended, logged, open_at, streams, was_on};
use super::{Figure, Verdict};
use crate::timeline::{Effect, ErrorClass, Event, GatewayStream, Moment, Observation, Shape, Verb};
use crate::timing::gateway as times;

fn is_watch(stream: &GatewayStream) -> bool {
    stream.shape.is_watch()
}

fn seconds(span: Duration) -> String {
    format!("{:.3} s", span.as_secs_f64())
}

/// A claim about each stream of some kind under each death; the worst wins.
fn each<'a>(
    facts: &Facts<'a>,
    concerned: impl Fn(&Death<'_>, &Stream<'a>) -> bool,
    claim: impl Fn(&Death<'_>, &Stream<'a>) -> Result<(), (Moment, String, String)>,
    nobody: &str,
) -> Verdict {
    let (deaths, streams) = (deaths(facts), streams(facts, facts.gateway));
    if deaths.is_empty() {
        return Verdict::inconclusive("no apiserver was lost, frozen or restarted");
    }
    let pairs = deaths.iter().flat_map(|death| streams.iter().map(move |stream| (death, stream)));
    let verdicts = pairs.filter(|(death, stream)| concerned(death, stream)).map(|(death, stream)| {
        let Err((at, expected, actual)) = claim(death, stream) else { return Verdict::Upheld };
        let it = describe(
            facts.recording.header.began_at,
            &Observation { at: stream.0, event: Event::GatewayStream(stream.1.clone()) },
        );
        let mut lines = vec![it];
        lines.extend(logged(facts, stream.1));
        lines.extend(excerpt(facts, at, |event| {
            matches!(event, Event::LossOn(_) | Event::LossOff(_) | Event::Lifecycle(_) | Event::Endpoints(_))
        }));
        lines.truncate(8);
        Verdict::Violated { expected, actual, excerpt: lines }
    });
    let found = Verdict::worst(verdicts).unwrap_or_else(|| Verdict::inconclusive(nobody));
    conclude(facts, &[], found)
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
    (found < takes as usize).then(|| format!("{found} {what}, it takes {takes}"))
}

/// GATEWAY-1.
pub(super) fn dead_streams_end(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let bound = facts.bounds.gateway_ended;
    let there = |death: &Death<'_>, stream: &Stream<'_>| {
        is_watch(stream.1)
            && was_on(stream, death)
            // Where the apiserver's packets still come, it can end a watch itself.
            && !(stream.1.is_over() && ended(stream).is_some_and(|end| end <= death.off))
    };
    let took = |death: &Death<'_>, stream: &Stream<'_>| {
        ended(stream).filter(|end| *end <= death.off).map(|end| end.since(death.on))
    };
    let (all, dead) = (streams(facts, facts.gateway), deaths(facts));
    // One that was not ended, under a fault that was over before it had to be.
    let healed = |death: &Death<'_>, stream: &Stream<'_>| {
        there(death, stream) && took(death, stream).is_none() && death.off.since(death.on) <= bound
    };
    let concerned = |death: &Death<'_>, stream: &Stream<'_>| there(death, stream) && !healed(death, stream);
    let pairs: Vec<_> = dead.iter().flat_map(|death| all.iter().map(move |stream| (death, stream))).collect();
    let worst = pairs
        .iter()
        .filter(|(death, stream)| concerned(death, stream))
        .filter_map(|(death, stream)| took(death, stream))
        .max();
    let too_soon = pairs.iter().find(|(death, stream)| healed(death, stream)).map(|(death, _)| {
        format!(
            "{} was back after {}, before what is open there had to be ended",
            death.server,
            seconds(death.off.since(death.on))
        )
    });
    let shapes: BTreeSet<_> =
        all.iter().map(|(_, stream)| stream).filter(|it| is_watch(it)).map(|it| it.shape).collect();
    let absent = shapes.iter().find(|shape| !pairs.iter().any(|(death, it)| it.1.shape == **shape && there(death, it)));
    let absent = absent.map(|shape| format!("no {shape} was open on the apiserver that was lost"));
    let many = pairs.iter().filter(|(death, it)| it.1.shape == Shape::WatchMany && there(death, it)).count();
    let one_connection = (1..=times::STREAMS as usize).contains(&many);
    let one_connection = one_connection
        .then(|| format!("{many} watches among many were there, and {} fit one connection", times::STREAMS));
    let nobody = too_soon.clone().unwrap_or_else(|| "no watch was open on the apiserver that was lost".to_owned());
    let found = each(
        facts,
        concerned,
        |death, stream| {
            let (shape, gateway) = (stream.1.shape, &stream.1.gateway);
            let actual = match took(death, stream) {
                Some(took) if took <= bound => return Ok(()),
                Some(took) => {
                    format!("the {shape} through {gateway} ended {} after its apiserver was lost", seconds(took))
                }
                None => format!(
                    "the {shape} through {gateway} had not ended {} after its apiserver was lost",
                    seconds(death.off.since(death.on))
                ),
            };
            Err((death.on, format!("every watch on {} to be ended within {}", death.server, seconds(bound)), actual))
        },
        &nobody,
    );
    let worst = worst.map(|took| Figure::seconds("dead watch ended after", took));
    let many = (many > 0).then(|| Figure::count("dead watches among many", many));
    let figures = worst.into_iter().chain(many).chain(dead.iter().flat_map(|death| informer::figures(&all, death)));
    (unless(found, too_soon.or(absent).or(one_connection)), figures.collect())
}

/// GATEWAY-2.
pub(super) fn new_ones_go_elsewhere(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let (bound, answered) = (facts.bounds.gateway_ended, facts.bounds.gateway_answered);
    let concerned = |death: &Death<'_>, (began, stream): &Stream<'_>| {
        !stream.shape.is_quiet()
            && !stream.shape.is_session()
            && *began > death.on + bound
            && *began + answered < death.off
            // One that we ended ourselves, before it had to be answered, says nothing.
            && (stream.answered.is_some() || stream.told.is_some() || stream.lasted >= answered)
    };
    let found = each(
        facts,
        concerned,
        |death, (began, stream)| {
            let in_time = stream.answered.is_some_and(|it| it.after <= answered);
            if in_time && stream.succeeded() {
                return Ok(());
            }
            let (shape, gateway) = (stream.shape, &stream.gateway);
            let what = match (stream.answered, &stream.told) {
                (Some(it), _) if in_time => format!("was answered with {}", it.status),
                (Some(it), _) => format!("was answered after {}", seconds(it.after)),
                (None, Some(end)) if end.after <= answered => "failed without an answer".to_owned(),
                (None, _) => format!("had no answer within {}", seconds(answered)),
            };
            let expected = format!(
                "every new stream to be answered within {}, from {} after the loss of {} on",
                seconds(answered),
                seconds(bound),
                death.server
            );
            Err((*began, expected, format!("a {shape} of {} through {gateway} {what}", facts.clock(*began))))
        },
        "nothing was asked for late enough after the loss",
    );
    let (deaths, streams) = (deaths(facts), streams(facts, facts.gateway));
    let asked = streams.iter().filter(|stream| deaths.iter().any(|death| concerned(death, stream))).count();
    let lacking = too_few(facts, asked, "were asked for late enough after the loss");
    (unless(found, lacking), Vec::new())
}

/// GATEWAY-3.
pub(super) fn others_are_untouched(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let concerned = |death: &Death<'_>, stream: &Stream<'_>| {
        let elsewhere = stream.1.server.as_deref().is_some_and(|server| server != death.server);
        let over = ended(stream).is_some_and(|end| end <= death.off) && stream.1.is_over();
        !over && (is_watch(stream.1) || stream.1.shape == Shape::Exec) && elsewhere && open_at(stream, death.on)
    };
    // Well before the end: it would not do to be told of it when all is over.
    let owed = |death: &Death<'_>| {
        facts.writes.all.iter().any(|(at, write)| {
            let acknowledged = *at + write.exchange.took;
            write.effect() == Effect::Certain && *at >= death.on && acknowledged + times::SILENT <= death.off
        })
    };
    let told_of_something = |death: &Death<'_>, (began, stream): &Stream<'_>| {
        stream.heard.iter().any(|heard| (death.on..=death.off).contains(&(*began + heard.after)))
    };
    let found = each(
        facts,
        concerned,
        |death, stream| {
            let (at, what) = match ended(stream).filter(|end| *end <= death.off) {
                Some(end) => (end, format!("was ended at {}", facts.clock(end))),
                None if is_watch(stream.1) && owed(death) && !told_of_something(death, stream) => {
                    (death.on, "told of nothing, though changes were acknowledged meanwhile".to_owned())
                }
                None => return Ok(()),
            };
            let server = stream.1.server.as_deref().unwrap_or_default();
            let (shape, gateway) = (stream.1.shape, &stream.1.gateway);
            let expected = format!("what is open on {server} to go on while {} is lost", death.server);
            Err((at, expected, format!("the {shape} through {gateway} {what}")))
        },
        "nothing was open on another apiserver",
    );
    (found, Vec::new())
}

/// GATEWAY-4.
pub(super) fn quiet_ones_live(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let dead: BTreeSet<_> = deaths(facts).iter().map(|death| death.server).collect();
    let quiet = streams(facts, facts.gateway).into_iter().filter(|(_, stream)| {
        let healthy = stream.server.as_deref().is_some_and(|server| !dead.contains(server));
        // One that its client ended itself says nothing.
        stream.shape.is_quiet() && healthy && (stream.told.is_some() || stream.spoken_to.is_some())
    });
    let mut quiet: Vec<_> = quiet.collect();
    // A session has no one who opens it again: its end is the one to tell of.
    quiet.sort_by_key(|(_, stream)| !stream.shape.is_session());
    let bound = facts.bounds.gateway_quiet;
    let was_ended = |stream: &GatewayStream| {
        stream.told.as_ref().is_some_and(|end| stream.spoken_to.is_none_or(|spoken| end.after < spoken))
    };
    // One that was opened late proves nothing, and nothing against the one beside it.
    let short = |stream: &GatewayStream| !was_ended(stream) && stream.spoken_to.is_some_and(|spoken| spoken < bound);
    let beside = |stream: &GatewayStream| quiet.iter().any(|(_, it)| it.shape == stream.shape && !short(it));
    let judged = quiet.iter().filter(|(_, stream)| !short(stream) || !beside(stream));
    let verdicts = judged.map(|(began, stream)| {
        let before = stream.told.as_ref().filter(|_| was_ended(stream));
        let (shape, gateway) = (stream.shape, &stream.gateway);
        let actual = match (before, stream.spoken_to) {
            (Some(end), _) => format!("a {shape} through {gateway} was ended after {}", seconds(end.after)),
            (None, Some(spoken)) if spoken < bound => {
                return Verdict::inconclusive(format!("it was quiet for {} only", seconds(spoken)));
            }
            (None, Some(spoken)) if stream.heard.iter().any(|heard| heard.after >= spoken) => return Verdict::Upheld,
            _ => format!("a {shape} through {gateway} did not tell of what happened at last"),
        };
        let concern = |event: &Event| matches!(event, Event::GatewayStream(it) if it.shape.is_quiet());
        Verdict::Violated {
            expected: "a quiet stream of an apiserver that answers to go on, and to tell of what happens at last"
                .to_owned(),
            actual,
            excerpt: excerpt(facts, *began, concern),
        }
    });
    let found = Verdict::worst(verdicts).unwrap_or_else(|| Verdict::inconclusive("no quiet stream was spoken to"));
    let longest = quiet.iter().filter_map(|(_, stream)| stream.spoken_to).max();
    let mut figures: Vec<_> = longest.map(|span| Figure::seconds("quiet for", span)).into_iter().collect();
    let sessions: Vec<_> = quiet.iter().filter(|(_, stream)| stream.shape.is_session()).collect();
    if !sessions.is_empty() {
        let cut = sessions.iter().filter(|(_, stream)| stream.told.is_some()).count();
        let all = format!("quiet sessions into {}", facts.behind_sessions());
        figures.extend([Figure::count(all, sessions.len()), Figure::count("of them cut", cut)]);
    }
    (conclude(facts, &[], found), figures)
}

/// GATEWAY-5.
pub(super) fn errors_can_be_repeated(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    use ErrorClass::{BrokenPipe, ConnectionReset, Goaway, StreamReset, Timeout, UnexpectedEof};
    let during = |death: &Death<'_>, (began, _): &Stream<'_>, at: Moment| at >= death.on && *began <= death.off;
    // Its headers are with the client, and the rest is lost: no gateway can repeat it.
    let begun = |death: &Death<'_>, (began, stream): &Stream<'_>| {
        stream.shape == Shape::Request
            && stream.succeeded()
            && stream.server.as_deref() == Some(death.server)
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
    let found = each(
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
            let actual = format!("a {shape} of {} through {gateway} got {what}", facts.clock(stream.0));
            Err((at, "nothing that a client does not repeat by itself".to_owned(), actual))
        },
        "nobody was told anything",
    );
    let (deaths, streams) = (deaths(facts), streams(facts, facts.gateway));
    let errors = streams.iter().filter(|stream| deaths.iter().any(|death| told(death, stream))).count();
    let meanwhile = |at: Moment| deaths.iter().any(|death| (death.on..=death.off).contains(&at));
    let reads = streams.iter().filter(|(began, it)| it.shape == Shape::Request && meanwhile(*began)).count();
    let found = unless(found, too_few(facts, reads, "reads were asked for meanwhile"));
    let figures = std::iter::once(Figure::count("streams ended with an error", errors)).chain(sporadic(facts));
    (found, figures.collect())
}

fn failed(stream: &GatewayStream) -> bool {
    stream.told.as_ref().is_some_and(|end| end.failure.is_some())
}

/// GATEWAY-6.
pub(super) fn resumed_ones_miss_nothing(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut chains: BTreeMap<(&str, &str), Vec<Stream<'_>>> = BTreeMap::new();
    for stream in streams(facts, facts.gateway).into_iter().filter(|(_, stream)| is_watch(stream)) {
        chains.entry((&stream.1.gateway, &stream.1.client)).or_default().push(stream);
    }
    let mut resumes = Vec::new();
    let verdicts: Vec<_> = chains
        .iter()
        .filter_map(|((gateway, client), chain)| {
            // The last of those that were tried until there was one on each apiserver is the first that counts. What was
            // refused meanwhile was no watch yet.
            let first = chain.iter().position(|(_, stream)| stream.succeeded() && stream.told.is_some())?;
            let (opened, end) = (chain[first].0, ended(&chain[first])?);
            let later = &chain[first + 1..];
            // What has begun anew was told of states, and is owed what came after that.
            let anew = later.iter().rfind(|(_, it)| it.shape == Shape::Informer && it.from == Some(0) && it.succeeded());
            let opened = anew.map_or(opened, |(at, it)| *at + it.answered.map_or(Duration::ZERO, |it| it.after));
            let again = later.iter().find(|(_, stream)| stream.succeeded());
            resumes.extend(again.and_then(|(at, stream)| Some((*at + stream.answered?.after).since(end))));
            let heard: BTreeSet<_> =
                chain.iter().flat_map(|(_, stream)| stream.heard.iter().filter_map(|heard| heard.change)).collect();
            let owed = facts.writes.all.iter().filter(|(at, write)| {
                *at > opened && write.effect() == Effect::Certain && write.verb != Verb::Delete
            });
            let missed = owed.filter(|(_, write)| !heard.contains(&write.change)).collect::<Vec<_>>();
            // One that ended when it had told of everything has nothing to go on for.
            let Some((at, write)) = missed.first() else { return again.map(|_| Verdict::Upheld) };
            let how = match again {
                Some(_) => String::new(),
                None => format!(" was ended at {} and did not go on; it", facts.clock(end)),
            };
            let concern =
                |event: &Event| matches!(event, Event::GatewayStream(it) if it.gateway == *gateway && it.client == *client);
            Some(Verdict::Violated {
                expected: "every acknowledged change".to_owned(),
                actual: format!(
                    "{client} through {gateway}{how} never told of change {}, acknowledged at {}, and {} more",
                    write.change,
                    facts.clock(*at + write.exchange.took),
                    missed.len() - 1
                ),
                excerpt: excerpt(facts, *at, concern),
            })
        })
        .collect();
    let found = Verdict::worst(verdicts).unwrap_or_else(|| Verdict::inconclusive("no watch was ended and went on"));
    let longest = resumes.iter().max().map(|span| Figure::seconds("longest until resumed", *span));
    (conclude(facts, &[], found), longest.into_iter().collect())
}
