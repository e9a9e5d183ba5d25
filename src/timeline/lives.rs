//! The lives of the apiservers: which stage each was in, at any moment.

use std::collections::BTreeMap;
use std::fmt;

use super::{Event, Moment, Recording, Step};

/// A stage in an apiserver's life: it begins with a step, and lasts until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The step that began it. [`Step::MetThroughBalancer`], [`Step::PreShutdownHooksStopped`] and [`Step::Thawed`] begin
    /// none of their own; nor does InFlightRequestsDrained once the listener is closed: their order is a race, and a closed
    /// listener is what a client meets.
    pub step: Step,
    /// When.
    pub since: Moment,
}

impl Stage {
    /// Whether the server is being stopped, or has been.
    pub fn is_after_signal(self) -> bool {
        !matches!(self.step, Step::Started | Step::Ready | Step::Frozen)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Started => f.write_str("started, not ready"),
            Step::Ready => f.write_str("ready"),
            Step::TermSent => f.write_str("SIGTERM sent"),
            Step::KillSent => f.write_str("SIGKILL sent"),
            Step::Exited => f.write_str("process exited"),
            Step::Frozen => f.write_str("frozen"),
            step => write!(f, "{step:?}"),
        }
    }
}

/// The lives of all apiservers in a recording.
///
/// ```text
/// Started@0 Ready@3 MetThroughBalancer@4 TermSent@9 ShutdownInitiated@9.1  ->  at 5: ready since 3; at 10: ShutdownInitiated
/// ```
#[derive(Clone, Debug, Default)]
pub struct Lives<'a>(BTreeMap<&'a str, Vec<Stage>>);

impl<'a> Lives<'a> {
    /// Those of the servers in the header, and of whoever else went through a step.
    pub fn of(recording: &'a Recording) -> Self {
        let servers = recording.header.servers.iter();
        let mut lives: BTreeMap<&str, Vec<Stage>> = servers.map(|server| (server.name.as_str(), Vec::new())).collect();
        let steps = recording.each(|event| if let Event::Lifecycle(step) = event { Some(step) } else { None });
        for (since, seen) in steps {
            let life = lives.entry(&seen.server).or_default();
            let step = match seen.step {
                Step::MetThroughBalancer | Step::PreShutdownHooksStopped => continue,
                Step::InFlightRequestsDrained | Step::NotAcceptingNewRequest
                    if life.last().is_some_and(|last| last.step == Step::HTTPServerStoppedListening) =>
                {
                    continue;
                }
                // What it was before it was stopped.
                Step::Thawed => match life.iter().rev().find(|stage| stage.step != Step::Frozen) {
                    Some(before) => before.step,
                    None => Step::Ready,
                },
                step => step,
            };
            life.push(Stage { step, since });
        }
        Self(lives)
    }

    /// Each server's name and stages, in order; none where nothing is known of it.
    pub fn each(&self) -> impl Iterator<Item = (&'a str, &[Stage])> {
        self.0.iter().map(|(server, stages)| (*server, stages.as_slice()))
    }

    /// The stage that a server was in.
    pub fn stage(&self, server: &str, at: Moment) -> Option<Stage> {
        self.before(server, at).last().copied()
    }

    /// When a server was sent the last signal before `at`: SIGTERM, or SIGKILL without one.
    pub fn signal(&self, server: &str, at: Moment) -> Option<Moment> {
        let stages = self.before(server, at);
        let last = stages.iter().rposition(|stage| matches!(stage.step, Step::TermSent | Step::KillSent))?;
        // A SIGKILL that follows a SIGTERM belongs to the same end.
        let first = stages[..last].iter().rposition(|stage| stage.step == Step::Started).map_or(0, |start| start + 1);
        let mut end = stages[first..=last].iter();
        end.find(|stage| matches!(stage.step, Step::TermSent | Step::KillSent)).map(|stage| stage.since)
    }

    fn before(&self, server: &str, at: Moment) -> &[Stage] {
        let stages = self.0.get(server).map_or(&[][..], Vec::as_slice);
        &stages[..stages.partition_point(|stage| stage.since <= at)]
    }
}
