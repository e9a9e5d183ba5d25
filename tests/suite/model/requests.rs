//! What the sentences about requests say, and about what was written: the other half of the oracle.

use std::collections::BTreeMap;

use rollproof::timeline::*;

use super::oracle::{Oracle, Said, acknowledged, broken};

impl Oracle<'_> {
    fn requests(&self, probe: &str) -> Vec<(Moment, &Request)> {
        let ours = self.recording.each(move |event| match event {
            Event::Request(request) => Some(request),
            _ => None,
        });
        ours.filter(|(_, request)| request.probe == probe).collect()
    }

    pub(super) fn new_ones_fail(&self) -> Said {
        if self.recording.header.disturbance == Some(Restart::Killed) {
            return Said::Open;
        }
        let requests = self.requests("requester-new");
        let failed = requests.iter().find(|(_, request)| !request.exchange.succeeded());
        broken(failed.map(|(at, _)| format!("one failed at {at}")))
    }

    pub(super) fn kept_ones_fail(&self) -> Said {
        if self.recording.header.disturbance == Some(Restart::Killed) {
            return Said::Open;
        }
        let requests = self.requests("requester-reused");
        let mut said = Said::Fine;
        let mut spent = Vec::new();
        for (at, request) in requests.iter().filter(|(_, request)| !request.exchange.succeeded()) {
            let exchange = &request.exchange;
            let id = exchange.audit_id.as_str();
            let repaired =
                requests.iter().any(|(_, retry)| retry.retries.as_deref() == Some(id) && retry.exchange.succeeded());
            let received = self
                .recording
                .observations
                .iter()
                .any(|seen| matches!(&seen.event, Event::Audited(line) if line.audit_id == id));
            let occasion = self.occasion(*at + exchange.took, exchange);
            match occasion {
                Some((server, sure)) if repaired && !received && !spent.contains(&server) => {
                    spent.push(server);
                    said = if sure { said } else { Said::Open };
                }
                _ => {
                    return Said::Broken(format!(
                        "{id} failed, {occasion:?}, repaired: {repaired}, received: {received}"
                    ));
                }
            }
        }
        said
    }

    /// The restart that excuses a failure on a kept connection, and whether that is beyond doubt: we may see steps a little late.
    fn occasion(&self, at: Moment, exchange: &Exchange) -> Option<(String, bool)> {
        let server = exchange.server.clone()?;
        let step = |wanted: Step| {
            let mut lives =
                self.recording.each(|event| if let Event::Lifecycle(life) = event { Some(life) } else { None });
            lives.find(|(_, life)| life.server == server && life.step == wanted).map(|(at, _)| at)
        };
        let (term, exit, delay) = (step(Step::TermSent)?, step(Step::Exited)?, step(Step::AfterShutdownDelayDuration)?);
        let bounds = &self.recording.header.bounds;
        if at < term || at > exit + bounds.close_noticed || !exchange.was_kept() || exchange.took > bounds.close_noticed
        {
            return None;
        }
        match &exchange.failure {
            Some(failure) => {
                let closed = [
                    ErrorClass::UnexpectedEof,
                    ErrorClass::ConnectionReset,
                    ErrorClass::BrokenPipe,
                    ErrorClass::Goaway,
                ];
                closed.contains(&failure.class).then_some((server, true))
            }
            None if exchange.refused_for_now() && at + bounds.stall >= delay => Some((server, at >= delay)),
            None => None,
        }
    }

    pub(super) fn ledger(&self) -> Said {
        let mut objects: BTreeMap<&str, Vec<&Load>> = BTreeMap::new();
        let mut left = Vec::new();
        for seen in &self.recording.observations {
            match &seen.event {
                Event::Load(load) => objects.entry(&load.object).or_default().push(load),
                Event::LoadLeft(all) => left.extend(all.objects.iter().map(|(_, object)| object.as_str())),
                _ => {}
            }
        }
        if let Some(stranger) = left.iter().find(|object| !objects.contains_key(*object)) {
            return Said::Broken(format!("{stranger} exists, and no create explains it"));
        }
        let wrong = objects.iter().find(|(object, steps)| !possible(steps).contains(&left.contains(*object)));
        broken(wrong.map(|(object, steps)| {
            let told: Vec<_> = steps.iter().map(|step| (step.verb, step.exchange.status)).collect();
            format!("{object}, exists: {}, told {told:?}", left.contains(object))
        }))
    }

    pub(super) fn misread(&self) -> Option<String> {
        let reads = self.recording.each(|event| if let Event::Read(read) = event { Some(read) } else { None });
        for (at, read) in reads.filter(|(_, read)| read.exchange.succeeded()) {
            for write in self.writes.iter().filter(|write| acknowledged(write).is_some_and(|told| told < at)) {
                let shown =
                    read.objects.iter().find(|(object, _)| *object == write.1.object).map(|(_, change)| *change);
                let deleted =
                    self.delete_of(&write.1.object).is_some_and(|(began, _)| *began <= at + read.exchange.took);
                let fine = match (write.1.verb, shown) {
                    (Verb::Delete, shown) => shown.is_none(),
                    (_, None) => deleted,
                    (_, Some(shown)) => shown >= write.1.change || self.maybe(&write.1.object, shown),
                };
                if !fine {
                    return Some(format!(
                        "a read at {at} does not have change {} of {}",
                        write.1.change, write.1.object
                    ));
                }
            }
        }
        None
    }

    pub(super) fn update_lost(&self) -> Option<String> {
        let updates =
            self.recording.each(|event| if let Event::GuardedUpdate(update) = event { Some(update) } else { None });
        let told: Vec<_> = updates.map(|(_, update)| update).filter(|update| update.exchange.succeeded()).collect();
        for (place, one) in told.iter().enumerate() {
            if let Some(other) =
                told[..place].iter().find(|other| other.replaces == one.replaces || other.count == one.count)
            {
                return Some(format!("{} and {} replace the same", one.count, other.count));
            }
        }
        let left =
            self.recording.each(|event| if let Event::GuardedLeft(left) = event { Some(left) } else { None }).next();
        let (_, left) = left?;
        let more = told
            .iter()
            .find(|update| update.count > left.count || update.revision.is_some_and(|it| it > left.revision));
        more.map(|update| format!("{} was acknowledged, and {} is left", update.count, left.count))
    }
}

