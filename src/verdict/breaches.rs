//! Of several breaches, the one that is told: what stands goes before what a stall of ours explains, and only of that one the observations around
//! it are looked for.
//!
//! ```text
//! late while we did not run, late at 12 s, late at 14 s    ->  violated: late at 12 s
//! late while we did not run                                ->  inconclusive
//! none                                                     ->  nothing to tell
//! ```

use super::Verdict;
use super::conclusive::{Rests, breach};
use super::facts::Facts;

/// A violation that is not yet told in full.
pub(super) struct Breach<'a> {
    pub(super) rests: Rests,
    pub(super) expected: String,
    pub(super) actual: String,
    /// The observations around it.
    pub(super) excerpt: Box<dyn Fn() -> Vec<String> + 'a>,
}

/// The first of several breaches that stands; else why the first of them does not. What is quoted is looked for only once, so that many
/// breaches take no longer than one.
pub(super) fn first_breach<'a>(facts: &Facts<'_>, breaches: impl IntoIterator<Item = Breach<'a>>) -> Option<Verdict> {
    let mut doubted = None;
    for Breach { rests, expected, actual, excerpt } in breaches {
        match breach(facts, rests, Verdict::Violated { expected, actual, excerpt: Vec::new() }) {
            Verdict::Violated { expected, actual, .. } => {
                return Some(Verdict::Violated { expected, actual, excerpt: excerpt() });
            }
            other => doubted = doubted.or(Some(other)),
        }
    }
    doubted
}
