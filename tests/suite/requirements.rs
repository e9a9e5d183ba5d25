//! `REQUIREMENTS.md` says what the spec says.

use std::collections::HashSet;

use rollproof::report::requirements_markdown;
use rollproof::spec::{requirement, requirements};

#[test]
fn requirements_md_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/REQUIREMENTS.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == requirements_markdown(),
        "REQUIREMENTS.md is not what src/spec says; run: cargo run -- list --markdown > REQUIREMENTS.md"
    );
}

#[test]
fn every_requirement_is_on_the_page_once() {
    let page = requirements_markdown();
    for it in requirements() {
        assert_eq!(page.matches(&format!("\n## {}\n", it.id)).count(), 1, "{}", it.id);
        assert!(page.contains(it.sentence) && page.contains(it.source) && page.contains(it.remedy), "{}", it.id);
    }
    assert!(page.ends_with('\n') && !page.ends_with("\n\n"));
}

#[test]
fn ids_are_unique_and_found() {
    let mut ids = HashSet::new();
    for it in requirements() {
        assert!(ids.insert(it.id), "{} is there twice", it.id);
        assert_eq!(requirement(it.id), Some(it));
    }
}
