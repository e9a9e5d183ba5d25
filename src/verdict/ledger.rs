//! ROLLOUT-10: what exists at the end is what the load was told.
//!
//! ```text
//! create 201, delete 200           | nothing  ->  upheld
//! create 201, delete lost          | it       ->  upheld: the lost answer may go either way
//! create lost, delete 404          | it       ->  upheld: the create may have come after the delete
//! create 201, delete lost, 404     | it       ->  violated: it was gone, and is back
//! create 201                       | nothing  ->  violated: acknowledged and gone
//! create 201, delete 200           | it       ->  violated: deleted and back
//! create 403                       | it       ->  violated: refused and there
//! nothing                          | it       ->  violated: no create explains it
//! create 201, looked, delete 200   | it       ->  inconclusive: it was looked too early
//! ```

use std::collections::{BTreeMap, HashSet};

use super::conclusive::{Traffic, conclude_from_records};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{Effect, Event, Load, LoadVerb, Moment};

/// What Kubernetes itself keeps in every namespace.
const KUBERNETES_OWN: [(&str, &str); 2] = [("configmaps", "kube-root-ca.crt"), ("serviceaccounts", "default")];

/// What the load was told about one object.
#[derive(Default)]
struct Entry {
    created: Option<Effect>,
    deleted: Option<Effect>,
    /// It was not found any more, after a delete whose answer was lost.
    gone: bool,
    /// When something was last heard of it.
    last: Moment,
}

impl Entry {
    fn hear(&mut self, at: Moment, load: &Load) {
        let effect = load.exchange.effect();
        let found = load.exchange.failure.is_none().then_some(load.exchange.status).flatten();
        // Before its create has taken effect, nothing is found either.
        let was_there = self.created == Some(Effect::Certain);
        self.gone |= found == Some(404) && was_there && self.deleted == Some(Effect::Maybe);
        let told = match load.verb {
            LoadVerb::Create => &mut self.created,
            LoadVerb::Delete => &mut self.deleted,
            LoadVerb::Get | LoadVerb::List => return,
        };
        *told = Some(told.map_or(effect, |before| stronger(before, effect)));
        self.last = at + load.exchange.took;
    }
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut ledger: BTreeMap<(&str, &str), Entry> = BTreeMap::new();
    let mut steps: Vec<(Moment, &Load)> = facts.load.values().flatten().copied().collect();
    steps.sort_by_key(|(at, _)| *at);
    for (at, load) in &steps {
        // The namespace is not the load's to keep.
        match load.verb {
            LoadVerb::Create | LoadVerb::Delete => {
                ledger.entry((&load.resource, &load.object)).or_default().hear(*at, load);
            }
            LoadVerb::Get | LoadVerb::List => {
                if let Some(entry) = ledger.get_mut(&(load.resource.as_str(), load.object.as_str())) {
                    entry.hear(*at, load);
                }
            }
        }
    }
    let doubtful = ledger.values().filter(|entry| allowed(entry).is_none()).count();
    let left = facts.load_left.map_or(0, |(_, left)| left.objects.len());
    let figures = vec![
        Figure::count("objects", ledger.len()),
        Figure::count("left at the end", left),
        Figure::count("that may go either way", doubtful),
    ];
    let Some((looked, left)) = facts.load_left else {
        return (Verdict::inconclusive("nobody looked at what the load left behind"), figures);
    };
    if let Some((id, _)) = ledger.iter().find(|(_, entry)| entry.last > looked) {
        let why = format!("what the load left behind was looked at before {} {} was done with", id.0, id.1);
        return (Verdict::inconclusive(why), figures);
    }
    let left: HashSet<(&str, &str)> =
        left.objects.iter().map(|(resource, object)| (resource.as_str(), object.as_str())).collect();

    let wrong = ledger.iter().find_map(|(id, entry)| Some((*id, entry.last, breach(entry, left.contains(id))?)));
    let unexplained = || {
        let stranger = left.iter().filter(|id| !ledger.contains_key(*id) && !KUBERNETES_OWN.contains(id)).min()?;
        Some((*stranger, looked, "exists, and no create explains it"))
    };
    let verdict = match wrong.or_else(unexplained) {
        None => Verdict::Upheld,
        Some(((resource, object), at, what)) => Verdict::Violated {
            expected: "what exists at the end to be what the load was told".to_owned(),
            actual: format!("{resource} {object} {what}"),
            excerpt: excerpt(facts, at, |event| match event {
                Event::Load(load) => load.resource == resource && load.object == object,
                Event::LoadLeft(_) => true,
                _ => false,
            }),
        },
    };
    // Who only reads keeps no ledger.
    let changes = steps.iter().filter(|(_, load)| matches!(load.verb, LoadVerb::Create | LoadVerb::Delete));
    let samples = changes.map(|(at, load)| (*at, load.exchange.took, load.succeeded()));
    let traffic = Traffic::of(facts, "the load that creates and deletes".to_owned(), facts.bounds.request_gap, samples);
    (conclude_from_records(facts, &[&traffic], verdict), figures)
}

/// Of two tries at the same, the one that says more about its effect.
fn stronger(one: Effect, other: Effect) -> Effect {
    match (one, other) {
        (Effect::Certain, _) | (_, Effect::Certain) => Effect::Certain,
        (Effect::Maybe, _) | (_, Effect::Maybe) => Effect::Maybe,
        (Effect::Never, Effect::Never) => Effect::Never,
    }
}

/// Whether it has to exist at the end; `None`: it may go either way.
fn allowed(entry: &Entry) -> Option<bool> {
    match (entry.created, entry.deleted) {
        // A create takes effect once: what was there and was deleted stays away.
        _ if entry.gone => Some(false),
        (_, Some(Effect::Certain)) | (None | Some(Effect::Never), _) => Some(false),
        (Some(Effect::Certain), None | Some(Effect::Never)) => Some(true),
        (Some(Effect::Maybe), _) | (_, Some(Effect::Maybe)) => None,
    }
}

fn breach(entry: &Entry, exists: bool) -> Option<&'static str> {
    if allowed(entry).is_none_or(|must| must == exists) {
        return None;
    }
    Some(match (exists, entry.deleted) {
        (false, _) => "was acknowledged as created and is gone",
        (true, Some(Effect::Certain)) => "was acknowledged as deleted and exists",
        (true, _) if entry.gone => "was not found any more after a delete whose answer was lost, and exists",
        (true, _) => "was refused and exists",
    })
}
