//! What stands beside the verdicts: the drawing, and what failed.

use std::collections::BTreeMap;

use rollproof::report::Errors;
use rollproof::timeline::Symptom;

use super::*;

fn errors(symptom: Symptom, excused: bool, probe: &str) -> Errors {
    Errors {
        symptom,
        excused,
        server: Some("apiserver-1".to_owned()),
        stage: Some("HTTPServerStoppedListening".to_owned()),
        accepted: "never".to_owned(),
        first: Duration::from_millis(9112),
        last: Duration::from_millis(9310),
        probes: BTreeMap::from([(probe.to_owned(), 3), ("kube-rs".to_owned(), 1)]),
    }
}

fn with_errors(report: ScenarioReport) -> ScenarioReport {
    let errors = vec![
        errors(Symptom::ConnectionRefused, false, "requester-new-http2"),
        errors(Symptom::UnexpectedEof, true, "requester-reused"),
    ];
    ScenarioReport { errors, ..report }
}

fn table(report: &ScenarioReport) -> String {
    anstream::adapter::strip_str(&closing_table(&closing_rows(report), 80)).to_string()
}

#[test]
fn junit_and_closing_table_point_at_the_drawing() {
    let run = run();
    let mut report = mixed();
    report.timeline = Some(run.dir.path().join("timelines/a&b.svg"));
    report::write(&run.dir, &report).unwrap();
    let (_, cases) = junit(&run.dir.junit(SCENARIO));
    assert_eq!(cases.len(), 5);
    let xml = fs::read_to_string(run.dir.junit(SCENARIO)).unwrap();
    assert_eq!(xml.matches("<properties>").count(), 1, "{xml}");
    assert!(xml.contains(r#"<property name="timeline" value="timelines/a&amp;b.svg"/>"#), "{xml}");
    assert!(table(&report).contains("/timelines/a&b.svg\n"), "{}", table(&report));
    assert!(report.verdict_text().unwrap_err().contains("\n  timeline   "));
}

#[test]
fn a_violation_shows_what_failed_beside_the_life_of_the_apiserver() {
    let report = with_errors(mixed());
    let table = table(&report);
    let expected = "
  failed, and the apiserver it was on or meant for
 connection refused x4  +9.112s to +9.310s, apiserver-1:
                        HTTPServerStoppedListening, accepted: never (kube-rs
                        x1, requester-new-http2 x3)
  4 failed samples: connection refused x4; excused: unexpected EOF x4
  see ";
    assert!(table.contains(expected), "{table}");
    let text = report.verdict_text().unwrap_err();
    assert!(
        text.contains(
            "
  failed     connection refused x4 +9.112s to +9.310s, apiserver-1: HTTPServerStoppedListening, accepted: never \
             (kube-rs x1, requester-new-http2 x3)
             unexpected EOF x4 "
        ),
        "{text}"
    );
}

#[test]
fn where_nothing_is_violated_a_line_says_what_failed() {
    let upheld = judgement(&watch::GAPLESS, Expected::Upheld, Verdict::Upheld);
    let report = with_errors(judged("a::calm", vec![upheld]));
    let expected = "
a::calm
 ok  WATCH-1  gapless  upheld
  4 failed samples: connection refused x4; excused: unexpected EOF x4

1 upheld
";
    assert_eq!(table(&report), expected);
}
