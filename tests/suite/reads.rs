//! What the verdicts on reads and guarded updates say: ROLLOUT-14 and -15.

use std::ops::Range;

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{Verdict, judge, judge_all};
use rstest::rstest;

use crate::runs::*;
use crate::shorthand::*;

use Restart::{Graceful, Killed};

const READER: &str = "reader";
const COUNTER: &str = "counter";
const END: u64 = 20_000;

/// A run in which all is well, with a reader each 100 ms and two writers that update a counter in turn.
pub(crate) fn with_reads(disturbance: Option<Restart>) -> Run {
    let mut run = run(disturbance).header(|header| {
        let more = ["ROLLOUT-13", "ROLLOUT-14", "ROLLOUT-15"];
        let more = more.into_iter().filter(|id| *id != "ROLLOUT-13" || disturbance != Some(Killed));
        let by = |id: &str| JudgedBy { requirement: id.into(), expected: Expected::Upheld, gateway: None };
        header.judged_by.extend(more.map(by));
    });
    for at in (520..END).step_by(100) {
        let read = read(&run, at);
        run = run.seen(at, Event::Read(read));
    }
    for (number, at) in (530..END).step_by(100).enumerate() {
        let count = number as u64 + 1;
        let mine = ["guarded-0", "guarded-1"];
        let (first, other) = (mine[number % 2], mine[(number + 1) % 2]);
        run = run.seen(at, Event::GuardedUpdate(update(first, count, 200)));
        // The other one has read the same, and is late.
        run = run.seen(at + 1, Event::GuardedUpdate(update(other, count, 409)));
    }
    let count = (530..END).step_by(100).count() as u64;
    run.with(END + 30, Event::GuardedLeft(GuardedLeft { object: COUNTER.into(), count, revision: 5000 + count }))
}

/// What a reader that begins then has to be shown.
fn read(run: &Run, at: u64) -> Read {
    let mut objects = std::collections::BTreeMap::new();
    let before = run.0.observations.iter().take_while(|seen| seen.at < Moment(at * 1_000_000));
    for seen in before {
        if let Event::Write(write) = &seen.event {
            match write.verb {
                Verb::Delete => drop(objects.remove(&write.object)),
                _ => drop(objects.insert(write.object.clone(), write.change)),
            }
        }
    }
    let exchange = Exchange { audit_id: format!("{READER}-{at}"), ..answered(200) };
    Read { probe: READER.into(), revision: Some(at / 50 + 100), objects: objects.into_iter().collect(), exchange }
}

/// The update to a count, in the place of the one before.
fn update(probe: &str, count: u64, status: u16) -> GuardedUpdate {
    let exchange = Exchange { audit_id: format!("{probe}-{count}-{status}"), ..answered(status) };
    let revision = (status == 200).then_some(5000 + count);
    GuardedUpdate { probe: probe.into(), object: COUNTER.into(), replaces: 4999 + count, count, revision, exchange }
}

impl Run {
    fn seen(mut self, at: u64, event: Event) -> Self {
        let place = self.0.observations.partition_point(|seen| seen.at <= Moment(at * 1_000_000));
        self.0.observations.insert(place, observed(at, event));
        self
    }

    /// What reads that begin then show. It may be what they showed before.
    pub(crate) fn reads(mut self, when: Range<u64>, mut how: impl FnMut(&mut Read)) -> Self {
        for seen in &mut self.0.observations {
            match &mut seen.event {
                Event::Read(read) if within(seen.at, &when) => how(read),
                _ => {}
            }
        }
        self
    }

    /// The acknowledged update to that count.
    fn updated(self, count: u64, mut how: impl FnMut(&mut GuardedUpdate)) -> Self {
        self.edit(|seen| match &mut seen.event {
            Event::GuardedUpdate(update) if update.count == count && update.exchange.status == Some(200) => how(update),
            _ => {}
        })
    }

    fn at_last(self, how: impl Fn(&mut GuardedLeft)) -> Self {
        self.edit(|seen| {
            if let Event::GuardedLeft(left) = &mut seen.event {
                how(left);
            }
        })
    }

