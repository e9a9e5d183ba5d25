//! Whether an apiserver that was lost silently, or frozen, really fell silent.
//!
//! That packets were to be lost proves nothing: a rule may not match. A loss has bitten if somebody waited for that apiserver in vain, and
//! nothing of it came meanwhile by the way that was broken. What was on the wire before the loss may still arrive a moment later, and what comes
//! just before it is over may be the first that passes again.
//!
//! ```text
//! lost from 10 s to 30 s, its check is not answered, and a watch there tells of nothing      ->  proven
//! the same, and a watch there tells of a change at 14 s                                      ->  it did not bite
//! the same, and the apiserver ends a watch at 22 s, having lasted as long as it was asked to ->  it did not bite
//! packets to it are lost, and it ends that watch                                             ->  proven: its own packets pass
//! packets to it are lost, and a request of 15 s is answered by it                            ->  it did not bite
//! lost from 10 s to 30 s, and nobody wanted anything of it                                   ->  nothing shows that it bit
//! frozen from 10 s to 30 s, and its /livez is 200 at 15 s                                    ->  it did not bite
//! ```
//!
//! The packets of a lost apiserver are no contradiction: they are captured where they come from, before they are lost. Those that it repeats
//! say that nobody acknowledged them.

use std::collections::{BTreeMap, HashMap};

use super::conclusive::unproven;
use super::facts::Facts;
use super::streams::{Death, How, server_of};
use crate::timeline::{
    Call, Effect, ErrorClass, Event, Exchange, GatewayStream, Lost, Moment, Packets, Party, Phase, SegmentKind,
    TimerConnection,
};

/// Something that came from an apiserver.
struct Voice<'a> {
    /// When it came.
    at: Moment,
    /// When it was asked for. What was asked for before a loss may come though nothing reaches the apiserver any more.
    asked: Moment,
    what: &'static str,
    who: &'a str,
    by: By,
}

/// By which way it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// From its process, through the balancer.
    Balancer,
    /// From its process, past the balancer.
    Past,
    /// From beside its process, through the balancer.
    Beside,
}

/// What is known of one apiserver.
#[derive(Default)]
struct Known<'a> {
    /// In order of their coming.
    voices: Vec<Voice<'a>>,
    /// When somebody had waited for it in vain, in order.
    in_vain: Vec<Moment>,
    /// Likewise, but said of its way and not of its process.
    unacknowledged: Vec<Moment>,
    /// When its checks were not answered.
    unchecked: Vec<Moment>,
    /// From when to when a watch on it told of nothing.
    gaps: Vec<(Moment, Moment)>,
}

/// What is known of all.
pub(super) struct Silence<'a> {
    known: BTreeMap<&'a str, Known<'a>>,
    /// When changes were acknowledged, in order.
    acknowledged: Vec<Moment>,
}

