//! A connection on which no HTTP was spoken yet.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::wire::{Trouble, Wire};
use super::{Endpoint, classify};
use crate::timeline::{ConnectionUse, Exchange, Failure, Phase};

pub(super) struct Reached {
    pub(super) wire: Wire<Either<TcpStream, TlsStream<TcpStream>>>,
    pub(super) trouble: Trouble,
    /// Our end of it, host:port.
    pub(super) local: String,
    /// The apiserver whose certificate it showed, if that is one of ours.
    pub(super) server: Option<String>,
}

impl Endpoint {
    /// TCP, then TLS where it is spoken. `exchange` notes how far it has come.
    pub(super) async fn reach(&self, exchange: &mut Exchange) -> Result<Reached, (Phase, Failure)> {
        let noted = |local: &str| {
            let (local, remote) = (local.to_owned(), self.address.to_string());
            Some(ConnectionUse { local, remote, reused: false, idle: Duration::ZERO })
        };
        exchange.connection = noted("");
        let tcp = self.connect().await.map_err(|error| (Phase::Dial, classify(&error)))?;
        let local = tcp.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
        (exchange.phase, exchange.connection) = (Phase::Tls, noted(&local));
        let (stream, server) = match self.plain {
            true => {
                let _ = tcp.set_nodelay(true);
                (Either::Left(tcp), None)
            }
            false => self.secure(tcp).await.map(|(stream, server)| (Either::Right(stream), server))?,
        };
        let (wire, trouble) = Wire::new(stream);
        Ok(Reached { wire, trouble, local, server })
    }
}
