//! The table of cases (markdown): what each scenario's clients met, how long they were without service, and which requirement
//! caught it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::clean::one_line;
use crate::timeline::{Expected, Protocol, Recording, Symptom};
use crate::verdict::{Judgement, Role, Survey, Verdict};

/// The clients whose worst outage has a column.
const CLIENTS: [(Role, &str); 6] = [
    (Role::New(Protocol::Http1), "new, HTTP/1.1"),
    (Role::New(Protocol::Http2), "new, HTTP/2"),
    (Role::Reused(Protocol::Http1), "reused, HTTP/1.1"),
    (Role::Reused(Protocol::Http2), "reused, HTTP/2"),
    (Role::Library, "kube-rs"),
    (Role::Load, "load"),
];

/// How long the account of a violation may be, in characters.
const ACCOUNT: usize = 220;

/// One recording's row.
#[derive(Clone, Debug)]
pub struct Case {
    scenario: String,
    cell: String,
    disturbance: String,
    /// Failed samples: those that count, and those that are excused.
    failed: BTreeMap<Symptom, (usize, usize)>,
    /// The worst outage of each client that there was.
    worst: BTreeMap<Role, Duration>,
    /// Each violated requirement, whether that was expected, and what was seen.
    caught: Vec<(&'static str, Expected, String)>,
    /// Requirements without a verdict.
    inconclusive: Vec<&'static str>,
}

impl Case {
    /// A recording's row, with its verdicts.
    pub fn of(recording: &Recording, survey: &Survey<'_>, judgements: &[Judgement]) -> Self {
        let header = &recording.header;
        let mut failed: BTreeMap<Symptom, (usize, usize)> = BTreeMap::new();
        for sample in &survey.failed {
            let (counted, excused) = failed.entry(sample.symptom).or_default();
            *if sample.excused { excused } else { counted } += 1;
        }
        let mut worst: BTreeMap<Role, Duration> = BTreeMap::new();
        for probe in &survey.probes {
            let known = worst.entry(probe.role).or_default();
            *known = probe.worst().max(*known);
        }
        let mut case = Self {
            scenario: cell(&header.scenario),
            cell: cell(&header.cell.to_string()),
            disturbance: header.disturbance.map_or("nothing".to_owned(), |how| how.to_string()),
            failed,
            worst,
            caught: Vec::new(),
            inconclusive: Vec::new(),
        };
        for Judgement { requirement, expected, verdict, .. } in judgements {
            match verdict {
                Verdict::Violated { actual, .. } => {
                    case.caught.push((requirement.id, *expected, cell(&one_line(actual, ACCOUNT))));
                }
                Verdict::Inconclusive { .. } => case.inconclusive.push(requirement.id),
                Verdict::Upheld => {}
            }
        }
        case
    }
}

/// The page: what each case met, and what caught it. Symptoms that no case met are named below the table.
pub fn cases_markdown(cases: &[Case]) -> String {
    let mut page = "# Cases\n".to_owned();
    let cells: BTreeSet<&str> = cases.iter().map(|case| case.cell.as_str()).collect();
    for cell in &cells {
        // Writing to a String cannot fail, here and below.
        let _ = write!(page, "\nCell: {cell}\n");
    }
    page += "\nFailed samples by what they looked like to the client: those that count in an outage or break a request in \
             flight, and after `+` those that no\nrequirement counts (excused, repeated by a library itself, a watch \
             that was opened again, a writer that went to another server).\nThe worst outage of each client, in seconds; \
             empty where there was no such client.\n\n";
    let met = |symptom: &Symptom| cases.iter().any(|case| case.failed.contains_key(symptom));
    let (met, unmet): (Vec<Symptom>, Vec<Symptom>) = Symptom::ALL.into_iter().partition(met);
    let symptoms = met.iter().map(ToString::to_string);
    let clients = CLIENTS.iter().map(|(_, name)| (*name).to_owned());
    let mut head: Vec<String> = vec!["case".into(), "disturbed by".into()];
    head.extend(symptoms.chain(clients).chain(["caught by".to_owned()]));
    row(&mut page, &head);
    let rule =
        |title: &String| if head[..2].contains(title) || title == "caught by" { "---" } else { "---:" }.to_owned();
    row(&mut page, &head.iter().map(rule).collect::<Vec<_>>());
    for case in cases {
        let mut cells = vec![case.scenario.clone(), case.disturbance.clone()];
        cells.extend(met.iter().map(|symptom| match case.failed.get(symptom) {
            None => String::new(),
            Some((counted, 0)) => counted.to_string(),
            Some((0, excused)) => format!("+{excused}"),
            Some((counted, excused)) => format!("{counted} +{excused}"),
        }));
        let worst = CLIENTS.iter().map(|(client, _)| case.worst.get(client));
        cells.extend(worst.map(|worst| match worst {
            None => String::new(),
            Some(&Duration::ZERO) => "0".to_owned(),
            Some(worst) => format!("{:.2}", worst.as_secs_f64()),
        }));
        cells.push(caught(case));
        row(&mut page, &cells);
    }
    if !unmet.is_empty() {
        let names: Vec<String> = unmet.iter().map(ToString::to_string).collect();
        let _ = write!(page, "\nNo case met: {}.\n", names.join(", "));
    }
    page += "\n## What was caught\n\n";
    let head = ["requirement", "case", "expected", "found"].map(str::to_owned);
    row(&mut page, &head);
    row(&mut page, &head.clone().map(|_| "---".to_owned()));
    for case in cases {
        for (id, expected, found) in &case.caught {
            let expected = if *expected == Expected::Violated { "violated (control)" } else { "upheld" };
            row(&mut page, &[(*id).to_owned(), case.scenario.clone(), expected.to_owned(), found.clone()]);
        }
    }
    page
}

/// What a control was made for is set plainly; what speaks against the subject is bold.
fn caught(case: &Case) -> String {
    let violated = case.caught.iter().map(|(id, expected, _)| match expected {
        Expected::Violated => (*id).to_owned(),
        Expected::Upheld => format!("**{id}**"),
    });
    violated.chain(case.inconclusive.iter().map(|id| format!("{id}: inconclusive"))).collect::<Vec<_>>().join(", ")
}

fn row(page: &mut String, cells: &[String]) {
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

/// Text from elsewhere that stays in its cell and is no markup.
fn cell(text: &str) -> String {
    let text = one_line(text, usize::MAX);
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "\\`").replace('*', "\\*")
}