impl<'a> Silence<'a> {
    pub(super) fn of(facts: &'a Facts<'_>) -> Self {
        let certain = facts.writes.all.iter().filter(|(_, write)| write.effect() == Effect::Certain);
        let mut acknowledged: Vec<_> = certain.map(|(at, write)| *at + write.exchange.took).collect();
        acknowledged.sort_unstable();
        let mut found = Self { known: BTreeMap::new(), acknowledged };
        // Each watch's stream: its apiserver, when it was asked for, and when it told of something at last.
        let mut open: HashMap<&str, (&str, Moment, Moment)> = HashMap::new();
        for seen in &facts.recording.observations {
            let at = seen.at;
            match &seen.event {
                Event::Request(request) => {
                    for (at, exchange) in request.exchanges(at) {
                        found.exchange(facts, &request.probe, at, exchange);
                    }
                }
                Event::Write(write) => found.exchange(facts, &write.probe, at, &write.exchange),
                Event::Load(load) => found.exchange(facts, &load.worker, at, &load.exchange),
                Event::Read(read) => found.exchange(facts, &read.probe, at, &read.exchange),
                Event::ListWatch(call) => {
                    if let Some((server, _, last)) = open.remove(call.probe.as_str()) {
                        found.at(server).gaps.push((last, at));
                    }
                    let Some(server) = facts.audit.server_of(&call.audit_id).filter(|_| call.answer.is_ok()) else {
                        continue;
                    };
                    let came = at + call.took;
                    found.hear(server, (came, at), ("an answer", &call.probe), By::Balancer);
                    if call.call == Call::Watch {
                        open.insert(&call.probe, (server, at, came));
                    }
                }
                Event::Delivered(delivered) => {
                    if let Some((server, asked, last)) = open.get_mut(delivered.probe.as_str()) {
                        let (server, asked, last) = (*server, *asked, std::mem::replace(last, at));
                        found.at(server).gaps.push((last, at));
                        found.hear(server, (at, asked), ("an event", &delivered.probe), By::Balancer);
                    }
                }
                Event::WatchEnded(end) => {
                    let Some((server, asked, last)) = open.remove(end.probe.as_str()) else { continue };
                    found.at(server).gaps.push((last, at));
                    if end.failure.is_none() {
                        found.hear(server, (at, asked), ("the end of a watch", &end.probe), By::Balancer);
                    }
                }
                Event::GatewayStream(stream) => found.stream(facts, at, stream),
                Event::Session(session) => {
                    if let Some((server, came)) = facts.audit.server_of(&session.audit_id).zip(session.last_line) {
                        found.hear(server, (came, at), ("a line", &session.probe), By::Balancer);
                    }
                }
                Event::Timer(connection) => found.timer(facts, at, connection),
                Event::ServerHealth(health) => match &health.answer {
                    Ok(200) => {
                        found.hear(&health.server, (at + health.took, at), ("an answer", &health.path), By::Past);
                    }
                    Err(failure) if failure.class == ErrorClass::Timeout => {
                        found.at(&health.server).in_vain.push(at + health.took);
                    }
                    _ => {}
                },
                Event::BackendHealth(health) if health.unanswered => found.at(&health.server).unchecked.push(at),
                Event::Packets(packets) => found.packets(at, packets),
                _ => {}
            }
        }
        for (server, _, last) in open.into_values() {
            found.at(server).gaps.push((last, facts.end));
        }
        for known in found.known.values_mut() {
            known.voices.sort_by_key(|voice| voice.at);
        }
        found
    }

    /// Why it is not known that an apiserver fell silent, if so.
    pub(super) fn doubt(&self, facts: &Facts<'_>, death: &Death<'_>) -> Option<String> {
        if let How::Restarted(restarted) = death.how {
            return unproven(facts.disturbance()?, restarted);
        }
        let server = death.server;
        let what = match death.how {
            How::Lost(lost) => format!("{server} was to be lost at {} ({lost})", facts.clock(death.on)),
            _ => format!("{server} was to be frozen at {}", facts.clock(death.on)),
        };
        let known = self.known.get(server);
        if let Some(voice) = known.and_then(|known| still_there(facts, known, death)) {
            let Voice { at, what: still, who, .. } = voice;
            return Some(format!(
                "{what}, and {still} came from there at {} ({who}): it did not bite",
                facts.clock(*at)
            ));
        }
        let waited = known.is_some_and(|known| self.waited_in_vain(facts, known, death));
        (!waited).then(|| format!("{what}, and nothing shows that it bit: nobody waited in vain"))
    }

