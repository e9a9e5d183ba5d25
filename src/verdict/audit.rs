//! What audit logs say of a request, and whether their silence says anything.
//!
//! That no log has a request proves that no apiserver received it only where the logs are known to be complete: RequestReceived is logged, at
//! once and for everybody, nothing was lost by rotation or copying, and every answer that a probe got has its line. The refusals of a stopping
//! apiserver are the exception: these filters stand outside the audit filter (k8s.io/apiserver pkg/server/config.go, DefaultBuildHandlerChain).
//!
//! ```text
//! request 7 is in the log of apiserver-0                                        ->  received
//! request 7 is in no log; each answer of apiserver-0 and -1 is in theirs        ->  not received
//! request 7 is in no log; nor is request 6, which apiserver-0 answered          ->  unknown
//! request 7 is in no log; those of others have ResponseComplete only            ->  unknown: RequestReceived is not logged
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::timeline::{Audited, Event, Exchange, Recording};

/// Whether an apiserver has received a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Its log has it.
    Yes,
    /// Every log that would have it is complete, and has not.
    No,
    /// A log that would have it is not known to be complete, for that reason.
    Unknown(String),
}

/// The audit logs of a recording.
pub(super) struct AuditLogs<'a> {
    /// By Audit-ID: the apiserver whose log has the request.
    lines: HashMap<&'a str, &'a str>,
    /// Of each apiserver: why its log is not known to be complete, if so.
    flaws: BTreeMap<&'a str, Option<String>>,
}

impl<'a> AuditLogs<'a> {
    pub(super) fn of(recording: &'a Recording) -> Self {
        let mut lines: Vec<&Audited> = Vec::new();
        let mut reads = BTreeMap::new();
        for seen in &recording.observations {
            match &seen.event {
                Event::Audited(audited) => lines.push(audited),
                Event::AuditLog(read) => drop(reads.insert(read.server.as_str(), read)),
                _ => {}
            }
        }
        let mut logs: BTreeMap<&str, Log<'_>> = BTreeMap::new();
        for audited in &lines {
            let log = logs.entry(&audited.server).or_default();
            log.events += 1;
            // An answer 401 is logged by another filter, and begins with its end.
            let begins =
                audited.stages.first().is_some_and(|stage| stage == "RequestReceived") || audited.status == Some(401);
            log.unannounced += usize::from(!begins);
        }
        // Behind a proxy that repeats requests, several logs may have the same one.
        let logged: HashSet<(&str, &str)> =
            lines.iter().map(|audited| (audited.audit_id.as_str(), audited.server.as_str())).collect();
        for (exchange, server) in answered(recording) {
            if !logged.contains(&(exchange.audit_id.as_str(), server)) {
                logs.entry(server).or_default().missing.get_or_insert(&exchange.audit_id);
            }
        }
        let names = recording.header.servers.iter();
        let flaws = names.map(|server| {
            let name = server.name.as_str();
            let log = logs.remove(name).unwrap_or_default();
            // Format 1 does not tell how a log was read.
            let told = recording.header.format >= 2;
            let flaw = asynchronous(&server.flags).or_else(|| match reads.get(name) {
                None if told => Some("was not read".to_owned()),
                Some(read) if read.partial => Some("is there in part only".to_owned()),
                Some(read) if read.unreadable > 0 => Some(format!("has {} lines that are no events", read.unreadable)),
                Some(read) if read.omitted_stages.iter().any(|stage| stage == "RequestReceived") => {
                    Some("omits RequestReceived".to_owned())
                }
                _ => log.flaw(),
            });
            (name, flaw.map(|flaw| format!("the audit log of {name} {flaw}")))
        });
        let flaws = flaws.collect();
        let lines = lines.into_iter().map(|audited| (audited.audit_id.as_str(), audited.server.as_str())).collect();
        Self { lines, flaws }
    }

    /// The apiserver whose log has a request.
    pub(super) fn server_of(&self, audit_id: &str) -> Option<&'a str> {
        self.lines.get(audit_id).copied()
    }

    /// Whether an apiserver has received a request: the one that it was sent to, where that is known, or any.
    pub(super) fn received(&self, audit_id: &str, server: Option<&str>) -> Received {
        if self.lines.contains_key(audit_id) {
            return Received::Yes;
        }
        if audit_id.is_empty() {
            return Received::Unknown("a request has no Audit-ID".to_owned());
        }
        let mut could_have_it = self.flaws.iter().filter(|(name, _)| server.is_none_or(|server| server == **name));
        if could_have_it.clone().next().is_none() {
            return Received::Unknown("no apiserver is known whose audit log would have it".to_owned());
        }
        could_have_it.find_map(|(_, flaw)| flaw.clone()).map_or(Received::No, Received::Unknown)
    }
}

/// What is known of one log.
#[derive(Default)]
struct Log<'a> {
    /// Requests of ours that it has.
    events: usize,
    /// Of them, how many do not begin with RequestReceived.
    unannounced: usize,
    /// An answer of its apiserver that it lacks.
    missing: Option<&'a str>,
}

impl Log<'_> {
    fn flaw(&self) -> Option<String> {
        match self.missing {
            Some(id) => Some(format!("lacks {id}, which that apiserver answered")),
            None if self.events == 0 => Some("has nothing of ours".to_owned()),
            None if self.unannounced > 0 => Some("does not have RequestReceived of every request".to_owned()),
            None => None,
        }
    }
}

/// Why what an apiserver logs may be lost, by its flags: only the blocking modes write a line before the request goes on.
fn asynchronous(flags: &[String]) -> Option<String> {
    let mode = flags.iter().rev().find_map(|flag| flag.strip_prefix("--audit-log-mode="))?;
    (!mode.starts_with("blocking")).then(|| format!("is written in the mode {mode}"))
}

/// The exchanges that an apiserver answered, and which; but for refusals, of which a stopping one logs none.
fn answered(recording: &Recording) -> impl Iterator<Item = (&Exchange, &str)> {
    let exchanges = recording.observations.iter().flat_map(|seen| {
        let (last, before): (Option<&Exchange>, &[_]) = match &seen.event {
            Event::Request(request) => (Some(&request.exchange), &request.attempts),
            Event::Write(write) => (Some(&write.exchange), &[]),
            Event::Load(load) => (Some(&load.exchange), &[]),
            Event::Read(read) => (Some(&read.exchange), &[]),
            Event::GuardedUpdate(update) => (Some(&update.exchange), &[]),
            _ => (None, &[]),
        };
        // Format 1 looked for the last attempt only.
        let before = before.iter().filter(|_| recording.header.format >= 2).map(|attempt| &attempt.exchange);
        last.into_iter().chain(before)
    });
    let answered = exchanges.filter(|it| it.status.is_some() && !it.refused_for_now() && !it.audit_id.is_empty());
    answered.filter_map(|exchange| Some((exchange, exchange.server.as_deref()?)))
}
