//! Verdicts and oracle agree: what the sentences call broken is never upheld, and what they do not is never violated.
//!
//! How many runs are made is `PROPTEST_CASES`, if that is set. A run that fails is shrunk to the least plan that does, which it names.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rollproof::timeline::*;
use rollproof::verdict::{Verdict, judge_all};

use super::oracle::{Oracle, Said};
use super::{Bug, Plan, simulate};

fn disturbance() -> impl Strategy<Value = Option<Restart>> {
    proptest::sample::select(vec![None, Some(Restart::Graceful), Some(Restart::Killed)])
}

fn for_plans<S: Strategy<Value = Plan>>(cases: u32, plans: &S, claim: impl Fn(Plan) -> Result<(), TestCaseError>) {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = asked.unwrap_or(cases);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]));
    runner.run(plans, claim).unwrap_or_else(|error| panic!("{error}"));
}

/// Each requirement, what the oracle says, and the verdict.
fn judged(plan: &Plan) -> Vec<(&'static str, Said, Verdict)> {
    let recording = simulate(plan);
    let oracle = Oracle::of(&recording);
    let judgements = judge_all(&recording).expect("known requirements");
    judgements.into_iter().map(|it| (it.requirement.id, oracle.says(it.requirement.id), it.verdict)).collect()
}

/// What does not agree.
fn disagreement(judged: &[(&'static str, Said, Verdict)]) -> Option<String> {
    let wrong = judged.iter().find(|(_, said, verdict)| match said {
        Said::Broken(_) => *verdict == Verdict::Upheld,
        Said::Fine => matches!(verdict, Verdict::Violated { .. }),
        Said::Open => false,
    });
    wrong.map(|(id, said, verdict)| format!("{id}: the sentence says {said:?}, the verdict is {verdict:#?}"))
}

#[test]
fn a_correct_history_is_never_violated() {
    let plans = (disturbance(), any::<u64>()).prop_map(|(disturbance, seed)| Plan { disturbance, seed, bug: None });
    let (all, upheld) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let otherwise = std::cell::RefCell::new(std::collections::BTreeSet::new());
    for_plans(60, &plans, |plan| {
        for (id, said, verdict) in judged(&plan) {
            prop_assert!(!matches!(said, Said::Broken(_)), "the oracle is wrong about {id}: {said:?}");
            let violated = matches!(verdict, Verdict::Violated { .. }) && said == Said::Fine;
            prop_assert!(!violated, "{id}: {verdict:#?}");
            // Whether there was a relist is another matter.
            if said == Said::Fine && id != "WATCH-7" {
                all.set(all.get() + 1);
                upheld.set(upheld.get() + u32::from(verdict == Verdict::Upheld));
                if let Verdict::Inconclusive { why } = verdict {
                    otherwise.borrow_mut().insert((id, why));
                }
            }
        }
        Ok(())
    });
    let (all, upheld, otherwise) = (all.get(), upheld.get(), otherwise.into_inner());
    let some: Vec<_> = otherwise.iter().take(10).collect();
    assert!(upheld * 10 >= all * 9, "only {upheld} of {all} are upheld, so that nothing is shown: {some:#?}");
}

#[test]
fn a_history_with_a_bug_is_judged_as_the_sentences_say() {
    let bugs = proptest::sample::select(Bug::ALL.to_vec());
    let plans = (disturbance(), any::<u64>(), bugs, 0..100_u64);
    let plans =
        plans.prop_map(|(disturbance, seed, (bug, _), share)| Plan { disturbance, seed, bug: Some((bug, share)) });
    for_plans(150, &plans, |plan| {
        prop_assert_eq!(disagreement(&judged(&plan)), None);
        Ok(())
    });
}

/// Runs with that bug, of each kind.
fn runs_with(bug: Bug) -> impl Iterator<Item = Plan> {
    (0..12).map(move |seed| {
        let disturbance = [Some(Restart::Graceful), Some(Restart::Killed), None][seed as usize % 3];
        Plan { disturbance, seed, bug: Some((bug, 17 * seed % 90)) }
    })
}

/// A bug that nobody could see would show nothing.
#[test]
fn each_bug_breaks_its_sentence() {
    let mut unseen = Bug::ALL.to_vec();
    unseen.retain(|(bug, breaks)| {
        let broken = |plan: Plan| matches!(Oracle::of(&simulate(&plan)).says(breaks), Said::Broken(_));
        !runs_with(*bug).any(broken)
    });
    assert!(unseen.is_empty(), "the oracle never sees {unseen:?}");
}

#[test]
fn each_bug_is_found() {
    let mut missed = Bug::ALL.to_vec();
    missed.retain(|(bug, breaks)| {
        let found = |plan: Plan| {
            let judged = judged(&plan);
            let own = judged.iter().find(|(id, ..)| id == breaks);
            own.is_some_and(|(_, said, verdict)| matches!((said, verdict), (Said::Broken(_), Verdict::Violated { .. })))
        };
        rollproof::spec::requirement(breaks).is_some() && !runs_with(*bug).any(found)
    });
    assert!(missed.is_empty(), "never both broken by the sentence and violated by the verdict: {missed:?}");
}