    fn wrote(self, change: u64, mut how: impl FnMut(&mut Write)) -> Self {
        self.edit(|seen| match &mut seen.event {
            Event::Write(write) if write.change == change => how(write),
            _ => {}
        })
    }

    pub(crate) fn only(self, id: &str) -> Self {
        self.header(|header| header.judged_by.retain(|by| by.requirement == id))
    }
}

pub(crate) fn graceful() -> Run {
    with_reads(Some(Graceful))
}

/// A read that shows what was there a second ago.
pub(crate) fn stale() -> Recording {
    let run = graceful();
    let old = read(&run, 7500);
    run.reads(8500..8600, |read| read.objects.clone_from(&old.objects)).whole()
}

/// Two updates that were both acknowledged in the place of the same.
pub(crate) fn lost_update() -> Recording {
    graceful().updated(80, |update| (update.replaces, update.count) = (5078, 79)).whole()
}

#[rstest]
#[case(None)]
#[case(Some(Graceful))]
#[case(Some(Killed))]
fn a_run_in_which_all_is_well_upholds_everything(#[case] disturbance: Option<Restart>) {
    with_reads(disturbance).expect(upheld());
}

// ROLLOUT-14. The writer: change n at 50 n + 2, acknowledged a millisecond later; ten changes to each object, the last of which deletes it.

#[test]
fn a_read_shows_every_write_that_was_acknowledged_before_it() {
    let shows = |objects: &'static [(&'static str, u64)]| {
        let objects: Vec<_> = objects.iter().map(|(object, change)| ((*object).to_owned(), *change)).collect();
        graceful().only("ROLLOUT-14").reads(8420..8421, move |read| read.objects.clone_from(&objects))
    };
    // Change 168 was acknowledged at 8403.
    shows(&[("cm-16", 168)]).expect(upheld());
    shows(&[("cm-16", 167)]).expect(violated("ROLLOUT-14", "cm-16 is shown at change 167, and change 168 had been"));
    shows(&[]).expect(violated("ROLLOUT-14", "cm-16 is missing, and change 168 had been acknowledged"));
    shows(&[("cm-16", 168), ("cm-15", 158)])
        .expect(violated("ROLLOUT-14", "cm-15 is shown at change 158, and its delete"));
    shows(&[("cm-16", 9999)]).expect(violated("ROLLOUT-14", "which nobody wrote"));
    shows(&[("cm-16", 158)]).expect(violated("ROLLOUT-14", "which nobody wrote"));
    shows(&[("cm-16", 168), ("cm-17", 170)]).expect(violated("ROLLOUT-14", "which was not yet written"));
}

#[test]
fn a_write_without_an_answer_may_be_shown_or_not_and_one_that_was_refused_may_not() {
    let answered = |change, status: Option<u16>| {
        graceful().only("ROLLOUT-14").wrote(change, |write| match status {
            Some(status) => write.exchange.status = Some(status),
            None => write.exchange = failed(Phase::Headers, ErrorClass::UnexpectedEof),
        })
    };
    let shows = |run: Run, object: &'static str, change| {
        run.reads(8420..8421, |read| read.objects = vec![(object.to_owned(), change)])
    };
    shows(answered(168, None), "cm-16", 168).expect(upheld());
    shows(answered(168, None), "cm-16", 167).expect(upheld());
    // It may take effect after a later one.
    shows(answered(167, None), "cm-16", 167).expect(upheld());
    shows(answered(167, None), "cm-16", 166).expect(violated("ROLLOUT-14", "change 168 had been acknowledged"));
    shows(answered(168, Some(403)), "cm-16", 168).expect(violated("ROLLOUT-14", "which was refused"));
    // Its delete has begun, or may have taken effect.
    let late = |change: u64, status| {
        let run = answered(change, status).edit(|seen| match &mut seen.event {
            Event::Read(read) if within(seen.at, &(8420..8421)) => {
                read.objects.clear();
                read.exchange.took = millis(40);
            }
            _ => {}
        });
        run.reads(8520..8521, |read| read.objects.retain(|(object, _)| object != "cm-16"))
    };
    let in_time = late(169, None);
    in_time.expect(upheld());
    late(169, Some(409))
        .reads(8420..8421, |read| read.objects = vec![("cm-16".into(), 168)])
        .expect(violated("ROLLOUT-14", "cm-16 is missing"));
}

