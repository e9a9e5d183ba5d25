//! Where the parts of a lab stand, and how they reach each other.
//!
//! There are two networks. On [`loopback`] everything shares this machine's own; it needs no rights. In [`namespaces`] the
//! client, the balancer, etcd and each apiserver have a network stack of their own, joined by cables that faults can cut and
//! a balancer that the kernel itself can be.
//!
//! **Escape guard.** The addresses are 127.77.N.x on both. The kernel never lets such a packet out of a machine: whoever
//! dials a lab's address from the wrong place is refused by this machine, and never answered by a stranger behind the
//! default route.

pub mod loopback;
pub mod namespaces;

mod black_hole;
mod capture;
pub mod delay;
pub(super) mod namespace;
mod nft;
pub(super) mod wire;

pub use crate::timeline::Lost;
pub use black_hole::BlackHole;
pub use capture::Capture;
pub use delay::Delay;
pub use loopback::*;
pub use namespace::Namespace;
pub(super) use nft::{nft, nft_blocking};

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Where each part of a lab stands.
#[derive(Clone, Default)]
pub struct Network {
    /// The clients that go through the balancer.
    pub client: Site,
    /// The balancer.
    pub balancer: Site,
    /// etcd.
    pub etcd: Site,
    /// The apiservers, by number; on the loopback network none are listed.
    servers: Vec<Site>,
}

impl Network {
    /// Where an apiserver stands, and whoever asks it past the balancer: no fault on the way lies between them.
    pub fn server(&self, index: u8) -> Site {
        self.servers.get(usize::from(index)).cloned().unwrap_or_default()
    }
}

/// Where sockets are opened and programs run: this machine's own network (the default), or a namespace.
#[derive(Clone, Default)]
pub struct Site(Option<Arc<Namespace>>);

impl Site {
    /// Does something there: what it opens belongs there, and `/proc/sys/net` is that of the place.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
        match &self.0 {
            None => Ok(job()),
            Some(namespace) => namespace.run(job).await,
        }
    }

    /// A TCP socket for an address of that family. It stays where it was made, whoever connects it.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn socket(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        let open = move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        self.run(open).await.map_err(io::Error::other)?
    }

    /// A connection to an address.
    ///
    /// # Errors
    /// Those of connect(2).
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.socket(to).await?.connect(to).await
    }

    /// A listener on an address.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    pub async fn listen(&self, on: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
        let socket = self.socket(on).await?;
        // One that has just ended here has left connections in TIME_WAIT on this port.
        socket.set_reuseaddr(true)?;
        socket.bind(on)?;
        socket.listen(backlog)
    }

    /// The file that stands for the namespace, for [`Program::network`](super::keeper::Program::network).
    pub fn file(&self) -> Option<PathBuf> {
        self.0.as_ref().map(|namespace| namespace.file())
    }

    /// Makes sure that nobody listens there yet. In a namespace of a lab nobody can.
    ///
    /// # Errors
    /// Somebody does.
    pub fn expect_free(&self, address: SocketAddr) -> anyhow::Result<()> {
        if self.0.is_some() { Ok(()) } else { expect_free(address) }
    }

    /// The namespace, if it is one.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Site").field(&self.file()).finish()
    }
}

impl From<Namespace> for Site {
    fn from(namespace: Namespace) -> Self {
        Self(Some(Arc::new(namespace)))
    }
}
