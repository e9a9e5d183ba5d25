//! Waiting: it ends with what was waited for, or with the last status seen.

use std::cell::Cell;
use std::ops::ControlFlow;

use rollproof::lab::wait::until;
use rollproof::timing::{millis, secs};

#[tokio::test]
async fn waiting_ends_with_what_was_waited_for() {
    let looks = Cell::new(0);
    let third = async || {
        looks.set(looks.get() + 1);
        if looks.get() == 3 { ControlFlow::Break("three") } else { ControlFlow::Continue(format!("{}", looks.get())) }
    };
    assert_eq!(until(secs(20), "the third look", third).await.unwrap(), "three");
    assert_eq!(looks.get(), 3);
}

#[tokio::test]
async fn waiting_in_vain_tells_the_last_status() {
    let looks = Cell::new(0);
    let never = async || {
        looks.set(looks.get() + 1);
        ControlFlow::<(), _>::Continue(format!("{} of many ready", looks.get()))
    };
    let error = until(millis(50), "readiness", never).await.unwrap_err().to_string();
    assert_eq!(error, format!("waited 50ms for readiness in vain; last seen: {} of many ready", looks.get()));
    assert!(looks.get() > 1);
}

#[tokio::test]
async fn there_is_a_look_even_without_time() {
    assert_eq!(until(millis(0), "nothing", async || ControlFlow::Break(7)).await.unwrap(), 7);
}

#[tokio::test]
async fn a_look_that_hangs_is_given_up_at_the_limit() {
    let looks = Cell::new(0);
    let hangs = async || {
        looks.set(looks.get() + 1);
        if looks.get() > 1 { std::future::pending().await } else { ControlFlow::<(), _>::Continue("cold".to_owned()) }
    };
    let error = until(millis(50), "warmth", hangs).await.unwrap_err().to_string();
    assert_eq!(error, "waited 50ms for warmth in vain; the last look was still under way; the one before saw: cold");
}
