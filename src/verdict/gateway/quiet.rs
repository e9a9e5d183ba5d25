//! GATEWAY-4: a quiet stream of an apiserver that answers is left alone. Each client's by itself.
//!
//! ```text
//! a quiet stream or session on an apiserver that was never lost ended after 8 s           ->  violated
//! one on an apiserver that was lost 2 s later                                             ->  violated
//! a quiet exec there had no line come back when it was spoken to after 30 s               ->  violated
//! a quiet attach, or logs, there had no line when the container spoke after 30 s          ->  violated
//! a quiet stream was not spoken to, or not quiet for long enough                          ->  inconclusive
//! one was opened late, since its client's first had been on the dead apiserver            ->  says nothing
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{seconds, unless};
use crate::timeline::{Event, GatewayStream, Moment};
use crate::verdict::breaches::{Breach, first_breach};
use crate::verdict::conclusive::{Rests, conclude, starved};
use crate::verdict::excerpt::excerpt;
use crate::verdict::facts::Facts;
use crate::verdict::streams::{Stream, deaths, ended, server_of, streams};
use crate::verdict::{Figure, Verdict};

/// GATEWAY-4.
pub(in crate::verdict) fn quiet_ones_live(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut died: BTreeMap<&str, Moment> = BTreeMap::new();
    let deaths = deaths(facts);
    for death in &deaths {
        let first = died.entry(death.server).or_insert(death.on);
        *first = death.on.min(*first);
    }
    let mut unknown = None;
    // Those that count; and who had one that does not.
    let (mut quiet, mut goes_on): (Vec<Stream<'_>>, BTreeSet<(&str, &str)>) = Default::default();
    let opened = streams(facts, facts.gateway).into_iter();
    for stream in opened.filter(|(_, stream)| stream.shape.is_quiet() && stream.succeeded()) {
        match server_of(facts, stream.1) {
            None => drop(unknown.get_or_insert(stream)),
            // What becomes of it once its apiserver is dead, is not its gateway's to say.
            Some(server) if died.get(server).is_some_and(|on| ended(&stream).is_none_or(|end| end >= *on)) => {
                goes_on.insert((&stream.1.gateway, &stream.1.client));
            }
            Some(_) => quiet.push(stream),
        }
    }
    let mut clients: BTreeMap<_, Vec<Stream<'_>>> = BTreeMap::new();
    for stream in &quiet {
        // A session has no one who opens it again: its end is the one to tell of.
        let key = (!stream.1.shape.is_session(), &stream.1.gateway, &stream.1.client);
        clients.entry(key).or_default().push(*stream);
    }
    let (mut breaches, mut lived, mut short) = (Vec::new(), BTreeSet::new(), None);
    for ((_, gateway, client), streams) in &clients {
        let before = goes_on.contains(&(gateway.as_str(), client.as_str()));
        let of_it = of_client(facts, streams, before);
        if of_it.breaches.is_empty() && of_it.lived {
            lived.insert(streams[0].1.shape);
        } else if of_it.breaches.is_empty() {
            short = short.or(of_it.short);
        }
        short = short.or(of_it.starved);
        breaches.extend(of_it.breaches);
    }
    let otherwise = || match short {
        Some(why) => Verdict::inconclusive(why),
        None if lived.is_empty() => Verdict::inconclusive("no quiet stream was spoken to"),
        None => Verdict::Upheld,
    };
    let found = first_breach(facts, breaches).unwrap_or_else(otherwise);
    let unproven = quiet.iter().map(|(_, stream)| stream.shape).find(|shape| !lived.contains(shape));
    let unknown = unknown.map(|(began, stream)| {
        format!("nobody knows on which apiserver the {} of {} was", stream.shape, facts.clock(began))
    });
    let lacking = unknown.or_else(|| unproven.map(|shape| format!("no {shape} was quiet for long enough")));
    let seen = || quiet.iter().filter(|(_, stream)| stream.told.is_some() || stream.spoken_to.is_some());
    let longest = seen().filter_map(|(_, stream)| stream.spoken_to).max();
    let mut figures: Vec<_> = longest.map(|span| Figure::seconds("quiet for", span)).into_iter().collect();
    let sessions: Vec<_> = seen().filter(|(_, stream)| stream.shape.is_session()).collect();
    if !sessions.is_empty() {
        let cut = sessions.iter().filter(|(_, stream)| stream.told.is_some()).count();
        let all = format!("quiet sessions into {}", facts.behind_sessions());
        figures.extend([Figure::count(all, sessions.len()), Figure::count("of them cut", cut)]);
    }
    (conclude(facts, &[], unless(found, lacking)), figures)
}

/// What a client's quiet streams prove.
struct Client<'a> {
    breaches: Vec<Breach<'a>>,
    /// Whether one lived for long enough, and told of what happened at last.
    lived: bool,
    /// Why another proves nothing.
    short: Option<String>,
    /// Why the end of another is no breach: its apiserver had no time to answer.
    starved: Option<String>,
}

/// What a client's quiet streams prove. It may have had another `before`, on an apiserver that died.
fn of_client<'a>(facts: &'a Facts<'_>, streams: &[Stream<'a>], before: bool) -> Client<'a> {
    let bound = facts.bounds.gateway_quiet;
    let (mut breaches, mut lived, mut short, mut no_time) = (Vec::new(), false, None, None);
    for &(began, stream) in streams {
        match (stream.told.as_ref().filter(|_| was_ended(stream)), stream.spoken_to) {
            (Some(end), _) => {
                let after = end.after;
                let (at, from) = (began + after, began + after.saturating_sub(facts.bounds.gateway_silent));
                match starved(facts, from, at) {
                    Some(why) => no_time = no_time.or(Some(why)),
                    None => {
                        breaches.push((began, Rests::OnRecord, stream, format!("was ended after {}", seconds(after))));
                    }
                }
            }
            (None, Some(spoken)) if spoken < bound && before => {}
            (None, Some(spoken)) if spoken < bound => {
                short = short.or_else(|| Some(format!("it was quiet for {} only", seconds(spoken))));
            }
            (None, Some(spoken)) if stream.heard.iter().any(|heard| heard.after >= spoken) => lived = true,
            (None, Some(_)) => {
                let over = began + stream.lasted;
                let what = "did not tell of what happened at last".to_owned();
                breaches.push((began, Rests::OnTime(over, over), stream, what));
            }
            // One that its client ended itself, while it looked for one on each apiserver, says nothing.
            (None, None) if stream.lasted < bound => {}
            (None, None) => {
                let what = format!("the {} of {}", stream.shape, stream.client);
                short = short.or_else(|| Some(format!("{what} was never spoken to, in {}", seconds(stream.lasted))));
            }
        }
    }
    let breaches = breaches.into_iter().map(|(began, rests, stream, what)| Breach {
        rests,
        expected: "a quiet stream of an apiserver that answers to go on, and to tell of what happens at last"
            .to_owned(),
        actual: format!("a {} through {} {what}", stream.shape, stream.gateway),
        excerpt: Box::new(move || {
            let concern = |event: &Event| matches!(event, Event::GatewayStream(it) if it.shape == stream.shape);
            excerpt(facts, began, concern)
        }),
    });
    Client { breaches: breaches.collect(), lived, short, starved: no_time }
}

/// Whether it was ended before anything happened that it had to tell of.
fn was_ended(stream: &GatewayStream) -> bool {
    stream.told.as_ref().is_some_and(|end| stream.spoken_to.is_none_or(|spoken| end.after < spoken))
}
