//! Verdicts: what a requirement says about a recording.

use crate::spec::Requirement;
use crate::timeline::Expected;

/// What became of a requirement in one recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was kept.
    Upheld,
    /// It was not.
    Violated {
        /// What the requirement asks for.
        expected: String,
        /// What was seen instead.
        actual: String,
        /// The observations that show it.
        excerpt: Vec<String>,
    },
    /// The recording does not tell.
    Inconclusive {
        /// What is missing.
        why: String,
    },
}

/// A number that goes with a verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it counts.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
}

/// A requirement's verdict, and what was expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The requirement.
    pub requirement: &'static Requirement,
    /// What the scenario expects.
    pub expected: Expected,
    /// What was found.
    pub verdict: Verdict,
    /// Main figure first.
    pub figures: Vec<Figure>,
}

impl Judgement {
    /// Whether the verdict is the expected one.
    pub fn passed(&self) -> bool {
        match self.verdict {
            Verdict::Upheld => self.expected == Expected::Upheld,
            Verdict::Violated { .. } => self.expected == Expected::Violated,
            Verdict::Inconclusive { .. } => false,
        }
    }
}

pub fn judge_all(_: &crate::timeline::Recording) -> anyhow::Result<Vec<Judgement>> { Ok(Vec::new()) }
