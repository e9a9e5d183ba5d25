//! How fast recordings are judged and read: `cargo bench --bench judge`.
//!
//! The recordings are made up: what two requesters, a writer and a watch see, at 50 ms steps or as much denser as it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{Bounds, Profile, Timers};
use rollproof::verdict;

/// A recording of about `size` observations in which all is well and nothing is disturbed.
fn recording(size: u64) -> Recording {
    const STEP_NS: u64 = 5_000_000;
    let exchange = |probe: &str, step: u64, status: u16| Exchange {
        audit_id: format!("rollproof-{probe}-3aed53-{step}"),
        connection: Some(ConnectionUse {
            local: format!("127.0.0.1:{}", 32768 + step % 28000),
            remote: "127.77.1.1:16443".to_owned(),
            reused: false,
            idle: Duration::ZERO,
        }),
        protocol: Protocol::Http1,
        phase: Phase::Done,
        status: Some(status),
        retry_after: None,
        failure: None,
        server: Some(format!("apiserver-{}", step % 2)),
        took: Duration::from_nanos(2_000_000 + step % 997 * 1000),
    };
    let request = |probe: &str, on, step| {
        let exchange = exchange(probe, step, 200);
        Event::Request(Request { probe: probe.to_owned(), on, retries: None, exchange, attempts: Vec::new() })
    };
    let mut observations = Vec::new();
    let mut see = |at: u64, event| observations.push(Observation { at: Moment(at), event });
    see(1, Event::Listed(Listed { probe: "raw-watch".to_owned(), revision: Some(1), objects: Vec::new() }));
    for step in 1..=size / 4 {
        let at = step * STEP_NS;
        see(at, request("requester-new", ConnectionKind::New, step));
        see(at + 1, request("requester-reused", ConnectionKind::Reused, step));
        let object = format!("object-{}", step / 8);
        let verb = if step % 8 == 0 { Verb::Create } else { Verb::Update };
        let (probe, exchange) = ("writer".to_owned(), exchange("writer", step, 201));
        let revision = Some(step + 1);
        see(at + 2, Event::Write(Write { probe, change: step, verb, object: object.clone(), revision, exchange }));
        let (probe, kind) = ("raw-watch".to_owned(), ChangeKind::Applied);
        see(at + 4_000_000, Event::Delivered(Delivered { probe, kind, object, revision: step + 1, change: step }));
    }
    observations.sort_by_key(|seen| seen.at);
    Recording { header: header(), observations }
}

fn header() -> Header {
    let timers = Timers::of(Profile::Pr);
    let judged = spec::watch::ALL.iter().chain(&spec::rollout::ALL[..2]);
    Header {
        format: FORMAT,
        suite: String::new(),
        scenario: "bench".to_owned(),
        cell: Cell {
            control_plane: "local".to_owned(),
            kubernetes: "v1.37.2".to_owned(),
            apiservers: 2,
            balancer: "builtin".to_owned(),
            protocol: "http1".to_owned(),
            client: "kube-rs".to_owned(),
            profile: Profile::Pr,
        },
        seed: 0,
        began: String::new(),
        began_at: Moment(0),
        disturbance: None,
        servers: Vec::new(),
        subjects: Vec::new(),
        timers,
        machine: BTreeMap::new(),
        bounds: Bounds::with(&timers),
        judged_by: judged
            .map(|requirement| JudgedBy { requirement: requirement.id.to_owned(), expected: Expected::Upheld })
            .collect(),
    }
}

fn judging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("judge in memory");
    group.sample_size(10);
    for size in [100_000, 300_000, 1_000_000] {
        let recording = recording(size);
        let count = recording.observations.len() as u64;
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::from_parameter(size), &recording, |bencher, recording| {
            bencher.iter(|| verdict::judge_all(recording).expect("known requirements"));
        });
    }
}

fn reading(criterion: &mut Criterion) {
    /// Thirty minutes at 200 requests a second, each audited or delivered: what a nightly run leaves.
    const NIGHTLY: u64 = 30 * 60 * 200 * 2;
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("nightly.jsonl");
    recording(NIGHTLY).save(&path).expect("the disk has room");
    let plain = std::fs::metadata(&path).expect("just written").len();
    let path = compress(&path).expect("the disk has room");
    let packed = std::fs::metadata(&path).expect("just written").len();
    eprintln!("{NIGHTLY} observations: {} MB as JSON lines, {} MB compressed", plain / 1_000_000, packed / 1_000_000);
    let mut group = criterion.benchmark_group("read and judge");
    group.sample_size(10).throughput(Throughput::Elements(NIGHTLY));
    group.bench_function("nightly.jsonl.zst", |bencher| {
        bencher
            .iter(|| verdict::judge_all(&Recording::load(&path).expect("just written")).expect("known requirements"));
    });
}

criterion_group!(benches, judging, reading);
criterion_main!(benches);
