//! Packet evidence: what passed both sides of the balancer.
//!
//! Of each connection the segments that tell of its life become an observation ([`Packets`]), and together with the answers to
//! keepalive probes a file for Wireshark. A connection through a balancer that is no proxy is one on both sides; through a proxy it
//! is two.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use tokio::task::{JoinHandle, unconstrained};
use tokio_util::sync::CancellationToken;

use super::wire::{Frame, SNAP_LENGTH, Segment, Wire};
use super::{Network, namespaces};
use crate::timeline::{self, Event, Moment, Packets, Party, Recorder, SegmentKind};

/// A capture at work.
pub struct Capture {
    file: PathBuf,
    end: CancellationToken,
    task: Mutex<Option<JoinHandle<anyhow::Result<()>>>>,
}

impl Capture {
    /// Captures on both sides of the balancer from now on, into a file.
    ///
    /// # Errors
    /// The lab has no namespaces, the kernel refuses, or the file cannot be made.
    pub async fn start(network: &Network, file: &Path, recorder: &Recorder) -> anyhow::Result<Self> {
        let mut wire = Wire::listen(&network.balancer).await?;
        let mut notes = Notes::new(network.servers.len(), file)?;
        let (end, recorder) = (CancellationToken::new(), recorder.clone());
        let ended = end.clone();
        let task = tokio::spawn(unconstrained(async move {
            while let Some(frame) = ended.run_until_cancelled(wire.next()).await {
                notes.take(&frame.context("cannot capture")?, &recorder)?;
            }
            notes.finish(&recorder)
        }));
        Ok(Self { file: file.to_owned(), end, task: Mutex::new(Some(task)) })
    }

    /// The file for Wireshark.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Ends it; what was seen is recorded then. Once: later calls do nothing.
    ///
    /// # Errors
    /// The capture broke off, or its file could not be written.
    pub async fn end(&self) -> anyhow::Result<()> {
        self.end.cancel();
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match task {
            Some(task) => task.await.context("the capture panicked")?,
            None => Ok(()),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// A connection on one interface: its number, and the two ends in the order of their addresses.
type Key = (u32, SocketAddr, SocketAddr);

/// What is known of a connection on one interface.
struct Conversation {
    at: Moment,
    client: SocketAddr,
    server: SocketAddr,
    /// The number after the last byte sent in the name of the client, and of the server, as far as it was seen.
    next: [Option<u32>; 2],
    finished: [bool; 2],
    /// Whose keepalive probe has not been answered.
    asked: Option<Party>,
    segments: Vec<timeline::Segment>,
}

struct Notes {
    /// The interfaces' names, by number.
    interfaces: Vec<(u32, String)>,
    open: HashMap<Key, Conversation>,
    pcap: PcapNgWriter<BufWriter<File>>,
    /// The wall clock's time when the recording's clock was at zero.
    epoch: Duration,
}

impl Notes {
    fn new(servers: usize, file: &Path) -> anyhow::Result<Self> {
        let opened = File::create_new(file).with_context(|| format!("cannot make {}", file.display()))?;
        let mut pcap = PcapNgWriter::new(BufWriter::new(opened))?;
        let interfaces: Vec<_> = namespaces::balancer_interfaces(servers).collect();
        for (_, name) in &interfaces {
            let options = vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ];
            let linktype = DataLink::ETHERNET;
            pcap.write_pcapng_block(InterfaceDescriptionBlock { linktype, snaplen: SNAP_LENGTH as u32, options })?;
        }
        let wall = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let epoch = wall.saturating_sub(Moment::now().since(Moment::default()));
        Ok(Self { interfaces, open: HashMap::new(), pcap, epoch })
    }

    fn take(&mut self, frame: &Frame<'_>, recorder: &Recorder) -> anyhow::Result<()> {
        let Some(position) = self.interfaces.iter().position(|(number, _)| *number == frame.interface) else {
            return Ok(());
        };
        let Segment { from, to, .. } = frame.segment;
        let key = (frame.interface, from.min(to), from.max(to));
        let conversation = self.open.entry(key).or_insert_with(|| Conversation::opened(frame));
        let (kind, answer) = conversation.take(frame);
        if kind.is_some() || answer {
            self.pcap.write_pcapng_block(EnhancedPacketBlock {
                interface_id: position as u32,
                timestamp: self.epoch + frame.at.since(Moment::default()),
                original_len: frame.bytes.len() as u32 + frame.segment.payload,
                data: Cow::Borrowed(frame.bytes),
                options: Vec::new(),
            })?;
        }
        if kind == Some(SegmentKind::Reset) || conversation.finished == [true; 2] {
            self.close(key, recorder);
        }
        Ok(())
    }

    fn close(&mut self, key: Key, recorder: &Recorder) {
        let Some(conversation) = self.open.remove(&key) else { return };
        let Conversation { at, client, server, segments, .. } = conversation;
        let name = self.interfaces.iter().find(|(number, _)| *number == key.0).map(|(_, name)| name.clone());
        // What is left of a connection that was written down already.
        if !segments.is_empty() {
            let (interface, client, server) = (name.unwrap_or_default(), client.to_string(), server.to_string());
            recorder.record_at(at, Event::Packets(Packets { interface, client, server, segments }));
        }
    }

    /// Records the connections that are still open.
    fn finish(mut self, recorder: &Recorder) -> anyhow::Result<()> {
        for key in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(key, recorder);
        }
        Ok(std::io::Write::flush(self.pcap.get_mut())?)
    }
}

impl Conversation {
    /// One whose first segment this is. Where that is no SYN, servers have the ports that are not ephemeral, the lower ones.
    fn opened(frame: &Frame<'_>) -> Self {
        let Segment { from, to, .. } = frame.segment;
        let by_client = from.port() > to.port();
        let (client, server) = if by_client { (from, to) } else { (to, from) };
        let (next, finished) = ([None; 2], [false; 2]);
        Self { at: frame.at, client, server, next, finished, asked: None, segments: Vec::new() }
    }

    /// What a segment tells of the connection's life, and whether it answers a keepalive probe.
    fn take(&mut self, frame: &Frame<'_>) -> (Option<SegmentKind>, bool) {
        let Segment { from, syn, fin, rst, sequence, payload, .. } = frame.segment;
        let (party, index) = if from == self.client { (Party::Client, 0) } else { (Party::Server, 1) };
        let end = sequence.wrapping_add(payload + u32::from(syn) + u32::from(fin));
        // Numbers wrap around: a difference in the upper half is a negative one.
        let behind = self.next[index].map(|next| next.wrapping_sub(sequence)).filter(|behind| *behind < 1 << 31);
        let kind = if rst {
            Some(SegmentKind::Reset)
        } else if syn {
            Some(SegmentKind::Syn)
        } else if payload == 0 && behind == Some(1) && !fin {
            Some(SegmentKind::Keepalive)
        } else if fin {
            Some(SegmentKind::Fin)
        } else if payload > 0 && behind.is_some_and(|behind| behind > 0) {
            Some(SegmentKind::Retransmission)
        } else {
            None
        };
        let answer = kind.is_none() && self.asked.is_some_and(|asked| asked != party);
        match kind {
            Some(SegmentKind::Keepalive) => self.asked = Some(party),
            _ if answer => self.asked = None,
            _ => {}
        }
        if behind.is_none_or(|behind| behind == 0 || end.wrapping_sub(sequence) > behind) && !rst {
            self.next[index] = Some(end);
        }
        self.finished[index] |= fin;
        self.segments.extend(kind.map(|kind| timeline::Segment { after: frame.at.since(self.at), from: party, kind }));
        (kind, answer)
    }
}
