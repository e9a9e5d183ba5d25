//! Answers to PINGs among what comes by HTTP/2: hyper keeps them to itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A frame's header: length (3 bytes), type, flags, stream (4 bytes). RFC 9113, section 4.1.
const HEADER: usize = 9;
const PING: u8 = 6;
const ACK: u8 = 1;

/// How many PINGs of ours were answered on a connection.
#[derive(Clone, Debug, Default)]
pub struct Pongs(Arc<AtomicU64>);

impl Pongs {
    /// So far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What looks for them in all that comes, from the first byte.
    pub(super) fn among_frames(&self) -> impl FnMut(&[u8]) + use<> {
        let (pongs, mut header, mut payload) = (self.clone(), Vec::with_capacity(HEADER), 0);
        move |mut bytes| {
            while !bytes.is_empty() {
                let skipped = bytes.len().min(payload);
                (bytes, payload) = (&bytes[skipped..], payload - skipped);
                let taken = bytes.len().min(HEADER - header.len());
                header.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if let [a, b, c, kind, flags, ..] = header[..]
                    && header.len() == HEADER
                {
                    payload = u32::from_be_bytes([0, a, b, c]) as usize;
                    pongs.0.fetch_add(u64::from(kind == PING && flags & ACK != 0), Ordering::Relaxed);
                    header.clear();
                }
            }
        }
    }
}
