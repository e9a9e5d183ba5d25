//! What lies in ci/ and .github/ agrees with the suite.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rollproof::config::Config;
use rollproof::report::gate::Expectations;
use rollproof::timing::Profile;
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn expectations() -> Expectations {
    Expectations::parse(&read("ci/expectations.toml")).unwrap()
}

/// The rows of the nightly matrix: name, the configuration that it stands for, and its scenarios, if not all.
fn rows() -> Vec<(String, Config, Option<BTreeSet<String>>)> {
    let matrix: Value = serde_json::from_str(&read("ci/matrix.json")).unwrap();
    let rows = matrix["include"].as_array().unwrap().iter();
    rows.map(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{row} has no {key}")).to_owned();
        let settings = [
            ("ROLLPROOF_CONTROL_PLANE", text("control_plane")),
            ("ROLLPROOF_KUBERNETES_VERSION", text("kubernetes")),
            ("ROLLPROOF_BALANCER", text("balancer")),
            ("ROLLPROOF_PROFILE", text("profile")),
        ];
        let config = Config::parse(settings.into_iter().map(|(name, value)| (name.into(), value.into()))).unwrap();
        let scenarios = row["scenarios"].as_array();
        let scenarios = scenarios.map(|names| names.iter().map(|name| name.as_str().unwrap().to_owned()).collect());
        (text("row"), config, scenarios)
    })
    .collect()
}

#[test]
fn every_row_of_the_matrix_is_a_configuration_with_expectations() {
    let (expectations, mut seen) = (expectations(), Vec::new());
    for (row, config, scenarios) in rows() {
        assert!(!seen.contains(&row), "two rows are called {row}");
        let Config { control_plane, kubernetes_version, balancer, profile, .. } = &config;
        let version = kubernetes_version.as_deref().unwrap();
        let cell = format!("{control_plane}/{version}x2/{balancer}/http1+http2/kube-rs/{profile}");
        let expected = expectations.cells.iter().find(|it| it.name.matches(&cell));
        let expected = expected.unwrap_or_else(|| panic!("no [[cell]] for row {row}: {cell}"));
        assert_eq!(expected.scenarios, scenarios, "{cell} expects other scenarios than its row runs");
        if let Some(strange) = scenarios.and_then(|its| its.difference(&expectations.scenarios).next().cloned()) {
            panic!("row {row} runs {strange}, and there is no such scenario");
        }
        seen.push(row);
    }
    assert!(rows().iter().any(|(_, config, _)| config.profile == Profile::Nightly), "no row has the real durations");
    // Elsewhere they are skipped.
    let run: BTreeSet<_> = rows().into_iter().filter_map(|(.., scenarios)| scenarios).flatten().collect();
    let of_clusters = expectations.scenarios.iter().filter(|it| it.starts_with("cluster::"));
    assert_eq!(of_clusters.filter(|it| !run.contains(*it)).collect::<Vec<_>>(), [""; 0], "run by no row");
}

/// Every scenario in tests/rollout, as libtest names it.
fn scenarios() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rollout")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (mut is_test, mut cases) = (false, Vec::new());
        for line in fs::read_to_string(&path).unwrap().lines() {
            if line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(case) = line.strip_prefix("#[case::") {
                cases.push(case.split(['(', ']']).next().unwrap().to_owned());
            } else if let Some(function) = line.strip_prefix("async fn ").filter(|_| is_test) {
                let function = function.split('(').next().unwrap();
                match &cases[..] {
                    [] => names.extend([format!("{module}::{function}")]),
                    // rstest pads the number when there are ten or more.
                    cases => {
                        let width = cases.len().to_string().len();
                        let name = |(at, case)| format!("{module}::{function}::case_{:0width$}_{case}", at + 1);
                        names.extend(cases.iter().enumerate().map(name));
                    }
                }
                (is_test, cases) = (false, Vec::new());
            }
        }
    }
    names
}

#[test]
fn the_gate_expects_every_scenario_and_no_other() {
    let (expected, scenarios) = (expectations().scenarios, scenarios());
    let missing: Vec<_> = scenarios.difference(&expected).collect();
    assert!(missing.is_empty(), "ci/expectations.toml: `scenarios` lacks {missing:?}");
    let gone: Vec<_> = expected.difference(&scenarios).collect();
    assert!(gone.is_empty(), "ci/expectations.toml: there are no scenarios {gone:?}");
}

#[test]
fn workflows_pin_actions_by_commit() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows")).unwrap() {
        let path = entry.unwrap().path();
        for line in fs::read_to_string(&path).unwrap().lines().filter(|line| line.contains("uses: ")) {
            let (commit, version) =
                line.rsplit_once('@').and_then(|(_, pin)| pin.split_once(" # v")).unwrap_or_default();
            let pinned =
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()) && !version.is_empty();
            assert!(pinned, "{}: pin by the commit's hash, version in a comment: {line}", path.display());
        }
    }
}
