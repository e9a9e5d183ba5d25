//! The closing table, printed when the test process ends.
//!
//! libtest has no hook after all tests, and captures what a test prints: so the table is printed by `atexit`, straight to
//! the standard error stream.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsFd;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use super::clean::{one_line, typed};
use super::errors::{Errors, summary};
use super::finding::{Finding, Kind, findings};
use super::text::shown;
use super::{RunDir, ScenarioReport};
use crate::timeline::Expected;

/// Columns where there is no terminal to ask.
const WIDTH: u16 = 80;
/// The narrowest table that is still a table.
const NARROWEST: u16 = 40;

/// One line of the closing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    scenario: String,
    requirement: String,
    title: &'static str,
    mark: Mark,
    verdict: String,
    figure: String,
    place: Option<String>,
    /// Of a scenario's first row: its drawing, and what failed.
    timeline: Option<String>,
    errors: Vec<Errors>,
}

/// What a row comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Ok,
    Control,
    Failed,
    Blunt,
    Inconclusive,
    Error,
    Skipped,
}

impl Mark {
    fn of(finding: &Finding<'_>) -> Self {
        match finding.kind {
            Kind::Violated if finding.passed => Self::Control,
            _ if finding.passed => Self::Ok,
            Kind::Violated => Self::Failed,
            Kind::Upheld => Self::Blunt,
            Kind::Inconclusive => Self::Inconclusive,
            Kind::Lab | Kind::Panic => Self::Error,
            Kind::Skipped => Self::Skipped,
        }
    }

    /// In front of a row, its ANSI colour, and what the counts call it.
    const fn face(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "\x1b[32m", "upheld"),
            Self::Control => ("ok", "\x1b[32m", "violated as expected"),
            Self::Failed => ("FAIL", "\x1b[31m", "violated"),
            Self::Blunt => ("FAIL", "\x1b[31m", "not found by a control"),
            Self::Inconclusive => ("??", "\x1b[33m", "inconclusive"),
            Self::Error => ("ERR", "\x1b[31m", "without a verdict"),
            Self::Skipped => ("skip", "\x1b[36m", "skipped"),
        }
    }
}

/// A scenario's rows.
pub fn closing_rows(report: &ScenarioReport) -> Vec<Row> {
    let place = report.recording.as_ref().or(report.evidence.as_ref()).map(|path| typed(path));
    let row = |finding: &Finding<'_>| Row {
        scenario: one_line(&report.scenario, usize::MAX),
        requirement: one_line(finding.id, usize::MAX),
        title: finding.requirement.map_or("", |requirement| requirement.title),
        mark: Mark::of(finding),
        verdict: match (finding.kind.word(), finding.expected) {
            ("violated", Expected::Violated) => "violated (expected)".to_owned(),
            (word, Expected::Violated) => format!("{word} (expected: violated)"),
            (word, Expected::Upheld) => word.to_owned(),
        } + &through(finding),
        // Where there is no verdict, the reason says more than any figure.
        figure: match finding.kind {
            Kind::Upheld | Kind::Violated => finding.figures.first().map(shown).unwrap_or_default(),
            _ => one_line(&finding.reason, 60),
        },
        place: place.clone(),
        timeline: None,
        errors: Vec::new(),
    };
    let mut rows: Vec<Row> = findings(report).iter().map(row).collect();
    if let Some(first) = rows.first_mut() {
        first.timeline = report.timeline.as_ref().map(|path| typed(path));
        first.errors.clone_from(&report.errors);
    }
    rows
}

/// Of several gateways, the one.
fn through(finding: &Finding<'_>) -> String {
    finding.gateway.map_or(String::new(), |gateway| format!(": {gateway}"))
}

