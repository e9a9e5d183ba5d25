//! A cable that is slow: every packet arrives, and arrives late.
//!
//! The kernel holds each packet (NFQUEUE) until a thread of ours lets it go; nothing of it is copied. netem would need no thread, but many kernels
//! lack it, as many lack nftables' `queue`: the rule is one of iptables.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nfq::{Message, Queue};
use tokio::task::JoinHandle;

use super::black_hole::in_namespace;
use super::nft::program;
use super::{Namespace, Network, Site};
use crate::timing;

/// How many packets the kernel holds at most: more than any lab has under way.
const HELD: u32 = 65_535;

/// A cable that is slow until this is dropped.
#[must_use = "dropping the guard ends the fault"]
pub struct Delay {
    /// The balancer's, where packets are held in both directions.
    site: Site,
    rules: Vec<String>,
    /// Whoever lets packets go does so until this is dropped.
    going_on: Option<mpsc::Sender<()>>,
    holding: JoinHandle<io::Result<()>>,
}

impl Network {
    /// Makes every packet between the balancer and an apiserver late, in each direction. The apiserver's way to etcd and ours to it,
    /// past the balancer, are not affected.
    ///
    /// # Errors
    /// The lab has no namespaces, there is no iptables, or the kernel refuses.
    pub async fn delay(&self, index: u8, by: Duration) -> anyhow::Result<Delay> {
        /// Guards may overlap.
        static LAST: AtomicU16 = AtomicU16::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let site = self.balancer.clone();
        let queue = in_namespace(&site)?.run(move || queue(number)).await??;
        let (going_on, ended) = mpsc::channel();
        let holding = tokio::task::spawn_blocking(move || hold(queue, by, &ended));
        let mut delay = Delay { site, rules: Vec::new(), going_on: Some(going_on), holding };
        for rule in rules(&format!("to-apiserver-{index}"), number) {
            iptables(in_namespace(&delay.site)?, format!("-A {rule}")).await?;
            delay.rules.push(rule);
        }
        Ok(delay)
    }
}

impl Delay {
    /// Ends the fault: what is held goes on its way. Dropping the guard ends it soon.
    ///
    /// # Errors
    /// The kernel refuses, or did so before.
    pub async fn heal(mut self) -> anyhow::Result<()> {
        for rule in self.rules.drain(..) {
            iptables(in_namespace(&self.site)?, format!("-D {rule}")).await?;
        }
        self.going_on = None;
        (&mut self.holding).await?.context("cannot hold packets back")
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        // Before the queue ends: what comes to one that nobody reads is lost.
        let rules: Vec<_> = self.rules.drain(..).collect();
        let going_on = self.going_on.take();
        let ended = move || {
            rules.iter().for_each(|rule| drop(carry_out(&format!("-D {rule}"))));
            drop(going_on);
        };
        let _ = in_namespace(&self.site).map(|namespace| namespace.order(ended));
    }
}

/// Why packets cannot be held back here, and what to do about it; `None` if they can.
pub fn unmet() -> Option<String> {
    let tried = Namespace::new("delay-try").and_then(|namespace| {
        namespace.run_blocking(|| {
            queue(0)?;
            rules("lo", 0).iter().try_for_each(|rule| carry_out(&format!("-A {rule}")))
        })?
    });
    let error = tried.err()?;
    Some(format!(
        "{error:#}; run as root, with iptables (Debian: `apt-get install iptables`), on a kernel that has NFQUEUE"
    ))
}

/// What leads packets to and from a device into a queue.
fn rules(device: &str, queue: u16) -> [String; 2] {
    let rule = |way: &str| format!("{way} {device} -j NFQUEUE --queue-num {queue}");
    [rule("POSTROUTING -o"), rule("PREROUTING -i")]
}

async fn iptables(namespace: &Namespace, change: String) -> anyhow::Result<()> {
    namespace.run(move || carry_out(&change)).await?
}

fn carry_out(change: &str) -> anyhow::Result<()> {
    let changed = program("iptables").args(["-w", "-t", "mangle"]).args(change.split(' ')).output();
    let changed = changed.context("cannot start `iptables`")?;
    if !changed.status.success() {
        bail!("iptables does not take `{change}`: {}", String::from_utf8_lossy(&changed.stderr).trim());
    }
    Ok(())
}

/// A queue of the namespace that this is called in.
fn queue(number: u16) -> anyhow::Result<Queue> {
    let opened = Queue::open().and_then(|mut queue| {
        queue.bind(number)?;
        // Only the header, so that a packet costs little.
        queue.set_copy_range(number, 0)?;
        queue.set_recv_gso(number, true)?;
        queue.set_queue_max_len(number, HELD)?;
        queue.set_nonblocking(true);
        Ok(queue)
    });
    opened.context("the kernel gives no queue of packets (NFQUEUE)")
}

/// Lets each packet go when it has been held for long enough, until there is nobody at the other end of `ended`; then all.
fn hold(mut queue: Queue, by: Duration, ended: &mpsc::Receiver<()>) -> io::Result<()> {
    let mut held: VecDeque<(Instant, Message)> = VecDeque::new();
    loop {
        let over = ended.recv_timeout(timing::DELAY_STEP) != Err(RecvTimeoutError::Timeout);
        loop {
            match queue.recv() {
                Ok(packet) => held.push_back((Instant::now(), packet)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while held.front().is_some_and(|(since, _)| over || since.elapsed() >= by) {
            let Some((_, packet)) = held.pop_front() else { break };
            queue.verdict(packet)?;
        }
        if over {
            return Ok(());
        }
    }
}
