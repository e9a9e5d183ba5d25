//! The ticker: spans without a gap from its start to its end, and stalls that are in them.

use std::ops::ControlFlow;
use std::time::Duration;

use rollproof::lab::wait;
use rollproof::probe::Ticker;
use rollproof::timeline::{Event, Moment, Recorder, Ticked};
use rollproof::timing::{self, millis, secs};

fn spans(recorder: &Recorder) -> Vec<(Moment, Ticked)> {
    recorder.collect(|seen| match &seen.event {
        Event::Ticked(ticked) => Some((seen.at, *ticked)),
        _ => None,
    })
}

fn stalls(recorder: &Recorder) -> Vec<(Moment, Duration)> {
    recorder.collect(|seen| match &seen.event {
        Event::Stall(span) => Some((seen.at, *span)),
        _ => None,
    })
}

/// Keeps the only thread of this test's runtime from everything else.
fn block(span: Duration) {
    let began = Moment::now();
    while Moment::now().since(began) < span {
        std::hint::spin_loop();
    }
}

/// Waits until the ticker has had a turn.
async fn ticked() {
    let began = Moment::now();
    let twice = timing::TICK_EVERY * 2;
    wait::until(secs(20), "some ticks", async || match Moment::now().since(began) {
        passed if passed > twice => ControlFlow::Break(()),
        passed => ControlFlow::Continue(format!("{passed:?}")),
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn its_spans_cover_all_from_its_start_to_its_end() {
    let recorder = Recorder::default();
    let before = Moment::now();
    let ticker = Ticker::start(recorder.clone(), secs(10));
    let started = Moment::now();
    wait::until(secs(20), "two spans", async || match spans(&recorder).len() {
        2.. => ControlFlow::Break(()),
        few => ControlFlow::Continue(format!("{few} spans")),
    })
    .await
    .unwrap();
    let ending = Moment::now();
    drop(ticker);
    let spans = spans(&recorder);
    assert!(before <= spans[0].0 && spans[0].0 <= started, "the first begins with the ticker");
    for pair in spans.windows(2) {
        let ((at, span), (next, _)) = (pair[0], pair[1]);
        assert_eq!(at + span.lasted, next, "they touch each other");
        assert!(span.lasted >= timing::TICKED_EVERY);
    }
    let (last, span) = spans[spans.len() - 1];
    assert!(ending <= last + span.lasted, "the last one ends with the ticker");
    assert_eq!(stalls(&recorder), []);
}

#[tokio::test]
async fn a_stall_is_recorded_and_is_the_latest_tick_of_its_span() {
    let recorder = Recorder::default();
    let ticker = Ticker::start(recorder.clone(), millis(300));
    ticked().await;
    let before = Moment::now();
    block(millis(700));
    ticked().await;
    drop(ticker);
    let [(at, stall)] = stalls(&recorder)[..] else { panic!("one stall: {:?}", stalls(&recorder)) };
    assert!(at <= before && stall >= millis(700) - timing::TICK_EVERY, "{stall:?}");
    let latest = spans(&recorder).into_iter().map(|(_, span)| span.latest).max();
    assert_eq!(latest, Some(stall));
}

#[tokio::test]
async fn a_stall_that_lasts_to_the_end_is_seen_too() {
    let recorder = Recorder::default();
    let ticker = Ticker::start(recorder.clone(), millis(300));
    ticked().await;
    block(millis(700));
    drop(ticker);
    let [(_, stall)] = stalls(&recorder)[..] else { panic!("one stall: {:?}", stalls(&recorder)) };
    let spans = spans(&recorder);
    assert_eq!(spans[spans.len() - 1].1.latest, stall);
}

#[tokio::test]
async fn one_that_never_got_a_turn_says_so() {
    let recorder = Recorder::default();
    let ticker = Ticker::start(recorder.clone(), millis(300));
    block(millis(700));
    drop(ticker);
    assert_eq!(stalls(&recorder).len(), 1);
    let [(_, span)] = spans(&recorder)[..] else { panic!("one span") };
    assert!(span.latest >= millis(600), "{span:?}");
}
