//! One connection through the balancer, from accept to its end.
//!
//! Who ended it, and how: the side whose RST broke it off; else the side that sent the first FIN. A RST by a side that has
//! sent its FIN before is no other end: it had closed, and refuses what still comes. Whatever else breaks a connection
//! (the kernel's patience with a silent peer is over) counts as the balancer's own reset.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest, sink};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::health::Member;
use super::{IdleTimeout, OnIdle, OnUnhealthy};
use crate::lab::network::Site;
use crate::timeline::{Connection, End, Event, Moment, Party, Recorder};
use crate::timing::BALANCER_LINGER;

/// Bytes that one direction of a connection can hold in hand.
const BUFFER: usize = 64 * 1024;

/// A connection that a client has made.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) from: SocketAddr,
    pub(super) at: Moment,
}

/// Carries connections to backends.
pub(super) struct Carrier {
    pub(super) site: Site,
    pub(super) connect_timeout: Duration,
    pub(super) on_unhealthy: OnUnhealthy,
    pub(super) idle: Option<IdleTimeout>,
    pub(super) recorder: Recorder,
    /// Cuts every connection.
    pub(super) stop: CancellationToken,
}

/// The end of a connection.
struct Ended {
    by: Party,
    how: End,
    /// Whether RST is what the two sides get, where they have not closed already.
    abort: bool,
}

impl Ended {
    fn reset_by(by: Party) -> Self {
        Self { by, how: End::Reset, abort: true }
    }
}

/// When the last byte passed, in either direction.
struct Activity(AtomicU64);

impl Activity {
    fn last(&self) -> Moment {
        Moment(self.0.load(Ordering::Relaxed))
    }
}

/// What passed in one direction.
struct Flow<'a> {
    bytes: u64,
    activity: &'a Activity,
}

impl Carrier {
    /// Carries a connection to the first of `candidates` that accepts it, and records it when it has ended.
    pub(super) async fn carry(&self, accepted: Accepted, candidates: &[Arc<Member>]) {
        let Accepted { stream: mut client, from, at } = accepted;
        let activity = Activity(AtomicU64::new(at.0));
        let (mut up, mut down) = (Flow { bytes: 0, activity: &activity }, Flow { bytes: 0, activity: &activity });
        let (backend, answer) = self.offer(candidates).await;

        let (ended, mut server) = match answer {
            Ok((mut server, member)) => {
                // Fails only on a socket that is dead already, which the exchange will find out.
                let _ = client.set_nodelay(true).and(server.set_nodelay(true));
                // A token of its own: polling the common one would make all connections meet at its lock.
                let stop = self.stop.child_token();
                let ended = tokio::select! {
                    ended = exchange(&mut client, &mut server, &mut up, &mut down) => ended,
                    ended = self.cut(member) => ended,
                    ended = self.idle(&activity) => ended,
                    () = stop.cancelled() => Ended::reset_by(Party::Balancer),
                };
                (ended, Some(server))
            }
            Err(how) => (Ended { by: Party::Balancer, how, abort: true }, None),
        };

        // Recorded before the sockets close: whoever notices the end finds it in the recording.
        let now = Moment::now();
        let connection = Connection {
            client: from.to_string(),
            backend,
            sent: up.bytes,
            received: down.bytes,
            idle: now.since(activity.last()),
            lasted: now.since(at),
            ended_by: ended.by,
            end: ended.how,
        };
        self.recorder.record_at(at, Event::Connection(connection));

        if self.idle.is_some_and(|idle| idle.then == OnIdle::ResetOnUse)
            && ended.how == End::Silent
            && let Some(server) = server
        {
            let refuse = async { tokio::join!(refuse(client), refuse(server)) };
            let _ = self.stop.run_until_cancelled(refuse).await;
            return;
        }
        if let (End::Silent, Some(server)) = (ended.how, &mut server) {
            let swallow = async { tokio::join!(swallow(&mut client), swallow(server)) };
            let _ = self.stop.run_until_cancelled(swallow).await;
        }
        if ended.abort {
            for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
                // With SO_LINGER 0, close(2) is a RST. It fails only on a socket that is dead already.
                let _ = stream.set_zero_linger();
            }
        } else if let (Party::Balancer, Some(server)) = (ended.by, server) {
            let farewell = async { tokio::join!(finish(client), finish(server)) };
            let _ = self.stop.run_until_cancelled(timeout(BALANCER_LINGER, farewell)).await;
        }
    }

    /// The name of whom the connection was last offered to, and what came of it.
    async fn offer<'a>(&self, candidates: &'a [Arc<Member>]) -> (Option<String>, Result<(TcpStream, &'a Member), End>) {
        let mut outcome = (None, Err(End::NoBackend));
        for member in candidates {
            let connecting = timeout(self.connect_timeout, self.site.connect(member.backend.address));
            let name = Some(member.backend.name.clone());
            outcome = match self.stop.run_until_cancelled(connecting).await {
                Some(Ok(Ok(server))) => return (name, Ok((server, member))),
                Some(_refused_or_silent) => (name, Err(End::Unreachable)),
                None => return (name, Err(End::Reset)),
            };
        }
        outcome
    }

    /// Returns when the connection has been idle for too long.
    async fn idle(&self, activity: &Activity) -> Ended {
        let Some(idle) = self.idle else { return std::future::pending().await };
        // Bytes do not touch the timer: it looks after them when it fires.
        loop {
            match idle.after.checked_sub(Moment::now().since(activity.last())) {
                None | Some(Duration::ZERO) => break,
                Some(rest) => sleep(rest).await,
            }
        }
        match idle.then {
            OnIdle::Reset => Ended::reset_by(Party::Balancer),
            OnIdle::Fin => Ended { by: Party::Balancer, how: End::Fin, abort: false },
            OnIdle::Silent | OnIdle::ResetOnUse => Ended { by: Party::Balancer, how: End::Silent, abort: true },
        }
    }

    /// Returns when the connection is to be cut because its backend is out of service.
    async fn cut(&self, member: &Member) -> Ended {
        match self.on_unhealthy {
            OnUnhealthy::Keep => std::future::pending().await,
            OnUnhealthy::Reset => {
                member.out_of_service().await;
                Ended::reset_by(Party::Balancer)
            }
            OnUnhealthy::Drain { after } => {
                member.out_of_service().await;
                sleep(after).await;
                Ended::reset_by(Party::Balancer)
            }
            OnUnhealthy::Fin { after } => {
                member.out_of_service().await;
                sleep(after).await;
                Ended { by: Party::Balancer, how: End::Fin, abort: false }
            }
        }
    }
}

