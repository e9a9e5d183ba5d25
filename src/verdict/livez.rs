//! ROLLOUT-4: /livez stays green while a stopping apiserver serves on.
//!
//! Judged are samples that began after SIGTERM and ended before the delay was over, with the stall bound as a margin:
//! we may have seen the end of the delay that much too late. They have to be there all that time.
//!
//! ```text
//! delay 3 s: 200 200 ... 200, refused after 3.0 s                    ->  upheld
//! delay 3 s: 200 500 at 1.0 s                                        ->  violated
//! delay 70 s: ten of them in the first second, none later            ->  inconclusive
//! delay 0                                                            ->  inconclusive: there is nothing to see
//! ```

use super::conclusive::{Rests, breach, every_fault, stalled};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Restart, ServerHealth, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    if facts.recording.header.timers.shutdown_delay <= facts.bounds.stall {
        return (
            Verdict::inconclusive("the apiservers stop without a delay in which /livez could be seen"),
            Vec::new(),
        );
    }
    let verdict = Verdict::worst(facts.restarts.iter().map(|restart| claim(facts, restart))).unwrap_or(Verdict::Upheld);
    let verdict = match verdict {
        Verdict::Upheld => every_fault(facts).map_or(Verdict::Upheld, Verdict::inconclusive),
        verdict => verdict,
    };
    let samples = facts.restarts.iter().map(|restart| in_delay(facts, restart).len()).sum();
    (verdict, vec![Figure::count("samples", samples)])
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>) -> Verdict {
    let samples = in_delay(facts, restart);
    let failed = samples.iter().filter(|(_, health)| health.answer != Ok(200));
    let found = failed.map(|(at, health)| {
        // What answers late looks as if the delay were over.
        breach(facts, Rests::OnTime(*at, *at + health.took), violated(facts, restart, *at, health))
    });
    Verdict::worst(found)
        .or_else(|| unseen(facts, restart, &samples).map(Verdict::inconclusive))
        .unwrap_or(Verdict::Upheld)
}

fn violated(facts: &Facts<'_>, restart: &Restarted<'_>, at: Moment, health: &ServerHealth) -> Verdict {
    let server = restart.server;
    let answer = match &health.answer {
        Ok(status) => status.to_string(),
        Err(failure) => failure.class.to_string(),
    };
    let since = at.since(restart.at(Step::TermSent).unwrap_or(at)).as_secs_f64();
    Verdict::Violated {
        expected: "a green /livez until the shutdown delay is over".to_owned(),
        actual: format!("/livez of {server} said {answer} when asked {since:.3} s after SIGTERM"),
        excerpt: excerpt(facts, at, |event| match event {
            Event::ServerHealth(health) => health.server == server && health.path == "/livez",
            Event::Lifecycle(step) => step.server == server,
            _ => false,
        }),
    }
}

/// Why it is not known to have been green all the time, if so.
fn unseen(facts: &Facts<'_>, restart: &Restarted<'_>, samples: &[(Moment, &ServerHealth)]) -> Option<String> {
    let server = restart.server;
    let Some(sent) = restart.at(Step::TermSent) else {
        return Some(format!("no SIGTERM to {server} is in the recording"));
    };
    let (asked, bound) = (samples.len(), facts.bounds.samples);
    if asked < bound as usize {
        return Some(format!(
            "/livez of {server} was asked {asked} times during the shutdown delay; at least {bound} are needed"
        ));
    }
    // In a short delay, a third of it is long.
    let gap = facts.bounds.health_gap.min(facts.recording.header.timers.shutdown_delay / 3);
    let over = over(facts, sent);
    let mut seen = sent;
    for at in samples.iter().map(|(at, _)| *at).chain([over]) {
        if at.since(seen) > gap {
            return Some(format!(
                "/livez of {server} was not asked for {:.3} s from {} on, and may be unasked for {:.3} s",
                at.since(seen).as_secs_f64(),
                facts.clock(seen),
                gap.as_secs_f64()
            ));
        }
        seen = at;
    }
    stalled(facts, sent, over)
}

/// When the delay may be over, as far as we see it.
fn over(facts: &Facts<'_>, sent: Moment) -> Moment {
    sent + facts.recording.header.timers.shutdown_delay - facts.bounds.stall
}

fn in_delay<'a>(facts: &Facts<'a>, restart: &Restarted<'_>) -> Vec<(Moment, &'a ServerHealth)> {
    let Some(sent) = restart.at(Step::TermSent) else { return Vec::new() };
    let over = over(facts, sent);
    let mut samples = facts.health(restart.server, "/livez", sent, over);
    // One that was asked only just before may be answered after; one that had time enough is a failure all the same.
    samples.retain(|(at, health)| *at + health.took <= over || over.since(*at) >= facts.bounds.readyz_red);
    samples
}