/// The table, by scenario, in at most `width` columns (paths aside, so that they can be copied), with ANSI colours, and
/// then how many rows there are of each kind. Empty where there are no rows.
pub fn closing_table(rows: &[Row], width: u16) -> String {
    let mut scenarios: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    let mut counts: BTreeMap<Mark, usize> = BTreeMap::new();
    for row in rows {
        scenarios.entry(&row.scenario).or_default().push(row);
        *counts.entry(row.mark).or_default() += 1;
    }
    let mut out = String::new();
    for (scenario, rows) in scenarios {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "\n{scenario}");
        // A scenario is skipped as a whole, for one reason.
        let skipped = rows.first().filter(|_| rows.iter().all(|row| row.mark == Mark::Skipped));
        let rows_or_reason = match skipped {
            Some(row) => format!(" {}  {}", row.mark.face().0, row.figure),
            None => table(&rows, width),
        };
        let _ = writeln!(out, "{}", coloured(&rows_or_reason));
        out += &failures(&rows, width);
        for place in [rows.iter().find_map(|row| row.place.as_ref()), rows[0].timeline.as_ref()].into_iter().flatten() {
            let _ = writeln!(out, "  see {place}");
        }
    }
    let counts: Vec<String> = counts.iter().map(|(mark, count)| format!("{count} {}", mark.face().2)).collect();
    if !counts.is_empty() {
        let _ = writeln!(out, "\n{}", counts.join(", "));
    }
    out
}

/// What failed in a scenario, beside the lives of the apiservers: each kind where something was violated, else in a line.
fn failures(rows: &[&Row], width: u16) -> String {
    let errors: Vec<&Errors> = rows.iter().flat_map(|row| &row.errors).collect();
    if errors.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    if rows.iter().any(|row| matches!(row.mark, Mark::Failed | Mark::Control)) {
        let mut table = blank(width);
        for one in errors.iter().filter(|one| !one.excused) {
            table.add_row([format!("{} x{}", one.symptom, one.count()), one.circumstances()]);
        }
        if !table.is_empty() {
            out = format!("  failed, and the apiserver it was on or meant for\n{}\n", table.trim_fmt());
        }
    }
    let _ = writeln!(out, "  {}", summary(errors));
    out
}

fn blank(width: u16) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width.max(NARROWEST));
    table
}

fn table(rows: &[&Row], width: u16) -> String {
    let mut table = blank(width);
    table.add_rows(rows.iter().map(|row| [row.mark.face().0, &row.requirement, row.title, &row.verdict, &row.figure]));
    // What people scan for is never wrapped.
    for column in [0, 1] {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

/// Colours the mark that a row's first line begins with; its further lines begin with blanks.
fn coloured(table: &str) -> String {
    let marks = [Mark::Ok, Mark::Failed, Mark::Inconclusive, Mark::Error, Mark::Skipped].map(Mark::face);
    let line = |line: &str| {
        let mark = marks.iter().find(|(mark, ..)| line.strip_prefix(' ').is_some_and(|line| line.starts_with(mark)));
        match mark {
            Some((mark, colour, _)) => format!(" {colour}{mark}\x1b[0m{}", &line[1 + mark.len()..]),
            None => line.to_owned(),
        }
    };
    table.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// From now on, the end of the process prints the table.
pub(super) fn print_at_exit() {
    extern "C" fn at_exit() {
        // Unwinding out of it would abort the process, and its exit code is libtest's word.
        let _ = std::panic::catch_unwind(print);
    }
    #[expect(unsafe_code, reason = "the standard library has no hook at the end of the process")]
    // SAFETY: atexit may be called at any time and from any thread, and keeps the pointer of a function that lives as
    // long as the program. The function neither unwinds nor exits.
    let refused = unsafe { libc::atexit(at_exit) };
    // Only memory can be lacking; the table is in the result files too.
    debug_assert_eq!(refused, 0, "atexit");
}

fn print() {
    let Some(run) = RunDir::opened() else { return };
    let rows = run.rows();
    if rows.is_empty() {
        return;
    }
    let text = format!("{}results in {}\n", closing_table(&rows, terminal_width(std::io::stderr())), typed(run.path()));
    // Strips the colours unless this is a terminal that wants them (NO_COLOR, CLICOLOR, TERM). Nobody is left to tell
    // that the stream is closed.
    let _ = anstream::AutoStream::auto(std::io::stderr()).write_all(text.as_bytes());
}

/// How many columns the terminal behind a stream has; 80 where there is none.
pub fn terminal_width(stream: impl AsFd) -> u16 {
    match rustix::termios::tcgetwinsize(stream) {
        Ok(size) if size.ws_col > 0 => size.ws_col,
        _ => WIDTH,
    }
}
