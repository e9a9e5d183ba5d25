//! How a session ended: by us, with its apiserver, or before.
//!
//! An apiserver ends its sessions with its process, all within a few milliseconds (measured: 4 before to 3 after the end that its parent sees).
//! The parent may see it later than the clients do, so a session that is over a moment before that end leaves a doubt. The builtin balancer's
//! record takes it away: it says who ended the connection. Without it, what else that apiserver still sent afterwards does.
//!
//! ```text
//! process gone at 11, reset at 11.002                                                   ->  with its apiserver
//! process gone at 11, reset at 9.9                                                      ->  before
//! process gone at 11, reset at 10.6; the balancer's record: by the apiserver            ->  with its apiserver
//! process gone at 11, reset at 10.9; the balancer's record: by the balancer             ->  before
//! process gone at 11, reset at 10.1; the record has no connection that ended then       ->  before
//! process gone at 11, reset at 10.1, no record, another one had a line at 10.9          ->  before
//! process gone at 11, reset at 10.1, no record, and nothing came after it               ->  nobody knows
//! process gone at 11, reset at 10.8, no record                                          ->  with its apiserver
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::conclusive::Rests;
use super::facts::Facts;
use crate::timeline::{ErrorClass, Event, Moment, Party, Session, SessionEnd, Step};

/// A session that was open once, and its apiserver.
pub(super) struct Open<'a> {
    pub(super) asked: Moment,
    pub(super) session: &'a Session,
    pub(super) server: &'a str,
    /// When the process of its apiserver ended, if it did while the session was open or thereafter.
    pub(super) exited: Option<Moment>,
    pub(super) how: Ended,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// We closed it.
    Ours,
    /// With the process of its apiserver.
    WithServer,
    /// Before.
    Before,
    /// Nobody knows, for that reason.
    Unknown(String),
}

impl Open<'_> {
    /// When its apiserver ended it, if it did.
    pub(super) fn ended_by_server(&self) -> Option<Moment> {
        self.exited.filter(|_| self.how == Ended::WithServer)
    }

    /// How long after the end of its apiserver's process it was over, if that came first.
    pub(super) fn told_after(&self) -> Option<Duration> {
        let exited = self.exited.filter(|exited| *exited <= self.session.ended || self.how == Ended::WithServer)?;
        Some(self.session.ended.since(exited))
    }

    /// From when on a line was due that would have been the next.
    pub(super) fn due(&self) -> Moment {
        let last = self.session.last_line.unwrap_or(self.asked) + self.session.quiet.unwrap_or_default();
        last.min(self.session.ended)
    }

    /// What its end before its apiserver's rests on: who waits in vain waits for a time; and where the process ended so soon after it that only
    /// a stall can be why we saw that late, on that.
    pub(super) fn rests(&self, facts: &Facts<'_>) -> Rests {
        let ended = self.session.ended;
        let waited = match &self.session.end {
            SessionEnd::Silence => true,
            SessionEnd::Failed(failure) => failure.class == ErrorClass::Timeout,
            SessionEnd::Ours | SessionEnd::Clean => false,
        };
        if waited {
            return Rests::OnTime(self.due(), ended);
        }
        let late = self.exited.filter(|exited| {
            let stalled = facts.stalls.total(ended, *exited);
            let late = exited.since(ended);
            late > facts.bounds.close_noticed && late <= facts.bounds.close_noticed + stalled
        });
        late.map_or(Rests::OnRecord, |exited| Rests::OnTime(ended, exited))
    }
}

/// What tells how sessions ended.
pub(super) struct Witnesses<'a> {
    /// The ends of each apiserver's process, in order.
    exits: BTreeMap<&'a str, Vec<Moment>>,
    /// To each apiserver, as the builtin balancer wrote it down: when a connection was accepted, when it ended and by whom; in order.
    connections: BTreeMap<&'a str, Vec<(Moment, Moment, Party)>>,
    /// When sessions on each apiserver had their last lines, in order.
    lines: BTreeMap<&'a str, Vec<Moment>>,
}