    fn at(&mut self, server: &'a str) -> &mut Known<'a> {
        self.known.entry(server).or_default()
    }

    fn hear(&mut self, server: &'a str, (at, asked): (Moment, Moment), (what, who): (&'static str, &'a str), by: By) {
        self.at(server).voices.push(Voice { at, asked, what, who, by });
    }

    fn exchange(&mut self, facts: &Facts<'_>, who: &'a str, at: Moment, exchange: &'a Exchange) {
        let Some(server) = exchange.server.as_deref() else { return };
        let direct = |remote: &str| facts.recording.header.servers.iter().any(|server| server.address == remote);
        if exchange.connection.as_ref().is_some_and(|used| direct(&used.remote)) {
            return;
        }
        if exchange.succeeded() {
            self.hear(server, (at + exchange.took, at), ("an answer", who), By::Balancer);
        }
        let timed_out = exchange.failure.as_ref().is_some_and(|failure| failure.class == ErrorClass::Timeout);
        if timed_out && exchange.phase >= Phase::Headers {
            self.at(server).in_vain.push(at + exchange.took);
        }
    }

    fn stream(&mut self, facts: &'a Facts<'_>, began: Moment, stream: &'a GatewayStream) {
        let Some(server) = server_of(facts, stream).filter(|_| stream.succeeded()) else { return };
        let Some(answered) = stream.answered.map(|answered| began + answered.after) else { return };
        let who = stream.client.as_str();
        self.hear(server, (answered, began), ("an answer", who), By::Balancer);
        for heard in &stream.heard {
            self.hear(server, (began + heard.after, began), ("an event", who), By::Balancer);
        }
        if let Some(end) = &stream.told {
            // A gateway may end a stream as cleanly, and not as exactly.
            let on_time = |asked| end.after <= asked + facts.bounds.close_noticed;
            if stream.is_over() && stream.asked_to_last.is_some_and(on_time) {
                self.hear(server, (began + end.after, began), ("the end of a watch", who), By::Balancer);
            }
            if end.failure.as_ref().is_some_and(|failure| failure.class == ErrorClass::Timeout) {
                self.at(server).in_vain.push(began + end.after);
            }
        }
        if stream.shape.is_watch() {
            let over = began + stream.told.as_ref().map_or(stream.lasted, |end| end.after);
            let heard = || stream.heard.iter().map(|heard| began + heard.after);
            let gaps = std::iter::once(answered).chain(heard()).zip(heard().chain([over]));
            self.at(server).gaps.extend(gaps);
        }
    }

    fn timer(&mut self, facts: &Facts<'_>, opened: Moment, connection: &'a TimerConnection) {
        let (server, over) = (connection.server.as_str(), opened + connection.lasted);
        match connection.carries {
            Some(true) => self.hear(server, (over, over), ("a byte", &connection.probe), By::Beside),
            Some(false) => self.at(server).unacknowledged.push(over),
            None => {}
        }
        let late = |idle| idle > connection.interval + facts.bounds.close_noticed;
        if let Some(told) = &connection.client_told {
            let given_up = told.failure.as_ref().is_some_and(|failure| failure.class == ErrorClass::Timeout);
            if given_up || late(told.idle) {
                self.at(server).unacknowledged.push(opened + told.after);
            }
        }
    }

    fn packets(&mut self, at: Moment, packets: &'a Packets) {
        let Some(server) = packets.interface.strip_prefix("to-").filter(|server| *server != "client") else { return };
        let mut asked_before = false;
        for segment in &packets.segments {
            let asks = segment.kind == SegmentKind::Syn && segment.from == Party::Client;
            if segment.kind == SegmentKind::Retransmission || (asks && asked_before) {
                self.at(server).unacknowledged.push(at + segment.after);
            }
            asked_before |= asks;
        }
    }

    fn waited_in_vain(&self, facts: &Facts<'_>, known: &Known<'_>, death: &Death<'_>) -> bool {
        let during = |at: &Moment| *at > death.on && *at <= death.off;
        // A check is known to be lost some time after it was sent.
        let checked = death.off + facts.recording.header.timers.detection();
        let unchecked = known.unchecked.iter().any(|at| *at > death.on && *at <= checked);
        let cable = matches!(death.how, How::Lost(_)) && known.unacknowledged.iter().any(during);
        let told_of_nothing = |(from, to): &(Moment, Moment)| {
            let from = death.on.max(*from) + facts.bounds.close_noticed;
            let next = self.acknowledged.partition_point(|at| *at < from);
            let owed = self.acknowledged.get(next).map(|at| *at + facts.bounds.gateway_silent);
            owed.is_some_and(|owed| owed <= death.off.min(*to))
        };
        unchecked || cable || known.in_vain.iter().any(during) || known.gaps.iter().any(told_of_nothing)
    }
}

/// What came of an apiserver by the way that was broken, well after it was broken and before it was healed.
fn still_there<'a, 'k>(facts: &Facts<'_>, known: &'k Known<'a>, death: &Death<'_>) -> Option<&'k Voice<'a>> {
    let noticed = facts.bounds.close_noticed;
    let (from, until) = (death.on + noticed, death.off - noticed);
    // Where only what is sent to it is lost, it may go on with what it was asked before.
    let answers = |voice: &Voice<'_>| !matches!(death.how, How::Lost(Lost::ToServer)) || voice.asked > from;
    let broken = |by| match death.how {
        How::Frozen => by != By::Beside,
        _ => by != By::Past,
    };
    let first = known.voices.partition_point(|voice| voice.at <= from);
    let mut meanwhile = known.voices[first..].iter().take_while(|voice| voice.at < until);
    meanwhile.find(|voice| broken(voice.by) && answers(voice))
}
