//! ROLLOUT-4: /livez stays green while a stopping apiserver serves on.
//!
//! Judged are samples that began after SIGTERM and ended before the delay was over, with the stall bound as a margin:
//! we may have seen the end of the delay that much too late.
//!
//! ```text
//! delay 3 s: 200 200 ... 200, refused after 3.0 s     ->  upheld
//! delay 3 s: 200 500 at 1.0 s                         ->  violated
//! delay 0                                             ->  inconclusive: there is nothing to see
//! ```

use super::conclusive::conclude;
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
    let samples = facts.restarts.iter().map(|restart| in_delay(facts, restart).len()).sum();
    (conclude(facts, &[], verdict), vec![Figure::count("samples", samples)])
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>) -> Verdict {
    let server = restart.server;
    let samples = in_delay(facts, restart);
    if let Some((at, health)) = samples.iter().find(|(_, health)| health.answer != Ok(200)) {
        let answer = match &health.answer {
            Ok(status) => status.to_string(),
            Err(failure) => failure.class.to_string(),
        };
        let since = at.since(restart.at(Step::TermSent).unwrap_or(*at)).as_secs_f64();
        return Verdict::Violated {
            expected: "a green /livez until the shutdown delay is over".to_owned(),
            actual: format!("/livez of {server} said {answer} when asked {since:.3} s after SIGTERM"),
            excerpt: excerpt(facts, *at, |event| match event {
                Event::ServerHealth(health) => health.server == server && health.path == "/livez",
                Event::Lifecycle(step) => step.server == server,
                _ => false,
            }),
        };
    }
    match samples.len() >= facts.bounds.samples as usize {
        true => Verdict::Upheld,
        false => Verdict::inconclusive(format!(
            "/livez of {server} was asked {} times during the shutdown delay, it takes {}",
            samples.len(),
            facts.bounds.samples
        )),
    }
}

fn in_delay<'a>(facts: &Facts<'a>, restart: &Restarted<'_>) -> Vec<(Moment, &'a ServerHealth)> {
    let Some(sent) = restart.at(Step::TermSent) else { return Vec::new() };
    let over = sent + facts.recording.header.timers.shutdown_delay - facts.bounds.stall;
    let mut samples = facts.health(restart.server, "/livez", sent, over);
    // One that was asked only just before may be answered after; one that had time enough is a failure all the same.
    samples.retain(|(at, health)| *at + health.took <= over || over.since(*at) >= facts.bounds.readyz_red);
    samples
}
