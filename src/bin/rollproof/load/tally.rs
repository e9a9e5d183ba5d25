//! What became of a load's requests, in little memory: of a row of successes only the ends are kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{Table, presets};
use jiff::Timestamp;
use rollproof::timeline::{Load, LoadVerb, Moment, Outage, outages, repaired};
use rollproof::timing;

/// All workers so far.
pub(super) struct Tally {
    began: Moment,
    began_at: Timestamp,
    rows: BTreeMap<(&'static str, LoadVerb), Row>,
}

/// One verb of one group of workers.
#[derive(Default)]
struct Row {
    requests: u64,
    repaired: u64,
    classes: BTreeMap<String, u64>,
    /// Each worker's steps, without the successes between two others.
    steps: BTreeMap<String, Vec<(Moment, Load)>>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { began: Moment::now(), began_at: Timestamp::now(), rows: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, began: Moment, step: Load) {
        let group = if step.worker == "load-list" { "slow list" } else { "workers" };
        let row = self.rows.entry((group, step.verb)).or_default();
        row.requests += 1;
        if step.retries.is_some() && step.succeeded() {
            row.repaired += 1;
        }
        if !step.succeeded() {
            let class = match (&step.exchange.failure, step.exchange.status) {
                (Some(failure), _) => failure.class.to_string(),
                (None, status) => format!("status {}", status.unwrap_or_default()),
            };
            *row.classes.entry(class).or_default() += 1;
        }
        let steps = row.steps.entry(step.worker.clone()).or_default();
        let dull = |(_, step): &(Moment, Load)| step.succeeded() && step.retries.is_none();
        if dull(&(began, step.clone())) && steps.len() >= 2 && steps[steps.len() - 2..].iter().all(dull) {
            steps.pop();
        }
        steps.push((began, step));
    }

    pub(super) fn progress(&self) -> String {
        let requests: u64 = self.rows.values().map(|row| row.requests).sum();
        let failures: u64 = self.rows.values().flat_map(|row| row.classes.values()).sum();
        let repaired: u64 = self.rows.values().map(|row| row.repaired).sum();
        let seconds = Moment::now().since(self.began).as_secs_f64();
        format!("{seconds:.0} s: {requests} requests, {failures} failed, {repaired} of them repaired by one retry")
    }

    /// The table, and whether there was an outage.
    pub(super) fn table(&self) -> (String, bool) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["group", "verb", "requests", "failed", "repaired", "outages", "worst", "when"]);
        let mut any = false;
        for ((group, verb), row) in &self.rows {
            // Without the audit logs nobody knows what the servers received.
            let found = row.steps.values().map(|steps| {
                let repaired = repaired(steps.iter().map(|(_, step)| step), timing::CLOSE_NOTICED);
                outages(steps.iter().map(|(at, step)| (*at, step)), |step| {
                    repaired.contains(step.exchange.audit_id.as_str())
                })
            });
            let found: Vec<Outage<'_, Load>> = found.flatten().collect();
            any |= !found.is_empty();
            let worst = found.iter().max_by_key(|outage| outage.length());
            let classes: Vec<_> = row.classes.iter().map(|(class, count)| format!("{class} x{count}")).collect();
            table.add_row([
                (*group).to_owned(),
                verb.to_string(),
                row.requests.to_string(),
                if classes.is_empty() { "0".to_owned() } else { classes.join(", ") },
                row.repaired.to_string(),
                found.len().to_string(),
                worst.map_or_else(|| "-".to_owned(), length),
                worst.map_or_else(|| "-".to_owned(), |worst| self.when(worst)),
            ]);
        }
        let mut text = table.to_string();
        let summary = if any { "there were outages" } else { "no outage" };
        let _ = write!(text, "\n{summary}; a failure that one retry on a fresh connection repairs is none");
        let lost = |(_, step): &(Moment, Load)| {
            step.verb == LoadVerb::Create
                && step.exchange.met_a_closed_connection(timing::CLOSE_NOTICED)
                && !step.exchange.unsent
        };
        if self.rows.values().flat_map(|row| row.steps.values().flatten()).any(lost) {
            let _ = write!(
                text,
                "\na create that met a closed connection counts: it may have been executed, and must not be "
            );
            let _ = write!(text, "repeated (HTTP/1.1; with HTTP/2, GOAWAY tells)");
        }
        (text, any)
    }

    /// When an outage began, on the wall clock.
    fn when(&self, outage: &Outage<'_, Load>) -> String {
        let at = self.began_at + outage.from.since(self.began);
        at.strftime("%H:%M:%SZ").to_string()
    }
}

fn length(outage: &Outage<'_, Load>) -> String {
    let open = if outage.recovered { "" } else { " and not over" };
    format!("{:.3} s{open}", outage.length().as_secs_f64())
}