impl<'a> Witnesses<'a> {
    pub(super) fn of(facts: &Facts<'a>, sessions: &[(Moment, &'a Session)]) -> Self {
        let (mut exits, mut connections): (BTreeMap<_, Vec<_>>, BTreeMap<_, Vec<_>>) = Default::default();
        for (at, step) in facts.lifecycle.iter().filter(|(_, step)| step.step == Step::Exited) {
            exits.entry(step.server.as_str()).or_default().push(*at);
        }
        for seen in &facts.recording.observations {
            let Event::Connection(connection) = &seen.event else { continue };
            let Some(server) = connection.backend.as_deref() else { continue };
            let story = (seen.at, seen.at + connection.lasted, connection.ended_by);
            connections.entry(server).or_default().push(story);
        }
        let mut lines: BTreeMap<&str, Vec<Moment>> = BTreeMap::new();
        for (_, session) in sessions {
            if let Some((server, line)) = facts.audit.server_of(&session.audit_id).zip(session.last_line) {
                lines.entry(server).or_default().push(line);
            }
        }
        lines.values_mut().for_each(|lines| lines.sort_unstable());
        Self { exits, connections, lines }
    }

    /// A session that was opened on this apiserver.
    pub(super) fn tell(&self, facts: &Facts<'_>, asked: Moment, session: &'a Session, server: &'a str) -> Open<'a> {
        let exits = self.exits.get(server).map(Vec::as_slice).unwrap_or_default();
        let exited = exits.get(exits.partition_point(|exited| *exited < asked)).copied();
        let how = self.ended(facts, asked, session, server, exited);
        Open { asked, session, server, exited, how }
    }

    fn ended(
        &self,
        facts: &Facts<'_>,
        asked: Moment,
        session: &Session,
        server: &str,
        exited: Option<Moment>,
    ) -> Ended {
        if session.end == SessionEnd::Ours {
            return Ended::Ours;
        }
        let Some(exited) = exited.filter(|exited| session.ended + facts.bounds.close_noticed >= *exited) else {
            return Ended::Before;
        };
        if session.ended >= exited {
            return Ended::WithServer;
        }
        let too_early = format!(
            "{} was over {:.3} s before the process of {server} ended",
            session.probe,
            exited.since(session.ended).as_secs_f64()
        );
        // Our own looking may be late by a stall that is none yet.
        let slack = facts.bounds.stall;
        let at_once = session.ended + slack >= exited;
        let recorded = !self.connections.is_empty();
        match self.ended_by(facts, asked, session, server) {
            Some(Party::Server) => return Ended::WithServer,
            Some(Party::Balancer) => return Ended::Before,
            _ if at_once => return Ended::WithServer,
            Some(Party::Client) => {
                return Ended::Unknown(format!("{too_early}, and by the balancer's record its client ended it"));
            }
            None if recorded => return Ended::Before,
            None => {}
        }
        let lines = self.lines.get(server).map(Vec::as_slice).unwrap_or_default();
        let later = lines.get(lines.partition_point(|line| *line <= session.ended + slack));
        match later {
            Some(line) if *line < exited => Ended::Before,
            _ => Ended::Unknown(format!("{too_early}: nobody knows who ended it")),
        }
    }

    /// Who ended its connection, by the balancer's record: of those that were accepted while it was opened, the one that ended at the same time.
    fn ended_by(&self, facts: &Facts<'_>, asked: Moment, session: &Session, server: &str) -> Option<Party> {
        let connections = self.connections.get(server)?;
        let first = connections.partition_point(|(accepted, ..)| *accepted < asked);
        let opened = asked + session.opened_after.unwrap_or_default();
        let meanwhile = connections[first..].iter().take_while(|(accepted, ..)| *accepted <= opened);
        // Clients hear of an end a moment later; where the other side has to end, too, a moment before it is written down.
        let (noticed, slack) = (facts.bounds.close_noticed, facts.bounds.stall);
        let same = meanwhile
            .filter(|(_, ended, _)| *ended + noticed >= session.ended && *ended <= session.ended + slack)
            .min_by_key(|(_, ended, _)| ended.since(session.ended).max(session.ended.since(*ended)));
        same.map(|(.., by)| *by)
    }
}
