//! The regression gate: what makes it red, and only that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;

use jiff::civil::{Date, date};
use rollproof::report::Line;
use rollproof::report::gate::{Expectations, Gate};
use rollproof::timeline::Expected;

use crate::cli::ended;
use crate::keeper::stage::Home;

const TODAY: Date = date(2026, 11, 22);
const CELL: &str = "local/v1.37.2x2/builtin/http1+http2/kube-rs/pr";

const EXPECTATIONS: &str = r#"
scenarios = ["rollout::control", "rollout::gracefully"]

[[cell]]
name = "local/v1.37.2x2/builtin/*/pr"
required = true
may-skip = ["profile"]

[[known]]
requirement = "ROLLOUT-2"
scenario = "rollout::gracefully"
reason = "the balancer cuts connections that are being used"
issue = "https://example.com/7"
until = "2026-11-22"
"#;

/// A line of `verdicts.jsonl`.
fn line(requirement: &'static str, scenario: &'static str, verdict: &'static str, expected: Expected) -> Line<'static> {
    Line {
        requirement: requirement.into(),
        level: Some("MUST".to_owned()),
        cell: CELL.to_owned(),
        scenario: scenario.into(),
        gateway: None,
        verdict: verdict.into(),
        expected,
        passed: verdict == if expected == Expected::Violated { "violated" } else { "upheld" },
        reason: Some("3 of 10 requests | failed".to_owned()),
        need: None,
        figures: BTreeMap::new(),
        recording: None,
    }
}

/// Results that are just as expected.
fn as_expected() -> Vec<Line<'static>> {
    vec![
        line("ROLLOUT-1", "rollout::gracefully", "upheld", Expected::Upheld),
        line("ROLLOUT-2", "rollout::gracefully", "violated", Expected::Upheld),
        line("ROLLOUT-1", "rollout::control", "violated", Expected::Violated),
    ]
}

