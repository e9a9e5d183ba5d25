//! Audit logs: which of our requests reached which apiserver, and how far they came there; and whether a log is whole, without which its
//! silence says nothing.
//!
//! An audit event carries the Audit-ID header of its request (k8s.io/apiserver `pkg/endpoints/filters/audit_init.go`), so
//! what a probe saw can be laid beside what the server did.
//!
//! ```text
//! 812 events, 40 of them of 20 requests of ours  ->  20 requests; 812 events, 0 unreadable
//! the server was killed in the middle of a line  ->  1 unreadable, whether or not the next one goes on in that line
//! audit-2026-11-30T14-37-16.123.log beside it    ->  partial: the apiserver has begun another file (lumberjack)
//! a policy with `omitStages: [RequestReceived]`  ->  omitted stages: RequestReceived
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::timeline::{AuditLogRead, Audited};

/// Metadata of every request, all stages: RequestReceived is what proves that a request was in flight.
pub const POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","rules":[{"level":"Metadata"}]}"#;

/// The part of an audit event that we read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    response_status: Option<ResponseStatus>,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: Option<u16>,
}

/// The part of a policy that says what is left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    #[serde(default)]
    omit_stages: BTreeSet<String>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    omit_stages: BTreeSet<String>,
}

/// Reads `server`'s audit log, written by [`POLICY`]: how it was to be read, and what it says about the requests in `ours`.
///
/// # Errors
/// The log cannot be read.
pub fn read(server: &str, log: &Path, ours: &BTreeSet<String>) -> anyhow::Result<(AuditLogRead, Vec<Audited>)> {
    let cannot_read = || format!("cannot read the audit log {}", log.display());
    let file = std::fs::File::open(log).with_context(cannot_read)?;
    let mut found: BTreeMap<String, Audited> = BTreeMap::new();
    let (mut events, mut unreadable) = (0, 0);
    for line in std::io::BufReader::new(file).split(b'\n') {
        let Ok(event) = serde_json::from_slice::<AuditEvent>(&line.with_context(cannot_read)?) else {
            unreadable += 1;
            continue;
        };
        events += 1;
        if !ours.contains(&event.audit_id) {
            continue;
        }
        let audited = found.entry(event.audit_id.clone()).or_insert_with(|| Audited {
            server: server.to_owned(),
            audit_id: event.audit_id,
            stages: Vec::new(),
            status: None,
        });
        audited.stages.push(event.stage);
        audited.status = event.response_status.and_then(|status| status.code).or(audited.status);
    }
    let read = AuditLogRead {
        server: server.to_owned(),
        events,
        unreadable,
        partial: rotated(log).with_context(cannot_read)?,
        omitted_stages: omitted_stages(POLICY)?,
    };
    Ok((read, found.into_values().collect()))
}

/// The stages that a policy leaves out, for everybody or by some rule.
///
/// # Errors
/// It is no policy.
pub fn omitted_stages(policy: &str) -> anyhow::Result<Vec<String>> {
    let Policy { omit_stages, rules } = serde_saphyr::from_str(policy).context("the audit policy is none")?;
    let all: BTreeSet<String> = rules.into_iter().flat_map(|rule| rule.omit_stages).chain(omit_stages).collect();
    Ok(all.into_iter().collect())
}

/// Whether an older part of a log lies beside it: `audit-TIME.log`, or compressed, beside `audit.log`.
fn rotated(log: &Path) -> std::io::Result<bool> {
    let name = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (before, after) = (name(log.file_stem()) + "-", ".".to_owned() + &name(log.extension()));
    let folder = log.parent().unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(folder)? {
        let other = entry?.file_name().to_string_lossy().into_owned();
        if other.starts_with(&before) && other.trim_end_matches(".gz").ends_with(&after) {
            return Ok(true);
        }
    }
    Ok(false)
}
