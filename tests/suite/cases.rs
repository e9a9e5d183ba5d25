//! The table of cases.

use rollproof::report::{Case, cases_markdown};
use rollproof::timeline::*;
use rollproof::verdict::{judge_all, survey};

use crate::runs::*;

use ConnectionKind::{New, Reused};
use Restart::{Graceful, Killed};

fn case(recording: &Recording) -> Case {
    Case::of(recording, &survey(recording), &judge_all(recording).unwrap())
}

/// A row's cells by the titles of their columns.
fn row<'a>(page: &'a str, scenario: &str) -> Vec<(&'a str, &'a str)> {
    let cells = |line: &'a str| line.trim_matches('|').split(" | ").map(str::trim);
    let head = page.lines().find(|line| line.starts_with("| case |")).expect("a head");
    let row = page.lines().find(|line| line.starts_with(&format!("| {scenario} |"))).expect("a row");
    cells(head).zip(cells(row)).collect()
}

#[test]
fn a_row_tells_what_clients_met_for_how_long_and_what_caught_it() {
    let named = |name: &str, run: Run| run.header(|header| name.clone_into(&mut header.scenario)).whole();
    let control = |header: &mut Header| {
        header.judged_by.iter_mut().filter(|by| by.requirement == "ROLLOUT-1").for_each(|by| {
            by.expected = Expected::Violated;
        });
    };
    let refused = run(Some(Graceful)).requests_fail(New, 3550..3750, ErrorClass::ConnectionRefused).requests_fail(
        Reused,
        14_000..14_100,
        ErrorClass::ConnectionReset,
    );
    let page = cases_markdown(&[
        case(&named("a::control", refused.header(control))),
        case(&named("b::killed", run(Some(Killed)).requests_fail(New, 3000..6400, ErrorClass::Timeout))),
    ]);
    assert_eq!(
        row(&page, "a::control"),
        [
            ("case", "a::control"),
            ("disturbed by", "graceful restart"),
            ("connection reset", "2"),
            ("connection refused", "4"),
            ("timeout", ""),
            ("new, HTTP/1.1", "0.20"),
            ("new, HTTP/2", ""),
            ("reused, HTTP/1.1", "0.10"),
            ("reused, HTTP/2", ""),
            ("kube-rs", "0"),
            ("load", "0"),
            ("caught by", "ROLLOUT-1, **ROLLOUT-2**"),
        ],
        "{page}"
    );
    assert_eq!(row(&page, "b::killed")[4..6], [("timeout", "68"), ("new, HTTP/1.1", "3.40")], "{page}");
    assert!(
        page.contains("\nNo case met: unexpected EOF, GOAWAY, broken pipe, 429, 503, TLS failure, other.\n"),
        "{page}"
    );
    assert!(
        page.contains("\n| ROLLOUT-1 | a::control | violated (control) | 1 outage of 0.200 s from +3.550s on:"),
        "{page}"
    );
    assert!(page.contains("\n| ROLLOUT-2 | a::control | upheld | 1 outage of 0.100 s"), "{page}");
}

#[test]
fn hostile_names_stay_in_their_cells() {
    let hostile = run(None).header(|header| "a|b\n| c `<b>*x*".clone_into(&mut header.scenario));
    let page = cases_markdown(&[case(&hostile.0)]);
    assert!(page.contains("\n| a\\|b \\| c \\`&lt;b>\\*x\\* | nothing |"), "{page}");
}

#[test]
fn no_case_is_a_table_without_rows() {
    let page = cases_markdown(&[]);
    assert!(page.contains("| case | disturbed by |") && page.contains("No case met: unexpected EOF"), "{page}");
}