fn gate(lines: &[Line<'_>]) -> Gate {
    Expectations::parse(EXPECTATIONS).unwrap().judge(lines, TODAY)
}

/// The one thing that is wrong with these results.
fn the_problem(change: impl FnOnce(&mut Vec<Line<'static>>)) -> String {
    let mut lines = as_expected();
    change(&mut lines);
    let gate = gate(&lines);
    let [problem] = &gate.problems[..] else { panic!("{:#?}", gate.problems) };
    assert!(gate.summary().starts_with("## Gate: red (1 problem)\n"), "{}", gate.summary());
    format!("{}: {}", problem.scenario, problem.what)
}

#[test]
fn results_as_expected_are_green() {
    let gate = gate(&as_expected());
    assert!(gate.green(), "{:#?}", gate.problems);
    assert!(gate.summary().contains(&format!("| `{CELL}` | 1 | 1 | 1 | 0 | 0 | 0 | 0 |")), "{}", gate.summary());
}

#[test]
fn a_new_violation_is_red() {
    let problem = the_problem(|lines| lines[0].verdict = "violated".into());
    assert_eq!(problem, "rollout::gracefully: ROLLOUT-1 is violated");
}

#[test]
fn a_known_violation_is_red_once_its_day_has_passed() {
    let gate = Expectations::parse(EXPECTATIONS).unwrap().judge(&as_expected(), TODAY.tomorrow().unwrap());
    let [problem] = &gate.problems[..] else { panic!("{:#?}", gate.problems) };
    assert_eq!(problem.what, "ROLLOUT-2 was accepted until 2026-11-22 only (https://example.com/7)");
}

#[test]
fn a_known_violation_that_has_gone_is_red() {
    let problem = the_problem(|lines| lines[1].verdict = "upheld".into());
    assert_eq!(problem, "rollout::gracefully: ROLLOUT-2 is upheld again: remove its [[known]] entry");
}

#[test]
fn a_control_without_teeth_is_red() {
    let problem = the_problem(|lines| lines[2].verdict = "upheld".into());
    assert!(problem.contains("lost its teeth"), "{problem}");
}

#[test]
fn a_known_violation_excuses_no_control() {
    let problem =
        the_problem(|lines| lines.push(line("ROLLOUT-2", "rollout::gracefully", "upheld", Expected::Violated)));
    assert!(problem.contains("lost its teeth"), "{problem}");
}

#[test]
fn inconclusive_and_broken_are_red() {
    for (verdict, said) in
        [("inconclusive", "is inconclusive"), ("error", "has no verdict"), ("later", "has no verdict")]
    {
        let problem = the_problem(|lines| lines[0].verdict = verdict.into());
        assert!(problem.contains(said), "{problem}");
    }
}

#[test]
fn a_must_may_be_skipped_only_for_a_need_that_the_cell_lists() {
    let skipped = |need: &'static str, level: &str| {
        let mut lines = as_expected();
        lines[0].verdict = "skipped".into();
        lines[0].need = Some(Cow::from(need));
        lines[0].level = Some(level.to_owned());
        gate(&lines).problems
    };
    assert_eq!(skipped("profile", "MUST"), []);
    assert_eq!(skipped("server-logs", "SHOULD"), []);
    assert!(skipped("server-logs", "MUST")[0].what.ends_with("does not have `server-logs`"));
}

#[test]
fn a_scenario_that_has_not_reported_is_red() {
    let problem = the_problem(|lines| drop(lines.pop()));
    assert_eq!(problem, "rollout::control: has reported nothing: it did not run, or did not end");
}

#[test]
fn a_required_cell_without_results_and_an_unexpected_cell_are_red() {
    let gate = gate(&[]);
    assert_eq!(gate.problems[0].what, "no result of this required cell");
    let problem = the_problem(|lines| {
        for mut stranger in as_expected() {
            stranger.cell = "kind/v1.37.2x3".to_owned();
            lines.push(stranger);
        }
    });
    assert!(problem.contains("add one"), "{problem}");
}

#[test]
fn of_some_cells_the_others_are_not_missed() {
    let expectations = Expectations::parse(EXPECTATIONS).unwrap().of_some_cells();
    assert!(expectations.judge(&[], TODAY).green());
    assert!(!expectations.judge(&as_expected()[..2], TODAY).green(), "what is there is judged all the same");
}

#[test]
fn a_cell_may_name_the_scenarios_that_run_in_it() {
    let only = |scenarios: &str| {
        let text = EXPECTATIONS.replace("required = true", &format!("scenarios = {scenarios}"));
        Expectations::parse(&text).unwrap().judge(&as_expected()[..2], TODAY).problems
    };
    assert_eq!(only(r#"["rollout::gracefully"]"#), []);
    assert!(only(r#"["rollout::control"]"#)[0].what.starts_with("has reported nothing"));
}

#[test]
fn a_summary_survives_hostile_text() {
    let mut lines = as_expected();
    lines[0].verdict = "violated".into();
    lines[0].reason = Some("<script> | `x`\n| new row |".to_owned());
    let summary = gate(&lines).summary();
    assert!(summary.contains(r"&lt;script> \| \`x\` \| new row \|"), "{summary}");
}

#[test]
fn bad_expectations_are_refused_by_line() {
    let refused = |text: &str| format!("{:#}", Expectations::parse(text).unwrap_err());
    assert!(refused("[[cell]]\nnmae = 'x'").contains("line 2"), "{}", refused("[[cell]]\nnmae = 'x'"));
    let known = EXPECTATIONS.replace("ROLLOUT-2", "ROLLOUT-99");
    assert!(refused(&known).contains("there is no requirement `ROLLOUT-99`"));
    let known = EXPECTATIONS.replace("2026-11-22", "soon");
    assert!(refused(&known).contains("`soon` is no date"), "{}", refused(&known));
}

#[test]
fn scripts_see_whether_the_gate_is_red() {
    let (home, night) = (Home::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| night.path().join(name);
    fs::write(path("expectations.toml"), EXPECTATIONS.replace("2026-11-22", "9999-12-31")).unwrap();
    let write = |lines: &[Line<'_>]| {
        fs::create_dir_all(path("results/cell")).unwrap();
        let text: Vec<_> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        fs::write(path("results/cell/verdicts.jsonl"), text.join("\n")).unwrap();
    };
    let gate = || {
        let mut command = home.rollproof(&["gate", "--expectations"]);
        ended(command.arg(path("expectations.toml")).arg(path("results")).arg("--summary").arg(path("summary.md")))
    };
    write(&as_expected());
    let (code, out, _) = gate();
    assert_eq!((code, &out[..15]), (0, "## Gate: green\n"));
    write(&as_expected()[..2]);
    let (code, out, _) = gate();
    assert_eq!((code, &out[..12]), (1, "## Gate: red"));
    let summary = fs::read_to_string(path("summary.md")).unwrap();
    assert!(summary.starts_with("## Gate: green\n") && summary.contains("## Gate: red"), "{summary}");

    fs::write(path("results/cell/verdicts.jsonl"), "{}\n").unwrap();
    let (code, _, err) = gate();
    assert!(code == 3 && err.contains("line 1: no verdict"), "{code} {err}");
    fs::remove_dir_all(path("results/cell")).unwrap();
    let (code, _, err) = gate();
    assert!(code == 3 && err.contains("holds no verdicts.jsonl"), "{code} {err}");
}
