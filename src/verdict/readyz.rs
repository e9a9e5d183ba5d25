//! ROLLOUT-3: /readyz is red from SIGTERM to the end of the process.
//!
//! It has to be seen all that time: while the apiserver serves on, by its own answers; from the end of the shutdown delay on, a closed port is
//! as good as a red answer.
//!
//! ```text
//! SIGTERM, 200 after 0.1 s, 500 500 ... refused ... started again   ->  upheld (bound 1 s)
//! SIGTERM, 200 after 1.2 s                                          ->  violated
//! SIGTERM, 500 500, 200 after 2 s                                   ->  violated: it turned green again
//! SIGTERM, first asked after 1.2 s                                  ->  inconclusive
//! SIGTERM, 500, not asked for 2.5 s (bound 2 s), refused            ->  inconclusive
//! SIGTERM, timeout timeout ..., though it serves on                 ->  inconclusive: it has not answered
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
    let verdict = Verdict::worst(facts.restarts.iter().map(|restart| claim(facts, restart))).unwrap_or(Verdict::Upheld);
    let verdict = match verdict {
        Verdict::Upheld => every_fault(facts).map_or(Verdict::Upheld, Verdict::inconclusive),
        verdict => verdict,
    };
    let slowest = facts.restarts.iter().filter_map(|restart| {
        let sent = restart.at(Step::TermSent)?;
        let samples = facts.health(restart.server, "/readyz", sent, restart.at(Step::Started).unwrap_or(facts.end));
        samples.iter().find(|(_, health)| health.answer != Ok(200)).map(|(at, _)| at.since(sent))
    });
    let figures = slowest.max().map(|span| Figure::millis("slowest red /readyz", span)).into_iter().collect();
    (verdict, figures)
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>) -> Verdict {
    let server = restart.server;
    let bound = facts.bounds.readyz_red;
    let Some(sent) = restart.at(Step::TermSent) else {
        return Verdict::inconclusive(format!("no SIGTERM to {server} is in the recording"));
    };
    let until = restart.at(Step::Started).unwrap_or(facts.end);
    let samples = facts.health(server, "/readyz", sent, until);
    let late = |at: Moment, health: &ServerHealth| at > sent + bound && health.answer == Ok(200);
    let red = samples.iter().position(|(_, health)| health.answer != Ok(200)).unwrap_or(samples.len());
    // One that has been red and is green again needs no clock; of the others, the first says it all.
    let first = samples[..red].iter().find(|(at, health)| late(*at, health));
    let again = samples[red..].iter().find(|(_, health)| health.answer == Ok(200));
    let found = [
        again.map(|(at, _)| violated(facts, server, *at, sent)),
        first.map(|(at, health)| {
            breach(facts, Rests::OnTime(sent, *at + health.took), violated(facts, server, *at, sent))
        }),
    ];
    Verdict::worst(found.into_iter().flatten())
        .or_else(|| unseen(facts, restart, sent, &samples).map(Verdict::inconclusive))
        .unwrap_or(Verdict::Upheld)
}

fn violated(facts: &Facts<'_>, server: &str, at: Moment, sent: Moment) -> Verdict {
    let (bound, late) = (facts.bounds.readyz_red.as_secs_f64(), at.since(sent).as_secs_f64());
    Verdict::Violated {
        expected: format!("a red /readyz from {bound:.3} s after SIGTERM to the end of the process"),
        actual: format!("/readyz of {server} was 200 when asked {late:.3} s after SIGTERM"),
        excerpt: excerpt(facts, at, |event| match event {
            Event::ServerHealth(health) => health.server == server && health.path == "/readyz",
            Event::Lifecycle(step) => step.server == server,
            _ => false,
        }),
    }
}

/// Why it is not known to have been red all the time, if so.
fn unseen(
    facts: &Facts<'_>,
    restart: &Restarted<'_>,
    sent: Moment,
    samples: &[(Moment, &ServerHealth)],
) -> Option<String> {
    let server = restart.server;
    let exited = restart.at(Step::Exited).or_else(|| restart.at(Step::Started)).unwrap_or(facts.end);
    let delay_over = sent + facts.recording.header.timers.shutdown_delay;
    let serves_until = restart.at(Step::HTTPServerStoppedListening).map_or(delay_over, |closed| closed.min(delay_over));
    // While it serves on, only itself can say so; a closed port says nothing of /readyz.
    let tells = |at: Moment, health: &ServerHealth| health.answer.is_ok() || at >= serves_until;
    let telling = || samples.iter().filter(|(at, health)| tells(*at, health));
    if !telling().any(|(_, health)| health.answer != Ok(200)) {
        return Some(format!("/readyz of {server} was not seen red between SIGTERM and its end"));
    }
    let mut seen = sent;
    for at in telling().map(|(at, _)| *at).filter(|at| *at < exited).chain([exited]) {
        let gap = if seen == sent { facts.bounds.readyz_red } else { facts.bounds.health_gap };
        if at.since(seen) > gap {
            return Some(format!(
                "/readyz of {server} was not seen for {:.3} s from {} on, and may be unseen for {:.3} s",
                at.since(seen).as_secs_f64(),
                facts.clock(seen),
                gap.as_secs_f64()
            ));
        }
        seen = at;
    }
    stalled(facts, sent, exited)
}
