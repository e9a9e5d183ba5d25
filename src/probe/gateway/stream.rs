//! The story of one stream through a gateway, and the lines that come on it.

use bytes::{Buf as _, BytesMut};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::watch as latest;

use crate::lab::http::{Ask, Pongs};
use crate::timeline::{Answered, Event, Failure, GatewayStream, Heard, Moment, Recorder, Shape, StreamEnd};

/// A stream's story. Written down when this is dropped: its end, or that of its probe.
pub(super) struct Story {
    recorder: Recorder,
    began: Moment,
    stream: GatewayStream,
    spoken: Option<latest::Receiver<Option<Moment>>>,
    /// Where its client asks by PING: the answers, and how many there were when it began.
    pongs: Option<(Pongs, u64)>,
}

impl Story {
    pub(super) fn begin(recorder: Recorder, gateway: &str, shape: Shape, client: &str, audit_id: String) -> Self {
        let stream = GatewayStream {
            gateway: gateway.to_owned(),
            shape,
            client: client.to_owned(),
            audit_id,
            local: String::new(),
            from: None,
            asked_to_last: None,
            pings: None,
            server: None,
            answered: None,
            heard: Vec::new(),
            spoken_to: None,
            told: None,
            lasted: std::time::Duration::ZERO,
        };
        Self { recorder, began: Moment::now(), stream, spoken: None, pongs: None }
    }

    pub(super) fn ask(&self, path: &str) -> Ask {
        Ask::get(path, self.stream.audit_id.clone(), "rollproof-gateway-client")
    }

    pub(super) fn local(&mut self, local: &str) {
        local.clone_into(&mut self.stream.local);
    }

    pub(super) fn from(&mut self, revision: u64) {
        self.stream.from = Some(revision);
    }

    /// It is asked to last so long.
    pub(super) fn lasting(&mut self, span: std::time::Duration) {
        self.stream.asked_to_last = Some(span);
    }

    /// Its client asks by PING, and these are the answers.
    pub(super) fn pongs(&mut self, pongs: Pongs) {
        let before = pongs.count();
        self.pongs = Some((pongs, before));
    }

    /// Under which Audit-ID it was asked for at last.
    pub(super) fn asked_as(&mut self, audit_id: String) {
        self.stream.audit_id = audit_id;
    }

    /// A session is open, on that apiserver.
    pub(super) fn opened(&mut self, server: Option<String>) {
        let upgraded = self.stream.shape != Shape::QuietLogs;
        let status = if upgraded { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
        self.stream.answered = Some(Answered { after: self.age(), status: status.as_u16() });
        self.stream.server = server;
    }

    pub(super) fn answered<B>(&mut self, answer: &Response<B>, server: Option<String>) {
        self.stream.answered = Some(Answered { after: self.age(), status: answer.status().as_u16() });
        self.stream.server = server;
    }

    pub(super) fn heard(&mut self, change: Option<u64>) {
        self.stream.heard.push(Heard { after: self.age(), change });
    }

    /// Something will happen that it has to tell of: this says when it did.
    pub(super) fn waits_for(&mut self, spoken: latest::Receiver<Option<Moment>>) {
        self.spoken = Some(spoken);
    }

    pub(super) fn told(&mut self, failure: Option<Failure>) {
        self.told_at(Moment::now(), failure);
    }

    /// Told of its end then.
    pub(super) fn told_at(&mut self, at: Moment, failure: Option<Failure>) {
        self.stream.told = Some(StreamEnd { after: at.since(self.began), failure });
    }

    pub(super) fn server(&self) -> Option<String> {
        self.stream.server.clone()
    }

    pub(super) fn succeeded(&self) -> bool {
        self.stream.succeeded()
    }

    fn age(&self) -> std::time::Duration {
        Moment::now().since(self.began)
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        self.stream.lasted = self.age();
        self.stream.pings = self.pongs.as_ref().map(|(pongs, before)| pongs.count() - before);
        let spoken = self.spoken.as_ref().and_then(|spoken| *spoken.borrow());
        self.stream.spoken_to = spoken.filter(|spoken| *spoken >= self.began).map(|spoken| spoken.since(self.began));
        self.recorder.record_at(self.began, Event::GatewayStream(self.stream.clone()));
    }
}

/// The lines of a body.
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    pub(super) fn of(body: Incoming) -> Self {
        Self { body, read: BytesMut::new() }
    }

    /// The next line, or what is left; `None` at the end.
    pub(super) async fn next(&mut self) -> hyper::Result<Option<BytesMut>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end);
                self.read.advance(1);
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                None if self.read.is_empty() => return Ok(None),
                None => return Ok(Some(self.read.split())),
            }
        }
    }
}

/// What a line of a watch says.
pub(super) enum Said {
    /// An object is at this revision, and carries this change, if it is the writer's.
    Change { revision: u64, change: Option<u64> },
    /// The watch cannot go on.
    Error { code: u64, text: String },
}

/// What a line of a watch says. A deleted object carries the change before, and tells of none.
pub(super) fn said(line: &[u8]) -> Option<Said> {
    let event: serde_json::Value = serde_json::from_slice(line).ok()?;
    let object = &event["object"];
    if event["type"] == "ERROR" {
        let text = object["message"].as_str().unwrap_or_default().to_owned();
        return Some(Said::Error { code: object["code"].as_u64()?, text });
    }
    let revision = object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()?;
    let change = object.pointer("/data/change").and_then(|change| change.as_str()?.parse().ok());
    Some(Said::Change { revision, change: change.filter(|_| event["type"] != "DELETED") })
}
