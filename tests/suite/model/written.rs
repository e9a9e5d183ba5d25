//! Whether what a watch tells of was written: the part of the oracle that WATCH-5 asks.

use rollproof::timeline::*;

use super::oracle::{Oracle, acknowledged, next_from};

impl<'a> Oracle<'a> {
    /// The most that the writes which were acknowledged before this one say about a revision that it can have: it is newer.
    fn older_than(&self, began: Moment) -> u64 {
        let before = self.writes.iter().filter(|write| acknowledged(write).is_some_and(|told| told <= began));
        before.filter_map(|(_, write)| write.revision).max().unwrap_or(0)
    }

    pub(super) fn unwritten(&self, watch: &[(Moment, &'a Event)]) -> Option<String> {
        watch.iter().enumerate().find_map(|(place, (at, event))| match event {
            Event::Delivered(event) => self.unexplained(*at, event),
            Event::Listed(list) => {
                let revision = list.revision.or_else(|| next_from(&watch[place..]));
                self.back_from_the_dead(&watch[..place], list).or_else(|| self.wrong_state(*at, list, revision))
            }
            _ => None,
        })
    }

    fn unexplained(&self, at: Moment, event: &Delivered) -> Option<String> {
        let Delivered { kind, object, revision, change, .. } = event;
        let what = |why: &str| Some(format!("{kind:?} {object} at {revision}, change {change}: {why}"));
        let others = |write: &&(Moment, &Write)| {
            write.1.revision == Some(*revision) && (&write.1.object, write.1.change) != (object, *change)
        };
        if self.writes.iter().any(|write| others(&write)) {
            return what("that is another write's revision");
        }
        if *kind == ChangeKind::Deleted {
            let Some((began, delete)) = self.delete_of(object) else { return what("nobody deleted it") };
            let last = self
                .writes
                .iter()
                .filter(|(_, write)| write.object == *object && write.revision.is_some())
                .map(|(_, write)| write.change)
                .max();
            return match self.write_of(object, *change) {
                _ if *began > at => what("before its write"),
                _ if *revision <= self.older_than(*began) => what("older than its delete"),
                None => what("nobody wrote that state"),
                Some((_, write)) if write.effect() == Effect::Never => what("its state was refused"),
                Some((_, write))
                    if write.effect() == Effect::Certain
                        && last.is_some_and(|last| *change < last && last < delete.change) =>
                {
                    what("not its last state")
                }
                Some(_) => None,
            };
        }
        let Some((began, write)) = self.write_of(object, *change) else { return what("nobody wrote it") };
        let fits = match kind {
            ChangeKind::Added => write.verb == Verb::Create,
            ChangeKind::Modified => write.verb == Verb::Update,
            _ => write.verb != Verb::Delete,
        };
        match write.revision {
            _ if write.effect() == Effect::Never => what("it was refused"),
            _ if !fits => what("of another kind"),
            _ if *began > at => what("before its write"),
            Some(written) if written != *revision => what("written at another"),
            _ if *revision <= self.older_than(*began) => what("older than its write"),
            _ => None,
        }
    }

    /// An object in a list that was certainly deleted before it was asked for.
    fn back_from_the_dead(&self, before: &[(Moment, &'a Event)], list: &Listed) -> Option<String> {
        let is_list = |event: &Event| matches!(event, Event::ListWatch(call) if call.call == Call::List);
        let (asked, _) = before.iter().rfind(|(_, event)| is_list(event))?;
        let told = |object: &str| {
            let deleted = |event: &Event| matches!(event, Event::Delivered(event) if event.kind == ChangeKind::Deleted && event.object == object);
            before.iter().any(|(_, event)| deleted(event))
        };
        let gone = |object: &str| self.delete_of(object).and_then(acknowledged).is_some_and(|gone| gone < *asked);
        let (object, _) = list.objects.iter().find(|(object, _)| gone(object) || told(object))?;
        Some(format!("{object} in a list: it was certainly deleted"))
    }

    fn wrong_state(&self, at: Moment, list: &Listed, revision: Option<u64>) -> Option<String> {
        for (object, change) in &list.objects {
            let Some((_, write)) = self.write_of(object, *change) else {
                return Some(format!("{object} {change} in a list: nobody wrote it"));
            };
            let newer = write.revision.zip(revision).is_some_and(|(written, listed)| written > listed);
            if write.effect() == Effect::Never || newer {
                return Some(format!("{object} {change} in a list: refused, or newer than it"));
            }
        }
        let revision = revision?;
        let deleted = |object: &str| {
            let events = self.watches.values().flatten();
            let mut deletes = events.filter_map(|(_, event)| match event {
                Event::Delivered(event) if event.kind == ChangeKind::Deleted && event.object == object => {
                    Some(event.revision)
                }
                _ => None,
            });
            deletes.any(|deleted| deleted <= revision)
        };
        for (_, write) in
            self.writes.iter().filter(|(_, write)| write.revision.is_some_and(|written| written <= revision))
        {
            let gone = self.delete_of(&write.object).is_some_and(|(began, _)| *began <= at);
            match list.objects.iter().find(|(object, _)| *object == write.object) {
                Some((object, _)) if deleted(object) => {
                    return Some(format!("{object} in a list: it was deleted before"));
                }
                Some((object, shown)) if *shown < write.change && !self.maybe(object, *shown) => {
                    return Some(format!("{object} {shown} in a list: {} came before it", write.change));
                }
                None if !gone => return Some(format!("{} not in a list", write.object)),
                _ => {}
            }
        }
        None
    }
}
