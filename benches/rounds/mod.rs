//! Two rivals, measured in turn: A B, B A, A B, ... so that what else the machine does meets both.

use std::fmt;

/// One thing that is measured of each rival.
pub(crate) struct Figure {
    /// What it is, with its unit.
    pub(crate) name: &'static str,
    /// Each round's value of ours and of theirs.
    pub(crate) rounds: Vec<(f64, f64)>,
}

/// How many rounds: the environment's BENCH_ROUNDS, or as many as given.
pub(crate) fn count(default: usize) -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Measures both, `count` times. A measurement returns as many values as there are names.
pub(crate) fn alternate<const N: usize>(
    count: usize,
    names: [&'static str; N],
    mut ours: impl FnMut() -> anyhow::Result<[f64; N]>,
    mut theirs: impl FnMut() -> anyhow::Result<[f64; N]>,
) -> anyhow::Result<[Figure; N]> {
    let mut figures = names.map(|name| Figure { name, rounds: Vec::new() });
    for round in 0..count {
        let (ours, theirs) = if round % 2 == 0 {
            let ours = ours()?;
            (ours, theirs()?)
        } else {
            let theirs = theirs()?;
            (ours()?, theirs)
        };
        for (figure, pair) in figures.iter_mut().zip(ours.into_iter().zip(theirs)) {
            figure.rounds.push(pair);
        }
    }
    Ok(figures)
}

/// Least, median and greatest of ours, of theirs, and of ours / theirs in each round.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = |value: fn(&(f64, f64)) -> f64, digits: usize| {
            let mut values: Vec<f64> = self.rounds.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let [least, median, most] = [0, values.len() / 2, values.len() - 1].map(|index| values[index]);
            format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
        };
        let digits = if self.rounds.iter().any(|(ours, _)| *ours >= 100.0) { 0 } else { 3 };
        let (ours, theirs) = (spread(|pair| pair.0, digits), spread(|pair| pair.1, digits));
        let ratio = spread(|pair| pair.0 / pair.1, 2);
        write!(f, "| {} | {ours} | {theirs} | {ratio} |", self.name)
    }
}

/// Prints figures as a table in Markdown: the median, and the least to the greatest.
pub(crate) fn print(what: &str, theirs: &str, figures: &[Figure]) {
    let rounds = figures.first().map_or(0, |figure| figure.rounds.len());
    println!("\n| {what}, {rounds} rounds | rollproof | {theirs} | ratio |\n| --- | --- | --- | --- |");
    for figure in figures {
        println!("{figure}");
    }
}
