//! Audit logs as apiservers write them: what is read of them, and whether they are whole.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rollproof::lab::control_plane::audit::{POLICY, omitted_stages, read};
use rollproof::timeline::{AuditLogRead, Audited};
use rstest::rstest;
use tempfile::TempDir;

/// A line, as a kube-apiserver writes it; shortened.
fn line(id: &str, stage: &str, status: Option<u16>) -> String {
    let status = status.map_or(String::new(), |code| format!(r#","responseStatus":{{"metadata":{{}},"code":{code}}}"#));
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{id}","stage":"{stage}","verb":"get"{status}}}"#
    ) + "\n"
}

fn written(lines: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    std::fs::write(&log, lines).unwrap();
    (folder, log)
}

fn ours() -> BTreeSet<String> {
    ["ours-1", "ours-2"].map(str::to_owned).into()
}

fn whole(events: u64) -> AuditLogRead {
    AuditLogRead { server: "apiserver-0".into(), events, unreadable: 0, partial: false, omitted_stages: Vec::new() }
}

#[test]
fn all_events_are_counted_and_those_of_our_requests_are_told() {
    let lines = [
        line("ours-1", "RequestReceived", None),
        line("theirs", "RequestReceived", None),
        line("ours-1", "ResponseComplete", Some(200)),
        line("theirs", "ResponseComplete", Some(404)),
    ];
    let (_folder, log) = written(lines.concat().as_bytes());
    let (how, audited) = read("apiserver-0", &log, &ours()).unwrap();
    assert_eq!(how, whole(4));
    let stages = ["RequestReceived", "ResponseComplete"].map(str::to_owned).into();
    let (server, audit_id) = ("apiserver-0".to_owned(), "ours-1".to_owned());
    assert_eq!(audited, [Audited { server, audit_id, stages, status: Some(200) }]);
}

#[test]
fn a_log_with_nothing_of_ours_was_read_all_the_same() {
    for (lines, events) in [(String::new(), 0), (line("theirs", "RequestReceived", None), 1)] {
        let (_folder, log) = written(lines.as_bytes());
        assert_eq!(read("apiserver-0", &log, &ours()).unwrap(), (whole(events), Vec::new()));
    }
}

/// What a log of an apiserver that was killed may look like.
#[rstest]
#[case::cut_in_the_middle(line("ours-2", "ResponseComplete", Some(200))[..60].to_owned(), 1, 1)]
#[case::cut_in_the_middle_of_a_letter(&[b'{', b'"', 0xc3], 1, 1)]
#[case::cut_at_the_very_end(line("ours-2", "ResponseComplete", Some(200)).trim_end().to_owned(), 2, 0)]
#[case::gone_on_with_in_the_same_line([&line("a", "Panic", None)[..20], &line("b", "Panic", None)].concat(), 1, 1)]
#[case::another_log("I1130 14:37:16 no audit event\n{\"kind\":\"Pod\"}\n", 1, 2)]
fn lines_that_are_no_events_are_counted(#[case] torn: impl AsRef<[u8]>, #[case] events: u64, #[case] unreadable: u64) {
    let lines = [line("ours-1", "RequestReceived", None).as_bytes(), torn.as_ref()].concat();
    let (_folder, log) = written(&lines);
    let (how, audited) = read("apiserver-0", &log, &ours()).unwrap();
    assert_eq!(how, AuditLogRead { unreadable, ..whole(events) });
    assert_eq!(audited[0].audit_id, "ours-1");
}

#[rstest]
#[case("audit-2026-11-30T14-37-16.123.log", true)]
#[case("audit-2026-11-30T14-37-16.123.log.gz", true)]
#[case("audit-policy.json", false)]
#[case("kube-apiserver.log", false)]
fn a_log_beside_which_an_older_part_lies_is_partial(#[case] beside: &str, #[case] partial: bool) {
    let (folder, log) = written(b"");
    std::fs::write(folder.path().join(beside), "").unwrap();
    let (how, _) = read("apiserver-0", &log, &ours()).unwrap();
    assert_eq!(how, AuditLogRead { partial, ..whole(0) });
}

#[test]
fn what_cannot_be_read_is_one_clear_error() {
    let error = read("apiserver-0", "/nonexistent/audit.log".as_ref(), &ours()).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "cannot read the audit log /nonexistent/audit.log: No such file or directory (os error 2)"
    );
}

#[rstest]
#[case::ours(POLICY, &[])]
#[case::for_everybody("omitStages: [RequestReceived]\nrules: [{level: Metadata}]", &["RequestReceived"])]
#[case::by_a_rule(
    "rules:\n- {level: Metadata, users: [me], omitStages: [ResponseStarted, RequestReceived]}\n- level: Metadata",
    &["RequestReceived", "ResponseStarted"],
)]
fn a_policy_says_what_it_leaves_out(#[case] policy: &str, #[case] omitted: &[&str]) {
    assert_eq!(omitted_stages(policy).unwrap(), omitted);
}
