//! The regression gate: the results of a night against what is expected of them.
//!
//! A person writes [`Expectations`] down (`ci/expectations.toml`): which cells and scenarios have to be there, and which
//! violations are known, why, and until when. Whatever differs is a [`Problem`], and one problem makes the gate red. A
//! known violation that has gone is one too: an expectation that nobody needs any more would hide the next regression.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Context as _;
use jiff::civil::Date;
use serde::{Deserialize, Deserializer};
use wildmatch::WildMatch;

use super::{Line, one_line};
use crate::timeline::Expected;

/// What the results have to be. Read from TOML; names are patterns in which `*` stands for any text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// Scenarios, as libtest names them, that have to have reported in every cell, unless it says otherwise.
    #[serde(default)]
    pub scenarios: BTreeSet<String>,
    /// What each kind of cell has to show. Every cell in the results has to be one of them.
    #[serde(default, rename = "cell")]
    pub cells: Vec<ExpectedCell>,
    /// Violations that are known, and accepted for a while.
    #[serde(default, rename = "known")]
    pub known: Vec<Known>,
}

/// What a cell has to show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExpectedCell {
    /// Which cells these are, as [`Cell`](crate::timeline::Cell) prints them. A cell's first match counts.
    pub name: Pattern,
    /// The night is red without one of them.
    #[serde(default)]
    pub required: bool,
    /// Needs for which a MUST may be skipped.
    #[serde(default)]
    pub may_skip: Vec<Pattern>,
    /// The scenarios that run in it, where those are not all.
    pub scenarios: Option<BTreeSet<String>>,
}

/// A violation that is known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The requirement's id.
    pub requirement: String,
    /// In which cells.
    #[serde(default = "Pattern::any")]
    pub cell: Pattern,
    /// In which scenarios.
    #[serde(default = "Pattern::any")]
    pub scenario: Pattern,
    /// Why it is accepted.
    pub reason: String,
    /// Where it is being worked on.
    pub issue: String,
    /// The last day on which it is accepted, for example `"2027-01-31"`.
    #[serde(deserialize_with = "date")]
    pub until: Date,
}

/// A name with `*` for any text.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
pub struct Pattern(WildMatch);

impl Pattern {
    fn any() -> Self {
        Self::from("*".to_owned())
    }

    /// Whether the name is meant.
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

impl From<String> for Pattern {
    fn from(pattern: String) -> Self {
        Self(WildMatch::new(&pattern))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn date<'de, D: Deserializer<'de>>(from: D) -> Result<Date, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| serde::de::Error::custom(format_args!("`{text}` is no date such as \"2027-01-31\"")))
}

impl Expectations {
    /// Reads TOML.
    ///
    /// # Errors
    /// Not TOML, an unknown field, one missing, or a requirement that does not exist: which, and in which line.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let expectations: Self = toml::from_str(text)?;
        for known in &expectations.known {
            crate::spec::requirement(&known.requirement).with_context(|| {
                format!("there is no requirement `{}`: `rollproof list` has them all", known.requirement)
            })?;
        }
        Ok(expectations)
    }

    /// Without the cells that have to be there: for results that are known not to be those of all cells.
    #[must_use]
    pub fn of_some_cells(mut self) -> Self {
        self.cells.iter_mut().for_each(|cell| cell.required = false);
        self
    }

