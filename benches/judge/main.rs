//! How fast recordings are judged and read: `cargo bench --bench judge`.

mod header;
mod made_up;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rollproof::timeline::{Recording, compress};
use rollproof::verdict::{self, Verdict};

use made_up::{STEPS_PER_SECOND, recording};

fn judging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("judge in memory");
    group.sample_size(10);
    for size in [125_000, 250_000, 500_000, 1_000_000] {
        let recording = recording(made_up::steps_of(size));
        let count = recording.observations.len();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &recording, |bencher, recording| {
            bencher.iter(|| verdict::judge_all(recording).expect("known requirements"));
        });
    }
}

fn reading(criterion: &mut Criterion) {
    /// What a nightly run leaves: thirty minutes.
    const NIGHTLY: u64 = 30 * 60 * STEPS_PER_SECOND;
    let made_up = recording(NIGHTLY);
    for judgement in verdict::judge_all(&made_up).expect("known requirements") {
        let id = judgement.requirement.id;
        match judgement.verdict {
            Verdict::Upheld => {}
            Verdict::Violated { actual, .. } => panic!("{id}: nothing went wrong in it, and yet {actual}"),
            Verdict::Inconclusive { why } => eprintln!("{id} costs too little here, it is inconclusive: {why}"),
        }
    }
    let observations = made_up.observations.len() as u64;
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("nightly.jsonl");
    made_up.save(&path).expect("the disk has room");
    drop(made_up);
    let plain = std::fs::metadata(&path).expect("just written").len();
    let path = compress(&path).expect("the disk has room");
    let packed = std::fs::metadata(&path).expect("just written").len();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    eprintln!(
        "30 minutes at 200 requests/s: {observations} observations, {:.1} MB as JSON lines, {:.1} MB compressed",
        megabytes(plain),
        megabytes(packed)
    );
    let mut group = criterion.benchmark_group("read and judge");
    group.sample_size(10).throughput(Throughput::Elements(observations));
    group.bench_function("nightly.jsonl.zst", |bencher| {
        bencher
            .iter(|| verdict::judge_all(&Recording::load(&path).expect("just written")).expect("known requirements"));
    });
}

criterion_group!(benches, judging, reading);
criterion_main!(benches);
