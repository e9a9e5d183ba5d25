//! Audit logs: which of our requests reached which apiserver, and how far they came there.
//!
//! An audit event carries the Audit-ID header of its request (k8s.io/apiserver `pkg/endpoints/filters/audit_init.go`), so
//! what a probe saw can be laid beside what the server did.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::timeline::Audited;

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

/// Reads what `server`'s audit log says about the requests in `ours`.
///
/// # Errors
/// The log cannot be read. A last line that is cut off (the server was killed) is left out.
pub fn read(server: &str, log: &Path, ours: &BTreeSet<String>) -> anyhow::Result<Vec<Audited>> {
    let file = std::fs::File::open(log).with_context(|| format!("cannot read the audit log {}", log.display()))?;
    let mut found: BTreeMap<String, Audited> = BTreeMap::new();
    for line in std::io::BufReader::new(file).lines() {
        let line = line.with_context(|| format!("cannot read the audit log {}", log.display()))?;
        let Ok(event) = serde_json::from_str::<AuditEvent>(&line) else { continue };
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
    Ok(found.into_values().collect())
}
