//! ROLLOUT-3: /readyz is red from SIGTERM to the end of the process.
//!
//! ```text
//! SIGTERM, 200 after 0.1 s, 500 500 ... refused ... started again   ->  upheld (bound 1 s)
//! SIGTERM, 200 after 1.2 s                                          ->  violated
//! SIGTERM, 500 500, 200 after 2 s                                   ->  violated: it turned green again
//! SIGTERM, never asked while it served on                           ->  inconclusive
//! ```

use super::conclusive::conclude;
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Event, Restart, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let verdict = Verdict::worst(facts.restarts.iter().map(|restart| claim(facts, restart))).unwrap_or(Verdict::Upheld);
    let slowest = facts.restarts.iter().filter_map(|restart| {
        let sent = restart.at(Step::TermSent)?;
        let samples = facts.health(restart.server, "/readyz", sent, restart.at(Step::Started).unwrap_or(facts.end));
        samples.iter().find(|(_, health)| health.answer != Ok(200)).map(|(at, _)| at.since(sent))
    });
    let figures = slowest.max().map(|span| Figure::millis("slowest red /readyz", span)).into_iter().collect();
    (conclude(facts, &[], verdict), figures)
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>) -> Verdict {
    let server = restart.server;
    let (bound, delay) = (facts.bounds.readyz_red, facts.recording.header.timers.shutdown_delay);
    let Some(sent) = restart.at(Step::TermSent) else {
        return Verdict::inconclusive(format!("no SIGTERM to {server} is in the recording"));
    };
    let until = restart.at(Step::Started).unwrap_or(facts.end);
    let samples = facts.health(server, "/readyz", sent, until);
    if let Some((at, _)) = samples.iter().find(|(at, health)| *at > sent + bound && health.answer == Ok(200)) {
        let late = at.since(sent).as_secs_f64();
        return Verdict::Violated {
            expected: format!(
                "a red /readyz from {:.3} s after SIGTERM to the end of the process",
                bound.as_secs_f64()
            ),
            actual: format!("/readyz of {server} was 200 when asked {late:.3} s after SIGTERM"),
            excerpt: excerpt(facts, *at, |event| match event {
                Event::ServerHealth(health) => health.server == server && health.path == "/readyz",
                Event::Lifecycle(step) => step.server == server,
                _ => false,
            }),
        };
    }
    // Where the server serves on for long enough, it has to have said so itself; a closed port says nothing of /readyz.
    let serves_on = delay > bound;
    let red = samples.iter().any(|(at, health)| match &health.answer {
        Ok(status) => *status != 200 && (!serves_on || *at <= sent + delay),
        Err(_) => !serves_on,
    });
    match red {
        true => Verdict::Upheld,
        false => Verdict::inconclusive(format!("/readyz of {server} was not seen red between SIGTERM and its end")),
    }
}
