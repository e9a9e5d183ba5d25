//! Failed samples beside the life of their apiserver: for the closing report, the text of a violation, and the timeline.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::clean::one_line;
use crate::timeline::{Moment, Stage, Step, Symptom};
use crate::verdict::{Accepted, Attributed, Survey};

/// Failed samples that looked alike and met an apiserver in the same stage of its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// What they looked like.
    pub symptom: Symptom,
    /// Whether no requirement counts them.
    pub excused: bool,
    /// The apiserver they were on or meant for, where that is known.
    pub server: Option<String>,
    /// The stage of its life.
    pub stage: Option<String>,
    /// When it had accepted their connections.
    pub accepted: String,
    /// When the first failed, since the recording began.
    pub first: Duration,
    /// When the last did.
    pub last: Duration,
    /// How many of each probe.
    pub probes: BTreeMap<String, usize>,
}

impl Errors {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.probes.values().sum()
    }

    /// When, where and to whom they happened.
    pub fn circumstances(&self) -> String {
        let excused = if self.excused { ", excused" } else { "" };
        format!("{}, {}, accepted: {}{excused} ({})", self.when(), self.place(), self.accepted, self.by())
    }

    /// The server and its stage: `apiserver-0: HTTPServerStoppedListening`.
    fn place(&self) -> String {
        match (&self.server, &self.stage) {
            (Some(server), Some(stage)) => format!("{server}: {stage}"),
            (Some(server), None) => server.clone(),
            (None, _) => "server unknown".to_owned(),
        }
    }

    /// The probes, with how many of each there are.
    fn by(&self) -> String {
        counted(self.probes.iter().map(|(probe, count)| (probe.as_str(), *count)))
    }

    /// When they failed: `+9.112s` or `+9.112s to +9.310s`.
    fn when(&self) -> String {
        let clock = |span: Duration| format!("+{:.3}s", span.as_secs_f64());
        let (first, last) = (clock(self.first), clock(self.last));
        if first == last { first } else { format!("{first} to {last}") }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x{} {}", self.symptom, self.count(), self.circumstances())
    }
}

/// All failed samples of a recording, in groups: those that count first, then in order of their first.
pub fn errors(survey: &Survey<'_>) -> Vec<Errors> {
    grouped(survey.span.0, survey.failed.iter())
}

/// Groups samples that failed in a recording that began then.
pub(super) fn grouped<'a>(began: Moment, failed: impl Iterator<Item = &'a Attributed<'a>>) -> Vec<Errors> {
    type Alike<'a> = (bool, Symptom, Option<&'a str>, Option<Step>, &'static str);
    let alike = |one: &Attributed<'a>| -> Alike<'a> {
        (one.excused, one.symptom, one.server, one.stage.map(|stage| stage.step), one.accepted.relation())
    };
    let mut groups: Vec<(Alike<'a>, Vec<&'a Attributed<'a>>)> = Vec::new();
    for sample in failed {
        match groups.iter_mut().find(|(known, _)| *known == alike(sample)) {
            Some((_, samples)) => samples.push(sample),
            None => groups.push((alike(sample), vec![sample])),
        }
    }
    groups.sort_by_key(|((excused, ..), _)| *excused);
    groups.into_iter().map(|(_, samples)| group(began, &samples)).collect()
}

fn group(began: Moment, samples: &[&Attributed<'_>]) -> Errors {
    let first = samples[0];
    let mut probes = BTreeMap::new();
    for sample in samples {
        *probes.entry(one_line(sample.probe, usize::MAX)).or_insert(0) += 1;
    }
    let at = samples.iter().map(|sample| sample.at.since(began));
    Errors {
        symptom: first.symptom,
        excused: first.excused,
        server: first.server.map(|server| one_line(server, usize::MAX)),
        stage: first.stage.as_ref().map(Stage::to_string),
        accepted: accepted(samples.iter().map(|sample| sample.accepted)),
        first: at.clone().min().unwrap_or_default(),
        last: at.max().unwrap_or_default(),
        probes,
    }
}

/// `1.203 s before the signal`, `0.020 to 2.417 s before the signal`, `never`.
fn accepted(all: impl Iterator<Item = Accepted> + Clone) -> String {
    let spans = all.clone().filter_map(|one| match one {
        Accepted::Before(span) | Accepted::After(span) => Some(span),
        _ => None,
    });
    let relation = all.last().map_or("unknown", Accepted::relation);
    match (spans.clone().min(), spans.max()) {
        (Some(least), Some(most)) if least == most => format!("{:.3} s {relation}", least.as_secs_f64()),
        (Some(least), Some(most)) => format!("{:.3} to {:.3} s {relation}", least.as_secs_f64(), most.as_secs_f64()),
        _ => relation.to_owned(),
    }
}

/// What failed, in one line: `connection reset x47, 1 excused: connection refused x1`.
pub fn summary<'a>(errors: impl IntoIterator<Item = &'a Errors>) -> String {
    let errors: Vec<&Errors> = errors.into_iter().collect();
    let list = |excused: bool| {
        let mut sum: BTreeMap<Symptom, usize> = BTreeMap::new();
        for one in errors.iter().filter(|one| one.excused == excused) {
            *sum.entry(one.symptom).or_default() += one.count();
        }
        let total: usize = sum.values().sum();
        let names: Vec<(String, usize)> =
            sum.into_iter().map(|(symptom, count)| (symptom.to_string(), count)).collect();
        (total, counted(names.iter().map(|(name, count)| (name.as_str(), *count))))
    };
    match (list(false), list(true)) {
        ((0, _), (0, _)) => "no sample failed".to_owned(),
        ((0, _), (_, excused)) => format!("no failed sample counts; excused: {excused}"),
        ((count, counts), (0, _)) => format!("{count} failed samples: {counts}"),
        ((count, counts), (_, excused)) => format!("{count} failed samples: {counts}; excused: {excused}"),
    }
}

fn counted<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> String {
    counts.map(|(name, count)| format!("{name} x{count}")).collect::<Vec<_>>().join(", ")
}
