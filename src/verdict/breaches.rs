//! Of several breaches, the one that is told: what stands goes before what a stall of ours explains, and only of that one the observations around
//! it are looked for.
//!
//! ```text
//! late while we did not run, late at 12 s, late at 14 s    ->  violated: late at 12 s
//! late while we did not run                                ->  inconclusive
//! none                                                     ->  nothing to tell
//! ```

use super::Verdict;
use super::conclusive::{self, Rests};
use super::facts::Facts;

/// A violation that is not yet told in full.
pub(super) struct Breach<'a> {
    pub(super) rests: Rests,
    pub(super) expected: String,
    pub(super) actual: String,
    /// The observations around it.
    pub(super) excerpt: Box<dyn Fn() -> Vec<String> + 'a>,
}

impl Breach<'_> {
    fn told(self) -> Verdict {
        Verdict::Violated { expected: self.expected, actual: self.actual, excerpt: (self.excerpt)() }
    }
}

/// The [first of several breaches](conclusive::first_breach) that stands; else why the first of them does not.
pub(super) fn first_breach<'a>(facts: &Facts<'_>, breaches: impl IntoIterator<Item = Breach<'a>>) -> Option<Verdict> {
    conclusive::first_breach(facts, breaches.into_iter().map(|breach| (breach.rests, breach)), Breach::told)
}