/// Whether an object may exist at the end, after all that its worker was told: every step that was lost may have happened, or not, at any
/// time after it was sent.
fn possible(steps: &[&Load]) -> Vec<bool> {
    let steps: Vec<_> = steps.iter().filter(|step| matches!(step.verb, LoadVerb::Create | LoadVerb::Delete)).collect();
    // (exists, lost creates and deletes that may still happen)
    let mut worlds = vec![(false, 0, 0)];
    for step in steps {
        let effect = step.exchange.effect();
        let mut next = Vec::new();
        for (exists, creates, deletes) in worlds.into_iter().flat_map(happened) {
            match (step.verb, effect, step.exchange.status) {
                (LoadVerb::Create, Effect::Certain, _) => next.extend((!exists).then_some((true, creates, deletes))),
                (LoadVerb::Delete, Effect::Certain, _) => next.extend(exists.then_some((false, creates, deletes))),
                (LoadVerb::Delete, _, Some(404)) => next.extend((!exists).then_some((false, creates, deletes))),
                (_, Effect::Never, _) => next.push((exists, creates, deletes)),
                (LoadVerb::Create, ..) => next.push((exists, creates + 1, deletes)),
                _ => next.push((exists, creates, deletes + 1)),
            }
        }
        worlds = next;
    }
    worlds.into_iter().flat_map(happened).map(|(exists, ..)| exists).collect()
}

/// The worlds to which one may come by what was sent and not answered.
fn happened(world: (bool, u8, u8)) -> Vec<(bool, u8, u8)> {
    let (mut all, mut place) = (vec![world], 0);
    while let Some((_, creates, deletes)) = all.get(place).copied() {
        let created = (creates > 0).then(|| (true, creates - 1, deletes));
        let deleted = (deletes > 0).then(|| (false, creates, deletes - 1));
        for next in created.into_iter().chain(deleted) {
            if !all.contains(&next) {
                all.push(next);
            }
        }
        place += 1;
    }
    all
}
