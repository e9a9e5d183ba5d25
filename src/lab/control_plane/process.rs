//! An apiserver as a process of this machine, held by the keeper.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio_util::task::AbortOnDropHandle;

use super::apiserver::Life;
use crate::lab::keeper::{Child, Exit, Keeper, Program};
use crate::timeline::{Restart, Step};
use crate::timing;

/// How it is started, and what runs.
pub(super) struct Process {
    keeper: Keeper,
    program: Program,
    /// Which binary the next start executes, if not `program`'s.
    newer: Mutex<Option<PathBuf>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    /// Records the end of the process, whoever caused it.
    exit_recorder: AbortOnDropHandle<()>,
}

impl Process {
    pub(super) fn new(keeper: Keeper, program: Program) -> Self {
        Self { keeper, program, newer: Mutex::default(), running: Mutex::default() }
    }

    pub(super) fn pid(&self) -> anyhow::Result<i32> {
        Ok(self.child()?.pid())
    }

    pub(super) async fn start(&self, life: &Life) -> anyhow::Result<()> {
        life.step(Step::Started, "");
        let mut program = self.program.clone();
        if let Some(newer) = self.newer.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            program.program = newer;
        }
        let child = self.keeper.spawn(program).await?;
        let (life, watched) = (life.clone(), child.clone());
        let exit_recorder = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Ok(Exit { at, status }) = watched.exited().await {
                life.recorder.record_at(at, life.told(Step::Exited, &status));
            }
        }));
        *self.running() = Some(Running { child, exit_recorder });
        Ok(())
    }

    pub(super) fn replace_program(&self, newer: &Path) {
        *self.newer.lock().unwrap_or_else(PoisonError::into_inner) = Some(newer.to_owned());
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> Option<String> {
        self.running().as_ref().and_then(|running| running.child.exit()).map(|exit| exit.status)
    }

    pub(super) async fn stop(
        &self,
        life: &Life,
        how: Restart,
        grace: Option<Duration>,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let running = self.running().take();
        let Running { child, mut exit_recorder } = running.with_context(|| self.idle())?;
        let (signal, step) = match how {
            Restart::Graceful => (Signal::TERM, Step::TermSent),
            Restart::Killed => (Signal::KILL, Step::KillSent),
        };
        life.step(step, "");
        child.signal(signal).await?;
        let grace = grace.filter(|grace| how == Restart::Graceful && *grace < limit);
        if tokio::time::timeout(grace.unwrap_or(limit), &mut exit_recorder).await.is_err() {
            // A kubelet's patience has an end too. That it came to this is in the recording.
            life.step(Step::KillSent, grace.map_or("", |_| "the grace period is over"));
            child.signal(Signal::KILL).await?;
            let recorded = tokio::time::timeout(timing::STRIKE, exit_recorder).await;
            recorded.with_context(|| format!("{} has not ended {:?} after SIGKILL", life.name, timing::STRIKE))??;
        }
        // Else the exit recorder ended because the keeper did.
        child.exited().await.map(|_| ())
    }

    /// Freezes it. What is returned thaws it.
    pub(super) async fn freeze(&self, life: &Life) -> anyhow::Result<Box<dyn Fn() + Send + Sync>> {
        let child = self.child()?;
        life.step(Step::Frozen, "");
        child.signal(Signal::STOP).await?;
        Ok(Box::new(move || child.signal_soon(Signal::CONT)))
    }

    fn child(&self) -> anyhow::Result<Child> {
        self.running().as_ref().map(|running| running.child.clone()).with_context(|| self.idle())
    }

    fn idle(&self) -> String {
        format!("{} does not run", self.program.program.display())
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