#[test]
fn a_failed_read_is_no_read() {
    let failing = |when: Range<u64>| {
        graceful().only("ROLLOUT-14").reads(when, |read| {
            let audit_id = std::mem::take(&mut read.exchange.audit_id);
            read.exchange = Exchange { audit_id, ..failed(Phase::Headers, ErrorClass::UnexpectedEof) };
            read.objects.clear();
        })
    };
    failing(8000..9000).expect(upheld());
    failing(8000..10_200).expect(inconclusive("ROLLOUT-14", "the reader reader has no sample for"));
    failing(17_600..30_000).expect(inconclusive("ROLLOUT-14", "successful samples after the last fault"));
    let unread = |seen: &Observation| matches!(seen.event, Event::Read(_));
    graceful().only("ROLLOUT-14").without(unread).expect(inconclusive("ROLLOUT-14", "nobody read"));
    let unwritten = |seen: &Observation| {
        matches!(seen.event, Event::Write(_) | Event::Delivered(_) | Event::Read(_)) && within(seen.at, &(8000..11_000))
    };
    graceful().only("ROLLOUT-14").without(unwritten).expect(inconclusive("ROLLOUT-14", "has no sample for"));
}

#[test]
fn no_stall_explains_a_stale_read() {
    let mut recording = stale();
    recording.observations.push(observed(8450, Event::Stall(secs(1))));
    recording.observations.sort_by_key(|seen| seen.at);
    let (verdict, _) = judge(spec::requirement("ROLLOUT-14").unwrap(), &recording);
    assert!(matches!(verdict, Verdict::Violated { .. }), "{verdict:?}");
}

// ROLLOUT-15. Update n at 430 + 100 n, to revision 5000 + n.

#[test]
fn no_acknowledged_update_is_lost() {
    let run = || graceful().only("ROLLOUT-15");
    let lost = |run: Run, text| run.expect(violated("ROLLOUT-15", text));
    lost(
        run().updated(80, |update| (update.replaces, update.count) = (5078, 79)),
        "took the place of revision 5078, which revision 5079 had taken: that update is lost",
    );
    lost(run().updated(80, |update| update.count = 81), "was 79 at revision 5079, which was replaced by 81");
    lost(run().updated(80, |update| update.count = 79), "was 79 at revision 5079, which was replaced by 79");
    lost(run().updated(80, |update| update.revision = Some(5079)), "was acknowledged at revision 5079 twice");
    lost(run().updated(80, |update| update.replaces = 5080), "took the place of revision 5080, which came later");
    lost(run().at_last(|left| left.count -= 1), "at last, and 195 was written there");
    lost(
        run().at_last(|left| (left.count, left.revision) = (194, 5194)),
        "an update at revision 5195 was acknowledged",
    );
    lost(run().at_last(|left| (left.count, left.revision) = (194, 5196)), "acknowledged updates are lost");
    lost(run().at_last(|left| left.revision = 5196), "which no update explains");
}

