//! What the socket itself says, since hyper and h2 do not always pass it on.
//!
//! When h2 fails to write, its streams only learn "connection closed because of a broken pipe", the same as after a FIN
//! (src/proto/connection.rs: an error of `poll_complete` ends the connection, and its streams get `recv_eof`).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::classify;
use crate::timeline::Failure;

/// The first error of a stream, once there is one.
pub(super) type Trouble = Arc<OnceLock<Failure>>;

/// A stream whose first error is kept.
pub(super) struct Wire<IO> {
    stream: IO,
    trouble: Trouble,
}

impl<IO> Wire<IO> {
    pub(super) fn new(stream: IO) -> (Self, Trouble) {
        let trouble = Trouble::default();
        (Self { stream, trouble: trouble.clone() }, trouble)
    }

    fn keep<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.trouble.get_or_init(|| classify(error));
        }
        result
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, into);
        self.keep(result)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.keep(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.keep(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An error of our own goodbye is not why anything failed.
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
