//! JUnit: one file a scenario, one testcase a requirement.
//!
//! | found | element |
//! | --- | --- |
//! | as expected | none; in a control, `system-out` says what was expected and found |
//! | violated | `<failure type="violated">` |
//! | a control upheld | `<failure type="control">` |
//! | inconclusive | `<error type="inconclusive">` |
//! | broken lab | `<error type="lab">` |
//! | panicking body | `<error type="panic">` |
//! | unmet need | `<skipped>` |

use anyhow::{Context as _, bail, ensure};
use junit_report::{ReportBuilder, TestCase, TestCaseBuilder, TestSuiteBuilder};
use quick_xml::XmlVersion;
use quick_xml::events::Event;

use super::clean::{one_line, printable};
use super::finding::{Finding, Kind};
use super::text::shown;
use super::{Outcome, RunDir, ScenarioReport};
use crate::timeline::Expected;

/// Writes a scenario's file. What would not parse is not written.
///
/// # Errors
/// The file cannot be written, is already there, or would not be what it should.
pub(super) fn write(run: &RunDir, report: &ScenarioReport, findings: &[Finding<'_>]) -> anyhow::Result<()> {
    let path = run.junit(&report.scenario);
    let xml = render(run, report, findings)
        .and_then(|xml| check(&xml, findings).map(|()| xml))
        .with_context(|| format!("cannot write {}: a bug in the suite", path.display()))?;
    RunDir::write_whole(&path, xml.as_bytes())
}

fn render(run: &RunDir, report: &ScenarioReport, findings: &[Finding<'_>]) -> anyhow::Result<String> {
    let suite = TestSuiteBuilder::new(&one_line(&report.cell.to_string(), usize::MAX))
        .set_timestamp(report.began.into())
        .add_testcases(findings.iter().map(|finding| testcase(report, finding, findings.len())))
        .build();
    let mut xml = Vec::new();
    ReportBuilder::new().add_testsuite(suite).build().write_xml(&mut xml).context("junit-report")?;
    let xml = String::from_utf8(xml)?;
    match &report.timeline {
        Some(timeline) => with_property(&xml, "timeline", &one_line(&run.relative(timeline), usize::MAX)),
        None => Ok(xml),
    }
}

/// Adds a property to the suite, which junit-report cannot.
fn with_property(xml: &str, name: &str, value: &str) -> anyhow::Result<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut writer = quick_xml::Writer::new(Vec::new());
    loop {
        let event = reader.read_event()?;
        let begins = matches!(&event, Event::Start(element) if element.name().as_ref() == "testsuite");
        if matches!(event, Event::Eof) {
            return Ok(String::from_utf8(writer.into_inner())?);
        }
        writer.write_event(event)?;
        if begins {
            writer.create_element("properties").write_inner_content(|properties| {
                let property = properties.create_element("property");
                property.with_attributes([("name", name), ("value", value)]).write_empty().map(drop)
            })?;
        }
    }
}

fn testcase(report: &ScenarioReport, finding: &Finding<'_>, of: usize) -> TestCase {
    let name = one_line(&report.scenario, usize::MAX);
    let name = finding.gateway.map_or(name.clone(), |gateway| format!("{name} ({gateway})"));
    // The requirements of a scenario share its time, so that the suite's sum is the truth.
    let took = time::Duration::try_from(report.took).unwrap_or_default() / i32::try_from(of).unwrap_or(i32::MAX);
    let message = &finding.reason;
    let mut case = match (finding.kind, &report.outcome) {
        _ if finding.passed => TestCaseBuilder::success(&name, took),
        (Kind::Skipped, Outcome::Skipped { need, .. }) => {
            TestCaseBuilder::skipped_with_cause(&name, &one_line(need, usize::MAX), message)
        }
        (Kind::Skipped, _) => TestCaseBuilder::skipped_with_cause(&name, "need", message),
        (Kind::Violated, _) => TestCaseBuilder::failure(&name, took, "violated", message),
        (Kind::Upheld, _) => TestCaseBuilder::failure(&name, took, "control", message),
        (Kind::Inconclusive, _) => TestCaseBuilder::error(&name, took, "inconclusive", message),
        (Kind::Lab, _) => TestCaseBuilder::error(&name, took, "lab", message),
        (Kind::Panic, _) => TestCaseBuilder::error(&name, took, "panic", message),
    };
    case.set_classname(&one_line(finding.id, usize::MAX)).set_trace(&cdata(&finding.text));
    let out = system_out(finding);
    if !out.is_empty() {
        case.set_system_out(&cdata(&out));
    }
    case.build()
}

/// What a green testcase has to say: the figures, and of a control what it found.
fn system_out(finding: &Finding<'_>) -> String {
    let mut lines: Vec<String> = finding.figures.iter().map(shown).collect();
    if finding.expected == Expected::Violated {
        lines.insert(0, format!("expected: violated\nfound: {}", finding.kind.word()));
        if finding.passed {
            lines.push(finding.text.clone());
        }
    }
    lines.join("\n")
}

/// Text for a CDATA section, which junit-report writes as it is. `]]>` would end it: it is cut in two sections, so that a
/// reader gets it back whole.
fn cdata(text: &str) -> String {
    printable(text).replace("]]>", "]]]]><![CDATA[>")
}

/// Reads back what is to be written: well-formed, only characters that XML has, and every testcase there.
fn check(xml: &str, findings: &[Finding<'_>]) -> anyhow::Result<()> {
    let legal = |text: &str| printable(text) == text;
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut depth, mut classnames) = (0_usize, Vec::new());
    loop {
        let event = reader.read_event().with_context(|| format!("byte {}", reader.error_position()))?;
        let at = reader.buffer_position();
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                depth += usize::from(matches!(event, Event::Start(_)));
                for attribute in element.attributes() {
                    let attribute = attribute.with_context(|| format!("attribute before byte {at}"))?;
                    let value = attribute.normalized_value(XmlVersion::Explicit1_0)?;
                    ensure!(legal(&value), "a control character in an attribute before byte {at}");
                    if element.name().as_ref() == "testcase" && attribute.key.as_ref() == "classname" {
                        classnames.push(value.into_owned());
                    }
                }
            }
            Event::End(_) => depth -= 1,
            Event::Eof if depth == 0 => break,
            Event::Eof => bail!("{depth} elements are not closed"),
            _ => {}
        }
    }
    ensure!(legal(xml), "a control character in the text");
    let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    ensure!(classnames == ids, "testcases {classnames:?} instead of {ids:?}");
    Ok(())
}
