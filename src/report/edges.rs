//! How exact the edges of outages are: when a request began and failed, as recorded, beside the packets of the same run, which the kernel
//! stamped. It is no verdict: it says how far a verdict's times can be trusted (`rollproof edges`).
//!
//! ```text
//! request on a new connection, begun at 6.0500 s           first SYN on the way to the balancer at 6.0502 s  ->  begin: 0.2 ms
//! it fails at 6.0511 s (connection reset by peer)          RST in the server's name at 6.0510 s              ->  end: 0.1 ms
//! it times out at 16.0500 s                                nothing in the server's name                      ->  begin only
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::timeline::{ConnectionKind, Event, Moment, Packets, Party, Recording, SegmentKind};

/// By how much recorded edges of requests on new connections differ from the wire's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// From the recorded begin to the connection's first SYN, or back; in order.
    pub begins: Vec<Duration>,
    /// Of those that failed: from the first RST or FIN in the server's name to the recorded failure, or back; in order.
    pub ends: Vec<Duration>,
}

impl Edges {
    /// The edges in a recording. There are none where nothing was captured between clients and the balancer.
    pub fn of(recording: &Recording) -> Self {
        let mut captured: HashMap<&str, Vec<(Moment, &Packets)>> = HashMap::new();
        for seen in &recording.observations {
            if let Event::Packets(packets) = &seen.event
                && packets.interface == "to-client"
            {
                captured.entry(&packets.client).or_default().push((seen.at, packets));
            }
        }
        let mut edges = Self::default();
        for seen in &recording.observations {
            let Event::Request(request) = &seen.event else { continue };
            let Some(connection) = request.exchange.connection.as_ref().filter(|_| request.on == ConnectionKind::New)
            else {
                continue;
            };
            // A port may have been used before.
            let opened = captured.get(connection.local.as_str()).into_iter().flatten().filter_map(|(at, packets)| {
                let syn = packets.first(*at, SegmentKind::Syn, Party::Client)?;
                Some((apart(syn, seen.at), *at, *packets))
            });
            let Some((begin, at, packets)) = opened.min_by_key(|(begin, ..)| *begin) else { continue };
            edges.begins.push(begin);
            let told = [SegmentKind::Reset, SegmentKind::Fin].map(|kind| packets.first(at, kind, Party::Server));
            let failed = request.exchange.failure.as_ref().map(|_| seen.at + request.exchange.took);
            if let (Some(failed), Some(told)) = (failed, told.into_iter().flatten().min()) {
                edges.ends.push(apart(failed, told));
            }
        }
        edges.begins.sort_unstable();
        edges.ends.sort_unstable();
        edges
    }
}

fn apart(one: Moment, other: Moment) -> Duration {
    one.since(other).max(other.since(one))
}

/// A table of the edges in some recordings, by scenario.
pub fn edges_markdown(recordings: &[Recording]) -> String {
    let mut table = "\
| scenario | edge | count | p50 | p99 | greatest |
| --- | --- | --- | --- | --- | --- |
"
    .to_owned();
    for recording in recordings {
        let Edges { begins, ends } = Edges::of(recording);
        for (edge, errors) in [("begin", begins), ("end", ends)] {
            let (scenario, count) = (&recording.header.scenario, errors.len());
            let at = |percent: usize| errors.get((count * percent).div_ceil(100).saturating_sub(1));
            let [p50, p99, greatest] = [50, 99, 100].map(|percent| match at(percent) {
                Some(error) => format!("{:.2} ms", error.as_secs_f64() * 1e3),
                None => "-".to_owned(),
            });
            let _ = writeln!(table, "| {scenario} | {edge} | {count} | {p50} | {p99} | {greatest} |");
        }
    }
    table
}
