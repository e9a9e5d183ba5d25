//! Result files: their shape for every outcome, and what they do with hostile text.

mod beside;
mod run_dir;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use rollproof::report::{self, Line, Outcome, RunDir, ScenarioReport, closing_rows, closing_table};
use rollproof::spec::{Requirement, rollout, watch};
use rollproof::timeline::{Cell, Expected, JudgedBy};
use rollproof::timing::Profile;
use rollproof::verdict::{Figure, Judgement, Verdict};

const SCENARIO: &str = "rollout::nothing_is_lost::case_1_gracefully";

fn cell() -> Cell {
    Cell {
        control_plane: "local".to_owned(),
        kubernetes: "v1.37.2".to_owned(),
        apiservers: 2,
        balancer: "builtin".to_owned(),
        protocol: "http1".to_owned(),
        client: "kube".to_owned(),
        profile: Profile::Pr,
    }
}

fn scenario(name: &str, judged_by: &[(&'static Requirement, Expected)], outcome: Outcome) -> ScenarioReport {
    let by = |(requirement, expected): &(&Requirement, Expected)| JudgedBy {
        requirement: requirement.id.to_owned(),
        expected: *expected,
        gateway: None,
    };
    ScenarioReport {
        scenario: name.to_owned(),
        cell: cell(),
        judged_by: judged_by.iter().map(by).collect(),
        outcome,
        recording: None,
        timeline: None,
        errors: vec![],
        evidence: None,
        took: Duration::from_millis(12_400),
        began: SystemTime::UNIX_EPOCH,
    }
}

fn judged(name: &str, judgements: Vec<Judgement>) -> ScenarioReport {
    let by: Vec<_> = judgements.iter().map(|judgement| (judgement.requirement, judgement.expected)).collect();
    scenario(name, &by, Outcome::Judged(judgements))
}

fn judgement(requirement: &'static Requirement, expected: Expected, verdict: Verdict) -> Judgement {
    Judgement { requirement, expected, verdict, figures: vec![], gateway: None }
}

fn violated(actual: &str) -> Verdict {
    let excerpt = vec!["12.480s GET /api: refused".to_owned(), "12.530s GET /api: refused".to_owned()];
    Verdict::Violated { expected: "no failed request".to_owned(), actual: actual.to_owned(), excerpt }
}

fn inconclusive(why: &str) -> Verdict {
    Verdict::Inconclusive { why: why.to_owned() }
}

fn outage(value: f64) -> Vec<Figure> {
    vec![Figure { name: "worst outage".to_owned(), value, unit: "ms", of: None }]
}

/// One of everything that can be judged.
fn mixed() -> ScenarioReport {
    let mut report = judged(
        SCENARIO,
        vec![
            Judgement { figures: outage(0.0), ..judgement(&rollout::NO_OUTAGE_NEW, Expected::Upheld, Verdict::Upheld) },
            Judgement {
                figures: outage(1240.4),
                ..judgement(&rollout::NO_OUTAGE_REUSED, Expected::Upheld, violated("3 of 812 requests failed"))
            },
            judgement(&watch::FRESH, Expected::Upheld, inconclusive("we stalled for 812 ms")),
            judgement(&watch::GAPLESS, Expected::Violated, violated("revision 7 was never seen")),
            judgement(&watch::ORDERED, Expected::Violated, Verdict::Upheld),
        ],
    );
    report.recording = Some(PathBuf::from("/run/recordings/a.jsonl"));
    report.evidence = Some(PathBuf::from("/run/evidence/a"));
    report
}

struct Run {
    dir: RunDir,
    _folder: tempfile::TempDir,
}

fn run() -> Run {
    let folder = tempfile::tempdir().unwrap();
    Run { dir: RunDir::open(&folder.path().join("run")).unwrap(), _folder: folder }
}

/// A testcase as a reader of JUnit gets it.
#[derive(Debug, Default, PartialEq)]
struct Case {
    classname: String,
    name: String,
    /// Element, type and message; empty where it succeeded.
    result: (String, String, String),
    body: String,
    out: String,
}

fn attribute(element: &BytesStart<'_>, name: &str) -> String {
    let attribute = element.try_get_attribute(name).unwrap();
    attribute.map_or(String::new(), |it| it.normalized_value(XmlVersion::Explicit1_0).unwrap().into_owned())
}

/// Reads a file back: the suite's name and its testcases.
fn junit(path: &Path) -> (String, Vec<Case>) {
    let xml = fs::read_to_string(path).unwrap();
    let mut reader = quick_xml::Reader::from_str(&xml);
    let (mut suite, mut cases, mut open) = (String::new(), Vec::<Case>::new(), Vec::<String>::new());
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                let name = element.name().as_ref().to_owned();
                match name.as_str() {
                    "testsuites" => assert!(open.is_empty()),
                    "testsuite" => suite = attribute(element, "name"),
                    "testcase" => cases.push(Case {
                        classname: attribute(element, "classname"),
                        name: attribute(element, "name"),
                        ..Case::default()
                    }),
                    "failure" | "error" | "skipped" => {
                        let result = (name.clone(), attribute(element, "type"), attribute(element, "message"));
                        cases.last_mut().unwrap().result = result;
                    }
                    "system-out" | "properties" => {}
                    "property" => {
                        let property = (attribute(element, "name"), attribute(element, "value"));
                        assert_eq!(property, ("timeline".to_owned(), "timelines/a&b.svg".to_owned()));
                    }
                    other => panic!("unexpected <{other}>"),
                }
                if matches!(event, Event::Start(_)) {
                    open.push(name);
                }
            }
            Event::End(_) => {
                open.pop();
            }
            Event::CData(text) => match open.last().unwrap().as_str() {
                "system-out" => cases.last_mut().unwrap().out += text,
                _ => cases.last_mut().unwrap().body += text,
            },
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    (suite, cases)
}

fn written(report: &ScenarioReport) -> Vec<Case> {
    let run = run();
    report::write(&run.dir, report).unwrap();
    junit(&run.dir.junit(&report.scenario)).1
}

fn result(case: &Case) -> (&str, &str, &str) {
    (&case.result.0, &case.result.1, &case.result.2)
}

#[test]
fn junit_has_one_testcase_a_requirement() {
    let run = run();
    report::write(&run.dir, &mixed()).unwrap();
    let (suite, cases) = junit(&run.dir.junit(SCENARIO));

    assert_eq!(suite, "local/v1.37.2x2/builtin/http1/kube/pr");
    assert!(cases.iter().all(|case| case.name == SCENARIO));
    let classnames: Vec<_> = cases.iter().map(|case| case.classname.as_str()).collect();
    assert_eq!(classnames, ["ROLLOUT-1", "ROLLOUT-2", "WATCH-6", "WATCH-1", "WATCH-2"]);
    assert_eq!(result(&cases[0]), ("", "", ""));
    assert_eq!(cases[0].out, "worst outage 0 ms");
    assert_eq!(result(&cases[1]), ("failure", "violated", "3 of 812 requests failed"));
    for part in ["ROLLOUT-2 violated", "no failed request", "GET /api: refused", "/run/evidence/a", "remedy"] {
        assert!(cases[1].body.contains(part), "{part}: {}", cases[1].body);
    }
    assert_eq!(result(&cases[2]), ("error", "inconclusive", "we stalled for 812 ms"));
    assert_eq!(result(&cases[3]), ("", "", ""), "a control that found what it had to");
    assert!(cases[3].out.starts_with("expected: violated\nfound: violated\n"), "{}", cases[3].out);
    assert!(cases[3].out.contains("revision 7 was never seen"));
    assert_eq!((result(&cases[4]).0, result(&cases[4]).1), ("failure", "control"));
}

#[test]
fn without_a_verdict_every_requirement_has_the_error() {
    let both = [(&watch::GAPLESS, Expected::Upheld), (&watch::ORDERED, Expected::Violated)];
    for (outcome, element, kind, message) in [
        (Outcome::Lab("etcd ended".to_owned()), "error", "lab", "etcd ended"),
        (Outcome::Panicked("index out of bounds".to_owned()), "error", "panic", "index out of bounds"),
        (
            Outcome::Skipped { need: "server-logs".to_owned(), reason: "there are none".to_owned() },
            "skipped",
            "server-logs",
            "server-logs: there are none",
        ),
        (
            Outcome::Judged(vec![]),
            "error",
            "lab",
            "the scenario was to judge this, and no verdict came: a bug in the suite",
        ),
    ] {
        let cases = written(&scenario("s", &both, outcome.clone()));
        assert_eq!(cases.iter().map(|case| case.classname.as_str()).collect::<Vec<_>>(), ["WATCH-1", "WATCH-2"]);
        assert!(cases.iter().all(|case| result(case) == (element, kind, message)), "{cases:?}");

        let alone = written(&scenario("s", &[], outcome));
        assert_eq!(alone.len(), 1);
        assert_eq!((alone[0].classname.as_str(), result(&alone[0])), ("scenario", (element, kind, message)));
    }
}

#[test]
fn a_requirement_that_was_not_judged_is_an_error() {
    let by = [(&watch::GAPLESS, Expected::Upheld), (&watch::ORDERED, Expected::Upheld)];
    let outcome = Outcome::Judged(vec![judgement(&watch::GAPLESS, Expected::Upheld, Verdict::Upheld)]);
    let report = scenario("s", &by, outcome);
    let cases = written(&report);
    assert_eq!(result(&cases[0]), ("", "", ""));
    assert_eq!((result(&cases[1]).0, result(&cases[1]).1), ("error", "lab"));
    assert!(report.verdict_text().is_err());
}

#[test]
fn hostile_text_survives_in_every_place() {
    let nasty = "a]]>b ]]]]>> <![CDATA[ &amp; <x y='\"'> \u{1b}[31m\0\u{7}\r\n\u{85}\u{fffe}\u{ffff} \u{202e}🦀 é";
    let mut report = judged(nasty, vec![judgement(&watch::GAPLESS, Expected::Upheld, violated(nasty))]);
    report.cell.balancer = format!("command:{nasty}");
    report.recording = Some(PathBuf::from(format!("/{nasty}")));
    let run = run();
    report::write(&run.dir, &report).unwrap();

    let (_, cases) = junit(&run.dir.junit(nasty));
    let escaped = r#"a]]>b ]]]]>> <![CDATA[ &amp; <x y='"'> \u{1b}[31m\0\u{7}"#;
    assert!(cases[0].body.contains(escaped), "{}", cases[0].body);
    assert!(result(&cases[0]).2.starts_with(escaped), "{:?}", cases[0].result);
    assert!(cases[0].body.contains("🦀 é"));
    let raw = |text: &str| text.contains(|char: char| char.is_control() && char != '\n');
    let text = report.verdict_text().unwrap_err();
    let table = anstream::adapter::strip_str(&closing_table(&closing_rows(&report), 80)).to_string();
    assert!(!raw(&cases[0].body) && !raw(&text) && !raw(&table), "{text}\n{table}");
    assert_eq!(verdicts(&run.dir)[0].scenario, nasty, "JSON has an escape for everything");
}

#[test]
fn a_megabyte_of_text_is_kept_whole_and_cut_in_one_line() {
    let long = "é".repeat(1 << 19);
    let report = judged("long", vec![judgement(&watch::GAPLESS, Expected::Upheld, violated(&long))]);
    let case = &written(&report)[0];
    assert!(case.body.contains(&long));
    assert_eq!(case.result.2.chars().count(), 300);
    assert!(case.result.2.ends_with('…'));
}

fn verdicts(run: &RunDir) -> Vec<Line<'static>> {
    let text = fs::read_to_string(run.path().join("verdicts.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn verdicts_are_one_object_a_line() {
    let run = run();
    let mut report = mixed();
    report.recording = Some(run.dir.recording(SCENARIO));
    report::write(&run.dir, &report).unwrap();
    report::write(&run.dir, &scenario("other", &[], Outcome::Lab("x\ny".to_owned()))).unwrap();

    let lines = verdicts(&run.dir);
    let short: Vec<_> = lines.iter().map(|it| (&*it.requirement, &*it.verdict, it.expected, it.passed)).collect();
    assert_eq!(
        short,
        [
            ("ROLLOUT-1", "upheld", Expected::Upheld, true),
            ("ROLLOUT-2", "violated", Expected::Upheld, false),
            ("WATCH-6", "inconclusive", Expected::Upheld, false),
            ("WATCH-1", "violated", Expected::Violated, true),
            ("WATCH-2", "upheld", Expected::Violated, false),
            ("scenario", "error", Expected::Upheld, false),
        ]
    );
    assert_eq!(lines[5].reason.as_deref(), Some("x y"));

    let text = fs::read_to_string(run.dir.path().join("verdicts.jsonl")).unwrap();
    assert_eq!(
        text.lines().nth(1).unwrap(),
        "{\"requirement\":\"ROLLOUT-2\",\"level\":\"MUST\",\"cell\":\"local/v1.37.2x2/builtin/http1/kube/pr\",\
         \"scenario\":\"rollout::nothing_is_lost::case_1_gracefully\",\"verdict\":\"violated\",\"expected\":\"upheld\",\
         \"passed\":false,\"reason\":\"3 of 812 requests failed\",\
         \"figures\":{\"worst outage\":{\"value\":1240.4,\"unit\":\"ms\"}},\
         \"recording\":\"recordings/rollout.nothing_is_lost.case_1_gracefully.jsonl\"}"
    );
}

#[test]
fn a_figure_that_is_no_number_is_null() {
    let run = run();
    let mut report = mixed();
    if let Outcome::Judged(judgements) = &mut report.outcome {
        judgements[0].figures = outage(f64::INFINITY);
    }
    report::write(&run.dir, &report).unwrap();
    assert_eq!(verdicts(&run.dir)[0].figures["worst outage"].value, None);
}

#[test]
fn a_failure_says_what_was_expected_seen_and_what_to_do() {
    let mut report = mixed();
    if let Outcome::Judged(judgements) = &mut report.outcome {
        judgements.truncate(2);
    }
    report.judged_by.truncate(2);
    let text = report.verdict_text().unwrap_err();
    let requirement = &rollout::NO_OUTAGE_REUSED;
    let expected = format!(
        "1 of 2 requirements are not as expected

ROLLOUT-2 violated (MUST: no outage, reused connections)
  cell       local/v1.37.2x2/builtin/http1/kube/pr
  sentence   {}
  expected   no failed request
  actual     3 of 812 requests failed
  seen       12.480s GET /api: refused
             12.530s GET /api: refused
  figure     worst outage 1240 ms
  recording  /run/recordings/a.jsonl
  evidence   /run/evidence/a
  remedy     {}",
        requirement.sentence, requirement.remedy
    );
    assert_eq!(text, expected);
}

#[test]
fn only_failures_and_errors_fail_the_test() {
    let fails = |report: ScenarioReport| report.verdict_text().is_err();
    let one = |expected, verdict| judged("s", vec![judgement(&watch::GAPLESS, expected, verdict)]);
    assert!(!fails(one(Expected::Upheld, Verdict::Upheld)));
    assert!(!fails(one(Expected::Violated, violated("x"))));
    assert!(!fails(scenario("s", &[], Outcome::Skipped { need: "n".to_owned(), reason: "r".to_owned() })));
    assert!(fails(one(Expected::Upheld, violated("x"))));
    assert!(fails(one(Expected::Violated, Verdict::Upheld)));
    assert!(fails(one(Expected::Upheld, inconclusive("x"))));
    assert!(fails(one(Expected::Violated, inconclusive("x"))));
    assert!(fails(scenario("s", &[], Outcome::Lab("x".to_owned()))));
    assert!(fails(scenario("s", &[], Outcome::Panicked("x".to_owned()))));
    assert!(fails(scenario("s", &[], Outcome::Judged(vec![]))));
}

#[test]
fn the_closing_table_fits_eighty_columns() {
    let skipped = Outcome::Skipped { need: "server-logs".to_owned(), reason: "no logs".to_owned() };
    let mut rows = closing_rows(&mixed());
    rows.extend(closing_rows(&scenario("a::later", &[(&rollout::SIGNAL_ORDER, Expected::Upheld)], skipped)));
    let coloured = closing_table(&rows, 80);
    assert!(coloured.contains("\n \u{1b}[31mFAIL\u{1b}[0m"), "{coloured}");

    let plain = anstream::adapter::strip_str(&coloured).to_string();
    let expected = "
a::later
 skip  server-logs: no logs

rollout::nothing_is_lost::case_1_gracefully
 ok    ROLLOUT-1  no outage, new       upheld               worst outage 0 ms
                  connections
 FAIL  ROLLOUT-2  no outage, reused    violated             worst outage 1240
                  connections                               ms
 ??    WATCH-6    fresh                inconclusive         we stalled for 812
                                                            ms
 ok    WATCH-1    gapless              violated (expected)
 FAIL  WATCH-2    ordered              upheld (expected:
                                       violated)
  see /run/recordings/a.jsonl

1 upheld, 1 violated as expected, 1 violated, 1 not found by a control, 1 inconclusive, 1 skipped
";
    assert_eq!(plain, expected, "\n{plain}");
    let (table, _) = plain.rsplit_once("\n\n").unwrap();
    assert!(table.lines().all(|line| line.chars().count() <= 80));
    for width in [0, 1, 40, 41, 60, 200, u16::MAX] {
        assert!(closing_table(&rows, width).contains("ROLLOUT-2"), "{width}");
    }
    assert_eq!(closing_table(&[], 80), "");
}
