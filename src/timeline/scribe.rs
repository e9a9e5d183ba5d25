//! The scribe: brings lines to a file from a thread of its own, so that a slow disk stops nobody who observes.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;

use super::file::write_line;
use crate::timing;

/// A file that grows every [`timing::FLUSH_EVERY`]. What was handed over and is not there yet follows when it is closed or
/// dropped.
pub(super) struct Scribe {
    desk: Arc<Desk>,
    /// `None` once it is closed.
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Desk {
    lines: Mutex<Vec<u8>>,
    /// The first error of writing. Nothing is written after it.
    trouble: Mutex<Option<io::Error>>,
}

impl Scribe {
    /// Takes over a file.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(mut file: File) -> io::Result<Self> {
        let desk = Arc::<Desk>::default();
        let (end, ended) = channel();
        let work = {
            let desk = desk.clone();
            move || {
                loop {
                    let over = !matches!(ended.recv_timeout(timing::FLUSH_EVERY), Err(RecvTimeoutError::Timeout));
                    let lines = std::mem::take(&mut *locked(&desk.lines));
                    if let Err(error) = file.write_all(&lines) {
                        *locked(&desk.trouble) = Some(error);
                        break;
                    }
                    if over {
                        break;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("recording".to_owned()).spawn(work)?;
        Ok(Self { desk, thread: Some((end, thread)) })
    }

    /// Hands over a line.
    pub(super) fn write(&self, line: &impl Serialize) {
        let mut trouble = locked(&self.desk.trouble);
        if trouble.is_some() {
            return;
        }
        // Writing to memory does not fail, and whatever is recorded can be told in JSON.
        *trouble = write_line(&mut *locked(&self.desk.lines), line).err();
    }

    /// Waits until everything is in the file.
    ///
    /// # Errors
    /// The first error of writing: not everything is.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.end();
        locked(&self.desk.trouble).take().map_or(Ok(()), Err)
    }

    fn end(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            // It does not panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.end();
    }
}

/// A panic elsewhere leaves whole lines behind: they are still evidence.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