    /// Holds results against the expectations on the given day.
    pub fn judge(&self, lines: &[Line<'_>], today: Date) -> Gate {
        let mut problems = Vec::new();
        let mut counts = BTreeMap::<String, Counts>::new();
        for line in lines {
            let verdict = Judged::of(line, self.known_violation(line, today));
            counts.entry(line.cell.clone()).or_default().add(&verdict);
            problems.extend(self.problem_of(line, &verdict));
        }
        problems.extend(self.missing(lines));
        problems.extend(self.stale(lines));
        Gate { problems, counts }
    }

    fn cell(&self, name: &str) -> Option<&ExpectedCell> {
        self.cells.iter().find(|cell| cell.name.matches(name))
    }

    fn known_violation(&self, line: &Line<'_>, today: Date) -> Option<&Known> {
        self.known.iter().find(|known| known.speaks_of(line) && today <= known.until)
    }

    fn problem_of(&self, line: &Line<'_>, verdict: &Judged) -> Option<Problem> {
        let what = match verdict {
            Judged::Fine | Judged::Control | Judged::Known => return None,
            Judged::Violated => match self.known.iter().find(|known| known.speaks_of(line)) {
                Some(known) => format!("was accepted until {} only ({})", known.until, known.issue),
                None => "is violated".to_owned(),
            },
            Judged::Blunt => "is upheld in a control that is to violate it: the control has lost its teeth".to_owned(),
            Judged::Inconclusive => "is inconclusive".to_owned(),
            Judged::Error => "has no verdict: the lab or the suite failed".to_owned(),
            Judged::Skipped => {
                let need = line.need.as_deref().unwrap_or_default();
                let allowed = self.cell(&line.cell).is_some_and(|cell| cell.may_skip.iter().any(|it| it.matches(need)));
                if allowed || line.level.as_deref() != Some("MUST") {
                    return None;
                }
                format!("is skipped, and `may-skip` of this cell does not have `{need}`")
            }
        };
        let what = format!("{} {what}", line.requirement);
        Some(Problem { cell: line.cell.clone(), scenario: line.scenario.to_string(), what, why: line.reason.clone() })
    }

    /// Cells and scenarios that should be in the results, and cells that nobody expects.
    fn missing(&self, lines: &[Line<'_>]) -> Vec<Problem> {
        let mut scenarios = BTreeMap::<&str, BTreeSet<&str>>::new();
        for line in lines {
            scenarios.entry(&line.cell).or_default().insert(&line.scenario);
        }
        let problem = |cell: &dyn fmt::Display, scenario: &dyn fmt::Display, what: &str| Problem {
            cell: cell.to_string(),
            scenario: scenario.to_string(),
            what: what.to_owned(),
            why: None,
        };
        let mut problems = Vec::new();
        for (name, reported) in &scenarios {
            let cell = self.cell(name);
            if cell.is_none() {
                problems.push(problem(name, &"*", "no [[cell]] says what is expected of this cell: add one"));
            }
            let expected = cell.and_then(|cell| cell.scenarios.as_ref()).unwrap_or(&self.scenarios);
            let absent = expected.iter().filter(|scenario| !reported.contains(scenario.as_str()));
            problems.extend(absent.map(|it| problem(name, it, "has reported nothing: it did not run, or did not end")));
        }
        let required = self.cells.iter().filter(|cell| cell.required);
        let absent = required.filter(|cell| !scenarios.keys().any(|name| cell.name.matches(name)));
        problems.extend(absent.map(|cell| problem(&cell.name, &"*", "no result of this required cell")));
        problems
    }

    /// Known violations that were looked at, and were not there.
    fn stale(&self, lines: &[Line<'_>]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for known in &self.known {
            let mut judged = lines.iter().filter(|line| known.speaks_of(line) && line.verdict != "skipped").peekable();
            if judged.peek().is_some() && judged.all(|line| line.verdict == "upheld") {
                problems.push(Problem {
                    cell: known.cell.to_string(),
                    scenario: known.scenario.to_string(),
                    what: format!("{} is upheld again: remove its [[known]] entry", known.requirement),
                    why: Some(format!("{} ({})", known.reason, known.issue)),
                });
            }
        }
        problems
    }
}

impl Known {
    fn speaks_of(&self, line: &Line<'_>) -> bool {
        line.expected == Expected::Upheld
            && line.requirement == self.requirement
            && self.cell.matches(&line.cell)
            && self.scenario.matches(&line.scenario)
    }
}

/// A line, as the gate sees it.
enum Judged {
    Fine,
    /// Violated, as a control is to be.
    Control,
    Known,
    Violated,
    /// A control in which nothing was violated.
    Blunt,
    Inconclusive,
    Skipped,
    Error,
}

impl Judged {
    fn of(line: &Line<'_>, known: Option<&Known>) -> Self {
        match (&*line.verdict, line.expected, known) {
            ("upheld", Expected::Upheld, _) => Self::Fine,
            ("violated", Expected::Violated, _) => Self::Control,
            ("violated", Expected::Upheld, Some(_)) => Self::Known,
            ("violated", Expected::Upheld, None) => Self::Violated,
            ("upheld", Expected::Violated, _) => Self::Blunt,
            ("inconclusive", ..) => Self::Inconclusive,
            ("skipped", ..) => Self::Skipped,
            _ => Self::Error,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    upheld: usize,
    controls: usize,
    known: usize,
    violated: usize,
    inconclusive: usize,
    skipped: usize,
    errors: usize,
}

impl Counts {
    fn add(&mut self, verdict: &Judged) {
        *match verdict {
            Judged::Fine => &mut self.upheld,
            Judged::Control => &mut self.controls,
            Judged::Known => &mut self.known,
            Judged::Violated | Judged::Blunt => &mut self.violated,
            Judged::Inconclusive => &mut self.inconclusive,
            Judged::Skipped => &mut self.skipped,
            Judged::Error => &mut self.errors,
        } += 1;
    }
}

/// Something that differs from what is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which cell, or cells.
    pub cell: String,
    /// In which scenario, or scenarios.
    pub scenario: String,
    /// What differs.
    pub what: String,
    /// What is known about it.
    pub why: Option<String>,
}

/// What the gate found.
#[derive(Debug)]
pub struct Gate {
    /// Everything that differs from what is expected; none if the gate is green.
    pub problems: Vec<Problem>,
    counts: BTreeMap<String, Counts>,
}

/// How long a reason may be in the summary, in characters.
const REASON: usize = 240;

impl Gate {
    /// Whether everything is as expected.
    pub fn green(&self) -> bool {
        self.problems.is_empty()
    }

    /// A summary in Markdown: the problems, then a table of the cells.
    pub fn summary(&self) -> String {
        let mut text = match self.problems.len() {
            0 => "## Gate: green\n\n".to_owned(),
            1 => "## Gate: red (1 problem)\n\n".to_owned(),
            count => format!("## Gate: red ({count} problems)\n\n"),
        };
        for Problem { cell, scenario, what, why } in &self.problems {
            let why = why.as_deref().map_or_else(String::new, |why| format!(": {}", markdown(&one_line(why, REASON))));
            text += &format!("- **{}** in `{}`, `{}`{why}\n", markdown(what), code(scenario), code(cell));
        }
        if !self.problems.is_empty() {
            text.push('\n');
        }
        text += "| cell | upheld | violated in a control | known | violated | inconclusive | skipped | error |\n";
        text += "| --- | --: | --: | --: | --: | --: | --: | --: |\n";
        for (cell, counts) in &self.counts {
            let Counts { upheld, controls, known, violated, inconclusive, skipped, errors } = counts;
            text += &format!(
                "| `{}` | {upheld} | {controls} | {known} | {violated} | {inconclusive} | {skipped} | {errors} |\n",
                code(cell).replace('|', "\\|")
            );
        }
        text
    }
}

/// Text that Markdown takes as it is.
fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => out.extend(['\\', char]),
            char => out.push(char),
        }
    }
    out
}

/// Text between backticks.
fn code(text: &str) -> String {
    one_line(text, usize::MAX).replace('`', "'")
}
