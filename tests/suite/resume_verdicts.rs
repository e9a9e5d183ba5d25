//! What WATCH-4 says of watches that end: how they go on, and what excuses a list.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::runs::*;
use crate::shorthand::*;
use crate::watch_verdicts::figures;

use Restart::Graceful;

/// A run whose watch is cut by the first restart, and then only this happens to it.
fn cut_and(then: impl IntoIterator<Item = (u64, Event)>) -> Run {
    let cut = run(Some(Graceful)).without(|seen| {
        let ended = Moment(6_015_000_000);
        let watching = matches!(seen.event, Event::Delivered(_) | Event::ListWatch(_) | Event::WatchEnded(_));
        watching && seen.at > ended
    });
    let cut = then.into_iter().fold(cut, |run, (at, event)| run.with(at, event));
    cut.header(|header| header.judged_by.retain(|by| by.requirement == "WATCH-4"))
}

fn refused(status: u16) -> Event {
    edited_call(list_call(Call::Watch, Some(220)), |call| call.answer = Ok(status))
}

#[test]
fn a_watch_that_was_cut_has_to_be_open_again_within_a_bound() {
    cut_and([]).expect(violated("WATCH-4", "watch was never open again, until +20."));
    cut_and((6100..20_000).step_by(500).map(|at| (at, refused(503))))
        .expect(violated("WATCH-4", "watch was never open again"));
    cut_and([(18_100, list_call(Call::Watch, Some(220)))])
        .expect(violated("WATCH-4", "watch was open again after 12.086 s"));
    // Our own stall excuses it only where it falls into that time.
    cut_and([(7000, Event::Stall(millis(600)))]).expect(inconclusive("WATCH-4", "did not run for 0.600 s"));
    cut_and([(17_000, Event::Stall(millis(600)))]).expect(violated("WATCH-4", "watch was never open again"));
    // The recording has to go on for that long.
    let soon = |seen: &Observation| {
        let again = matches!(&seen.event, Event::ListWatch(call) if call.call == Call::Watch);
        again && seen.at > Moment(13_000_000_000)
    };
    run(Some(Graceful))
        .without(soon)
        .header(|header| header.judged_by.retain(|by| by.requirement == "WATCH-4"))
        .expect(inconclusive("WATCH-4", "the recording ends soon after watch was interrupted"));
}

#[test]
fn a_watch_ends_with_its_apiserver_whether_or_not_its_client_is_told() {
    let id = "watch-of-0".to_owned();
    let of_first = |run: Run| {
        let run = run.edit(|seen| {
            if let Event::ListWatch(call) = &mut seen.event
                && call.from == Some(99)
            {
                call.audit_id.clone_from(&id);
            }
        });
        let audited =
            Audited { server: SERVERS[0].into(), audit_id: id.clone(), stages: Vec::new(), status: Some(200) };
        run.with(21_000, Event::Audited(audited))
    };
    let untold = |run: Run| run.without(|seen| matches!(seen.event, Event::WatchEnded(_)));
    of_first(untold(cut_and([]))).expect(violated("WATCH-4", "watch was never open again"));
    untold(cut_and([])).expect(inconclusive("WATCH-4", "was not interrupted"));
}

#[test]
fn what_a_client_does_before_anything_was_disturbed_is_not_because_of_that() {
    let relist = |at: u64| {
        let revision = at / 50 + 100;
        let objects = vec![(format!("cm-{}", at / 500), at / 50)];
        let listed = Listed { probe: WATCH.into(), revision: Some(revision), objects };
        run(Some(Graceful)).with(at + 10, list_call(Call::List, None)).with(at + 11, Event::Listed(listed))
    };
    relist(2000).expect(upheld());
    relist(7000).expect(violated("WATCH-4", "List request from the newest"));
}

#[test]
fn each_watch_has_to_be_met_by_a_fault_by_itself() {
    let second = |run: &Run| {
        let copy = |seen: &Observation| {
            let mut seen = seen.clone();
            match &mut seen.event {
                Event::Delivered(event) => event.probe = "second".into(),
                Event::Listed(list) => list.probe = "second".into(),
                Event::ListWatch(call) if call.from.is_none() || call.from == Some(99) => call.probe = "second".into(),
                _ => return None,
            }
            Some(seen)
        };
        run.0.observations.iter().filter_map(copy).collect::<Vec<_>>()
    };
    let mut both = run(Some(Graceful));
    both.0.observations.extend(second(&both));
    let both = both.with(0, Event::Stall(secs(0)));
    both.expect(inconclusive("WATCH-4", "the watch second was not interrupted"));
}

#[test]
fn a_restarted_apiserver_may_forget_once_and_the_audit_log_has_to_say_that_it_was_that_one() {
    let granted = |table: &str| {
        let figures = figures("WATCH-4", &watch_table(table));
        figures.into_iter().find(|figure| figure.of.is_some()).map(|figure| (figure.value as u64, figure.of))
    };
    check("wrote 1 2 | saw 1 (cut, started, gone, relist 2)", upheld());
    assert_eq!(granted("wrote 1 2 | saw 1 (cut, started, gone, relist 2)"), Some((1, Some(2))));
    assert_eq!(granted("wrote 1 2 | saw 1 2 (cut)"), Some((0, Some(2))));
    // One that was ready before has what it needs.
    check("wrote 1 2 | saw 1 (cut, gone, relist 2)", violated("WATCH-4", "it had been told 410"));
    // Nor may anybody forget twice, or list twice for it.
    check(
        "wrote 1 2 3 | saw 1 (cut, started, gone, relist 2) (cut, gone, relist 3)",
        violated("WATCH-4", "it had been told 410"),
    );
    check("wrote 1 2 3 | saw 1 (cut, started, gone, relist 2) (cut, relist 3)", violated("WATCH-4", "List request"));
    check("wrote 1 2 | saw 1 (cut, started, gone, initial 2)", upheld());
    // Without its line nobody knows who said so.
    let mut unknown = watch_table("wrote 1 2 | saw 1 (cut, started, gone, relist 2)");
    unknown.observations.retain(|seen| !matches!(seen.event, Event::Audited(_)));
    inconclusive("WATCH-4", "nobody knows by which apiserver").compare(&unknown);
    // A client that asks from an older revision than it knows gets old events by its own fault.
    let mut older = watch_table("wrote 1 2 3 | saw 1 2 (cut, started, gone, relist 3)");
    for seen in &mut older.observations {
        if let Event::ListWatch(call) = &mut seen.event
            && !call.audit_id.is_empty()
        {
            call.from = Some(1);
        }
    }
    violated("WATCH-4", "it had been told 410").compare(&older);
}