/// Takes what one side still says, and answers nothing.
async fn swallow(stream: &mut TcpStream) {
    // An error is an end like any other.
    let _ = tokio::io::copy(stream, &mut sink()).await;
}

/// RST as soon as that side says something.
async fn refuse(mut stream: TcpStream) {
    // Whatever comes; even an end would be one of a connection that is gone.
    let _ = stream.read_u8().await;
    let _ = stream.set_zero_linger();
}

/// Passes on what both sides say until both have finished, or one breaks off.
async fn exchange<'a>(client: &mut TcpStream, server: &mut TcpStream, up: &mut Flow<'a>, down: &mut Flow<'a>) -> Ended {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut upward = pin!(copy(from_client, Party::Client, to_server, Party::Server, up));
    let mut downward = pin!(copy(from_server, Party::Server, to_client, Party::Client, down));

    let (first, finished, other) = tokio::select! {
        finished = &mut upward => (Party::Client, finished, downward),
        finished = &mut downward => (Party::Server, finished, upward),
    };
    let half_closed = match finished {
        Ok(half_closed) => half_closed,
        Err(by) => return Ended::reset_by(by),
    };
    // The other direction lives on. Nobody reads from the first side any more, so its RST has to be watched for.
    tokio::select! {
        biased;
        finished = other => match finished {
            Ok(_) => Ended { by: first, how: End::Fin, abort: false },
            Err(by) if by == first => Ended { by: first, how: End::Fin, abort: true },
            Err(by) => Ended::reset_by(by),
        },
        _ = half_closed.ready(Interest::ERROR) => Ended { by: first, how: End::Fin, abort: true },
    }
}

/// Passes on one direction up to and including the FIN, and hands back the half that it came from. The error is who broke
/// the connection.
async fn copy<'a>(
    mut from: ReadHalf<'a>,
    source: Party,
    mut to: WriteHalf<'_>,
    target: Party,
    flow: &mut Flow<'_>,
) -> Result<ReadHalf<'a>, Party> {
    // Not zeroed: most connections are short, and use little of it.
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        if from.read_buf(&mut buffer).await.map_err(|error| blame(source, &error))? == 0 {
            break;
        }
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let written = to.write(rest).await.map_err(|error| blame(target, &error))?;
            flow.bytes += written as u64;
            flow.activity.0.store(Moment::now().0, Ordering::Relaxed);
            rest = &rest[written..];
        }
    }
    to.shutdown().await.map_err(|error| blame(target, &error))?;
    Ok(from)
}

/// Who broke the connection, given what reading from or writing to `side` failed with. ECONNRESET and EPIPE are its RST.
fn blame(side: Party, error: &io::Error) -> Party {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => side,
        _ => Party::Balancer,
    }
}

/// FIN, then away with what still comes, until that side has finished too.
async fn finish(mut stream: TcpStream) {
    // Errors mean that the other side was faster.
    let _ = stream.shutdown().await;
    let _ = tokio::io::copy(&mut stream, &mut sink()).await;
}
