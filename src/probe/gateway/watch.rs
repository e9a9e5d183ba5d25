//! A watch through a gateway that goes on in a new stream whenever one ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::Client;
use super::configmaps;
use super::stream::{Lines, Said, Story, said};
use crate::lab::PROBED;
use crate::lab::http::Multiplexed;
use crate::probe::requester;
use crate::timeline::{ErrorClass, Failure, Shape};
use crate::timing::{self, gateway as times};

/// The revision is older than what the apiserver's watch cache has.
const GONE: u64 = 410;

/// A watch that goes on in a new stream whenever one ends.
pub(super) struct Watch {
    client: Arc<Client>,
    shape: Shape,
    name: String,
    from: u64,
    opened: Option<Opened>,
    /// The newest change told of.
    pub(super) newest: Arc<AtomicU64>,
}

struct Opened {
    connection: Multiplexed,
    lines: Lines,
    story: Story,
}

impl Watch {
    pub(super) fn new(client: Arc<Client>, shape: Shape, name: String, from: u64) -> Self {
        Self { client, shape, name, from, opened: None, newest: Arc::default() }
    }

    /// Opens the next stream, from the last revision seen.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        let mut story = self.client.story(self.shape, &self.name);
        story.from(self.from);
        let more = match self.shape {
            Shape::Quiet => format!("&fieldSelector=metadata.name%3D{PROBED}"),
            Shape::Informer => {
                story.lasting(times::INFORMER_WATCH);
                format!("&timeoutSeconds={}", times::INFORMER_WATCH.as_secs())
            }
            _ => String::new(),
        };
        let path = format!("{}?watch=true&resourceVersion={}{more}", configmaps(), self.from);
        let asked = async {
            let connection = self.client.connection().await?;
            story.local(connection.local());
            if let Some(pongs) = connection.pongs() {
                story.pongs(pongs.clone());
            }
            let answer = connection.ask(&self.client.to, &story.ask(&path)).await?;
            story.answered(&answer, self.client.to.upstream(&answer));
            if !story.succeeded() {
                return Err(refused(answer.status().as_u16().into(), format!("status {}", answer.status())));
            }
            Ok((connection, Lines::of(answer.into_body())))
        };
        match asked.await {
            Ok((connection, lines)) => {
                self.opened = Some(Opened { connection, lines, story });
                Ok(())
            }
            Err(failure) => {
                // Of an informer, as client-go's reflector: it tries again only where nobody listens (reflector.go, canRetryAfter).
                let anew = self.shape == Shape::Informer && failure.class != ErrorClass::ConnectionRefused;
                if anew || failure.class == ErrorClass::Gone {
                    self.from = 0;
                }
                story.told(Some(failure.clone()));
                Err(failure)
            }
        }
    }

    pub(super) fn server(&self) -> Option<String> {
        self.opened.as_ref()?.story.server()
    }

    pub(super) async fn follow(mut self) {
        let mut retry = requester::schedule(timing::WATCH_RETRY);
        loop {
            if let Some(opened) = self.opened.as_mut() {
                if self.shape == Shape::Quiet {
                    opened.story.waits_for(self.client.crew.spoken.subscribe());
                }
                loop {
                    match opened.lines.next().await {
                        Ok(Some(line)) => match said(&line) {
                            Some(Said::Change { revision, change }) => {
                                self.from = revision.max(self.from);
                                opened.story.heard(change);
                                let newest = if self.shape == Shape::Quiet { u64::MAX } else { change.unwrap_or(0) };
                                if self.newest.fetch_max(newest, Ordering::Relaxed) < newest {
                                    self.client.crew.samples.add_one();
                                }
                            }
                            Some(Said::Error { code, text }) => {
                                if code == GONE || self.shape == Shape::Informer {
                                    self.from = 0;
                                }
                                break opened.story.told(Some(refused(code, text)));
                            }
                            None => {}
                        },
                        Ok(None) => break opened.story.told(None),
                        Err(error) => {
                            let failure = opened.connection.failure(&error);
                            if self.shape == Shape::Informer && !is_end_of_connection(failure.class) {
                                self.from = 0;
                            }
                            break opened.story.told(Some(failure));
                        }
                    }
                }
                self.opened = None;
            }
            retry.tick().await;
            let _ = self.open().await;
        }
    }
}

/// What a reflector of client-go takes for the end of a connection, and goes on after. After everything else it begins anew: client-go lists, and our
/// informer asks for whatever there is. A stream that was reset is not among it (apimachinery pkg/watch/streamwatcher.go, pkg/util/net/http.go,
/// `IsProbableEOF`).
fn is_end_of_connection(class: ErrorClass) -> bool {
    use ErrorClass::{ConnectionReset, Goaway, Timeout, UnexpectedEof};
    matches!(class, UnexpectedEof | ConnectionReset | Goaway | Timeout)
}

/// A watch that is told by this code that it is not to be. After 410 it begins with whatever there is.
fn refused(code: u64, text: String) -> Failure {
    Failure { class: if code == GONE { ErrorClass::Gone } else { ErrorClass::Status }, text }
}
