//! What the test process and its keeper say to each other: JSON lines over the keeper's stdin and stdout.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::timeline::Moment;

/// To the keeper.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// Comes back in the answer.
    pub(super) id: u64,
    pub(super) command: Command,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    /// Take a free lab number and make its folder.
    Claim,
    /// Start a child for a lab.
    Start(Program),
    /// Send a signal to a child, if it still runs.
    Signal { pid: i32, signal: i32 },
    /// Kill a lab's children, wait for them, remove its folder.
    Strike { lab: u8 },
    /// A lab is about to have containers: strike them with it.
    HasContainers { lab: u8 },
    /// Leave a lab up after the test process has gone.
    Keep { lab: u8 },
}

/// A program to start, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// The lab whose child it becomes.
    pub lab: u8,
    /// A path, or a name to be found in PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Additions to the environment.
    pub env: BTreeMap<String, String>,
    /// The file of the network namespace that it runs in; the keeper's own network where `None`.
    pub network: Option<PathBuf>,
    /// Its current folder; the test process's own where `None`.
    pub folder: Option<PathBuf>,
    /// Its stdout and stderr are appended here. A file and not a pipe: a reader that stops must not stop the writer.
    pub log: PathBuf,
}

/// From the keeper.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notice {
    Answer { id: u64, answer: Result<Answer, String> },
    Exited { pid: i32, exit: Exit },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Claimed { lab: u8, folder: PathBuf },
    Started { pid: i32 },
    Done,
}

/// How and when a child ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exit {
    /// When the keeper saw it.
    pub at: Moment,
    /// For example `exit status: 0` or `signal: 9 (SIGKILL)`.
    pub status: String,
}
