//! The pen: everything that observes writes through a [`Recorder`].

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::file::{End, EndLine, HeaderLine};
use super::scribe::Scribe;
use super::{Event, Header, Lifecycle, Moment, Observation, Recording};

/// A shared pen. What is seen is kept in memory for the verdicts, and goes to the recording's file as it happens, so that
/// an interrupted run loses at most the last [`timing::FLUSH_EVERY`](crate::timing::FLUSH_EVERY).
#[derive(Clone, Default)]
pub struct Recorder {
    pages: Arc<Mutex<Pages>>,
}

#[derive(Default)]
struct Pages {
    header: Option<Header>,
    observations: Vec<Observation>,
    file: Option<Scribe>,
    path: PathBuf,
    /// Those who want to know what becomes of apiservers.
    followers: Vec<UnboundedSender<Lifecycle>>,
}

impl Recorder {
    /// Writes down what has just been seen.
    pub fn record(&self, event: Event) {
        self.record_at(Moment::now(), event);
    }

    /// Writes down something that began at `at`.
    pub fn record_at(&self, at: Moment, event: Event) {
        let mut pages = self.pages();
        if let Event::Lifecycle(step) = &event {
            pages.followers.retain(|follower| follower.send(step.clone()).is_ok());
        }
        let seen = Observation { at, event };
        if let Some(file) = &pages.file {
            file.write(&seen);
        }
        pages.observations.push(seen);
    }

    /// Opens the recording's file, once it is known what the recording is about. What was seen before is in it too.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn begin(&self, header: Header, path: &Path) -> std::io::Result<()> {
        let mut pages = self.pages();
        let file = Scribe::start(File::create_new(path)?)?;
        file.write(&HeaderLine { header: &header });
        for seen in &pages.observations {
            file.write(seen);
        }
        path.clone_into(&mut pages.path);
        pages.header = Some(header);
        pages.file = Some(file);
        Ok(())
    }

    /// The steps in the life of apiservers that are recorded from now on.
    pub fn follow_lifecycle(&self) -> UnboundedReceiver<Lifecycle> {
        let (sender, receiver) = unbounded_channel();
        self.pages().followers.push(sender);
        receiver
    }

    /// How many observations so far satisfy `which`.
    pub fn count(&self, which: impl Fn(&Observation) -> bool) -> usize {
        self.pages().observations.iter().filter(|seen| which(seen)).count()
    }

    /// What `pick` takes from the observations so far.
    pub fn collect<T, C: FromIterator<T>>(&self, pick: impl Fn(&Observation) -> Option<T>) -> C {
        self.pages().observations.iter().filter_map(pick).collect()
    }

    /// The first observation from the end that `pick` takes.
    pub fn last<T>(&self, pick: impl Fn(&Observation) -> Option<T>) -> Option<T> {
        self.pages().observations.iter().rev().find_map(pick)
    }

    /// Closes the recording and hands it over, sorted by time. `None` if it was never begun.
    ///
    /// # Errors
    /// Its file could not be written to the end (a full disk). The file holds what fitted; recording has gone on in memory.
    pub fn finish(&self) -> anyhow::Result<Option<Recording>> {
        let mut pages = self.pages();
        let observations = pages.observations.len();
        let closed = pages.file.take().map_or(Ok(()), |file| {
            // An end line says that the recording is whole.
            file.write(&EndLine { end: End { observations } });
            file.close()
        });
        let recording = pages.header.take().map(|header| {
            let mut observations = std::mem::take(&mut pages.observations);
            observations.sort_by_key(|seen| seen.at);
            Recording { header, observations }
        });
        match closed {
            Ok(()) => Ok(recording),
            Err(error) => {
                let (kept, path) = (kept(&pages.path), pages.path.display());
                bail!(
                    "cannot write the recording {path}: {error}; it holds the first {kept} of {observations} observations"
                )
            }
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // A panic elsewhere while recording leaves whole observations behind: they are still evidence.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many whole observations a file holds, whatever was written to it.
fn kept(path: &Path) -> usize {
    let Ok(file) = File::open(path) else { return 0 };
    let whole = BufReader::new(file).split(b'\n').map_while(Result::ok).skip(1);
    whole.filter(|line| serde_json::from_slice::<Observation>(line).is_ok()).count()
}