#[test]
fn an_update_without_an_answer_may_take_effect_and_one_that_was_refused_may_not() {
    let unanswered = |how: Exchange| {
        graceful().only("ROLLOUT-15").updated(80, move |update| {
            (update.exchange, update.revision) = (how.clone(), None);
        })
    };
    let lost = || failed(Phase::Headers, ErrorClass::ConnectionReset);
    unanswered(lost()).expect(upheld());
    unanswered(answered(409)).expect(violated("ROLLOUT-15", "had read 80, which nobody was told to have written"));
    unanswered(failed(Phase::Dial, ErrorClass::ConnectionRefused))
        .expect(violated("ROLLOUT-15", "what was refused took effect"));
    let unseen = |seen: &Observation| matches!(&seen.event, Event::GuardedUpdate(update) if update.count == 80);
    graceful().only("ROLLOUT-15").without(unseen).expect(violated("ROLLOUT-15", "had read 80, which nobody wrote"));
    // The last one of all.
    let last = |count| {
        let run = graceful().only("ROLLOUT-15").updated(195, |update| {
            (update.exchange, update.revision) = (failed(Phase::Headers, ErrorClass::Timeout), None);
        });
        run.with(END + 40, Event::GuardedLeft(GuardedLeft { object: COUNTER.into(), count, revision: 5000 + count }))
    };
    last(195).expect(upheld());
    last(194).expect(upheld());
    last(196).expect(violated("ROLLOUT-15", "is at last 196, which nobody wrote"));
}

#[test]
fn updates_that_were_not_seen_prove_nothing() {
    let unproven = |run: Run, why| run.only("ROLLOUT-15").expect(inconclusive("ROLLOUT-15", why));
    let guarded = |seen: &Observation| match &seen.event {
        Event::GuardedUpdate(update) => Some(update.clone()),
        _ => None,
    };
    let left = |seen: &Observation| matches!(seen.event, Event::GuardedLeft(_));
    unproven(graceful().without(left), "nobody looked at what counter was at last");
    unproven(graceful().without(|seen| left(seen) || guarded(seen).is_some()), "no updates with optimistic locking");
    let alone = graceful().edit(|seen| {
        if let Event::GuardedUpdate(update) = &mut seen.event {
            update.probe = "guarded-0".into();
        }
    });
    unproven(alone, "1 writers of counter have at least 10 acknowledged updates; 2 are needed");
    let early = graceful().edit(|seen| {
        if left(seen) {
            seen.at = Moment(19_000_000_000);
        }
    });
    unproven(early, "was looked at before its writers had ended");
    unproven(
        graceful().updated(80, |update| update.revision = None),
        "an acknowledged update of counter has no revision",
    );
    // After the 50th, nobody updates anything for three seconds.
    let resting = graceful().edit(|seen| {
        if let Event::GuardedUpdate(update) = &mut seen.event
            && update.count > 50
        {
            seen.at = seen.at + secs(3);
        }
        if let Event::GuardedLeft(_) = &seen.event {
            seen.at = seen.at + secs(4);
        }
    });
    unproven(resting, "of counter has no sample for 3.0");
}

#[test]
fn no_stall_explains_a_lost_update() {
    let mut recording = lost_update();
    recording.observations.push(observed(8450, Event::Stall(secs(1))));
    recording.observations.sort_by_key(|seen| seen.at);
    let (verdict, _) = judge(spec::requirement("ROLLOUT-15").unwrap(), &recording);
    assert!(matches!(verdict, Verdict::Violated { .. }), "{verdict:?}");
}

#[test]
fn judging_reads_and_updates_takes_time_in_proportion_to_the_recording() {
    // Nothing is ever deleted, and each read shows nothing; each update is lost, and each count is another.
    let mut run = graceful();
    let nothing = read(&Run(Recording { header: header(None, &[]), observations: Vec::new() }), END);
    for n in 0..30_000 {
        let at = END + 3 * n;
        let object = format!("many-{n}");
        let mut lost = update("guarded-0", 1000 + n, 200);
        (lost.exchange, lost.revision) = (failed(Phase::Headers, ErrorClass::Timeout), None);
        run.0.observations.extend([
            observed(at, Event::Write(written(1000 + n, Verb::Create, &object, Effect::Certain))),
            observed(at + 2, Event::Read(nothing.clone())),
            observed(at + 2, Event::GuardedUpdate(lost)),
        ]);
    }
    let judged = judge_all(&run.whole()).unwrap();
    let stale = judged.iter().find(|judgement| judgement.requirement.id == "ROLLOUT-14").unwrap();
    assert!(
        matches!(&stale.verdict, Verdict::Violated { actual, .. } if actual.starts_with("30000 reads do not")),
        "{stale:?}"
    );
}
