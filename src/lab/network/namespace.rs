//! One anonymous network namespace.
//!
//! A thread of its own made it and never leaves it; jobs are sent there. No task enters a namespace, since a task moves
//! between threads. Nothing has a name in /run/netns: the kernel removes the namespace with the last thread, socket, process
//! and descriptor in it, also after SIGKILL.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, ours until this is dropped.
pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    file: File,
}

/// rtnetlink in a namespace.
pub(super) struct Links {
    pub(super) handle: rtnetlink::Handle,
    _driver: AbortOnDropHandle<()>,
}

impl Namespace {
    /// A new one, in which there is nothing but a loopback interface that is down. `name` is for its thread.
    ///
    /// # Errors
    /// The kernel does not allow it: it takes CAP_SYS_ADMIN.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).map_err(anyhow::Error::from);
            let _ = tell.send(made.and_then(|()| File::open("/proc/thread-self/ns/net").map_err(Into::into)));
            for job in queue {
                job();
            }
        })?;
        let file = told.recv().context("its thread has ended")?;
        Ok(Self { jobs, file: file.context("cannot make a network namespace")? })
    }

    /// Does something on a thread that is in the namespace: what it opens belongs there, and so do the processes it starts.
    ///
    /// # Errors
    /// A job before it has panicked.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
        let (tell, told) = oneshot::channel();
        self.order(move || drop(tell.send(job())))?;
        told.await.map_err(|_| gone())
    }

    /// [`Namespace::run`] for whoever cannot await.
    pub(super) fn run_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (tell, told) = mpsc::channel();
        self.order(move || drop(tell.send(job())))?;
        told.recv().map_err(|_| gone())
    }

    /// Has something done, without waiting for it.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub(super) fn order(&self, job: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        self.jobs.send(Box::new(job)).map_err(|_| gone())
    }

    /// The file that stands for it as long as this process lives.
    pub(super) fn file(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Sets `/proc/sys/net/NAME`, which is another for each namespace.
    ///
    /// # Errors
    /// There is no such setting, or not that value.
    pub(in crate::lab) async fn sysctl(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let path = Path::new("/proc/sys/net").join(name);
        let (to, value) = (path.clone(), value.to_owned());
        self.run(move || std::fs::write(to, value)).await?.with_context(|| format!("cannot set {}", path.display()))
    }

    /// rtnetlink there.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub(super) async fn links(&self) -> anyhow::Result<Links> {
        let runtime = Handle::current();
        let opened = self.run(move || {
            let _runtime = runtime.enter();
            rtnetlink::new_connection()
        });
        let (connection, handle, _) = opened.await?.context("no rtnetlink")?;
        Ok(Links { handle, _driver: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }
}

fn gone() -> anyhow::Error {
    anyhow!("the thread of a network namespace has ended")
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Moves this thread, which has to be the only one of its process, into a namespace.
///
/// # Errors
/// The file stands for no network namespace, or the kernel does not allow it.
pub(in crate::lab) fn enter(file: &Path) -> anyhow::Result<()> {
    let entered = File::open(file)
        .map_err(anyhow::Error::from)
        .and_then(|namespace| setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Into::into));
    entered.with_context(|| format!("cannot enter the network namespace {}", file.display()))
}
