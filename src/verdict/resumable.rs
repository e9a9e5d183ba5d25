//! WATCH-4: a watch that ends goes on where it was, without a relist.
//!
//! A watch that is opened again from an older revision than the last one delivered repeats events: that is WATCH-3's.
//! From a newer one: a bookmark may have told it, and if not, WATCH-1 will.
//!
//! ```text
//! wrote 1 2   | saw 1 (cut) 2                                  ->  upheld
//! wrote 1 2   | saw 1 (cut, relist 2)                          ->  violated: relisted
//! watch from 5, ended; watch from the newest                   ->  violated: it has forgotten where it was
//! apiservers restarted, and no watch was ever interrupted      ->  inconclusive
//! ```

use super::excerpt::{describe, excerpt};
use super::facts::Facts;
use super::watches::{Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::timeline::{Call, ErrorClass, Event, Observation};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let verdict = match each_watch(facts, |watch| claim(facts, watch)) {
        Verdict::Upheld if facts.disturbance().is_some() && !interrupted(facts) => {
            Verdict::inconclusive("no watch was interrupted, so none had to resume")
        }
        verdict => verdict,
    };
    (verdict, figures(facts))
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let Some(breach) = breach(watch) else { return Verdict::Upheld };
    let began = facts.recording.header.began_at;
    let gone = watch.story.iter().rfind(|seen| seen.at <= breach.at && says_gone(&seen.event));
    let because = gone.map_or(String::new(), |gone| format!("; it had been told 410: {}", describe(began, gone)));
    Verdict::Violated {
        expected: "a watch that is opened again from the last revision it knew, without a relist".to_owned(),
        actual: format!("{}{because}", describe(began, breach)),
        excerpt: excerpt(facts, breach.at, concerns(watch, "")),
    }
}

/// The first sign that a watch did not go on where it was: a list after it was open, or a watch from nowhere.
fn breach<'a>(watch: &Watch<'a>) -> Option<&'a Observation> {
    let mut open = false;
    let mut first_list = watch.first_list.is_some();
    watch.story.iter().copied().find(|seen| match &seen.event {
        Event::ListWatch(call) if call.call == Call::List => open,
        Event::ListWatch(call) => {
            let again = open;
            open |= call.answer == Ok(200);
            again && call.from.unwrap_or(0) == 0
        }
        Event::Listed(_) => !std::mem::take(&mut first_list),
        _ => false,
    })
}

fn says_gone(event: &Event) -> bool {
    let class = match event {
        Event::ListWatch(call) => match &call.answer {
            Ok(status) => return *status == 410,
            Err(failure) => failure.class,
        },
        Event::WatchEnded(end) => match &end.failure {
            Some(failure) => failure.class,
            None => return false,
        },
        _ => return false,
    };
    class == ErrorClass::Gone
}

/// Whether any watch ended, or was opened again, during the disturbance: that its probe ends it afterwards does not
/// count.
fn interrupted(facts: &Facts<'_>) -> bool {
    let (from, until) = facts.disturbed();
    facts.watches.iter().any(|watch| {
        watch.opened.is_some_and(|opened| opened < from)
            && watch.story.iter().filter(|seen| seen.at >= from && seen.at <= until).any(|seen| match &seen.event {
                Event::ListWatch(call) => call.call == Call::Watch,
                Event::WatchEnded(_) => true,
                _ => false,
            })
    })
}
