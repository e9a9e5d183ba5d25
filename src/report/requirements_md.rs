//! `REQUIREMENTS.md`, generated from the [`spec`](crate::spec).

use crate::spec::{Need, requirements};

/// The text of `REQUIREMENTS.md`, with its last line feed: `rollproof list --markdown` prints it as it is.
pub fn requirements_markdown() -> String {
    let mut page = "\
# Requirements

<!-- Generated from src/spec: cargo run -- list --markdown > REQUIREMENTS.md -->

What rollproof judges. An id is never used again for something else. A requirement whose needs are not met in a lab is
skipped there, with the reason; `ROLLPROOF_REQUIRE` makes that an error.

| id | level | title |
| --- | --- | --- |
"
    .to_owned();
    for it in requirements() {
        page += &format!("| [{}](#{}) | {} | {} |\n", it.id, it.id.to_lowercase(), it.level, it.title);
    }
    for it in requirements() {
        let needs = match it.needs {
            [] => "nothing but a lab".to_owned(),
            needs => needs.iter().copied().map(Need::name).collect::<Vec<_>>().join(", "),
        };
        page += &format!(
            "\n## {}\n\n**{}: {}.** {}\n\n- Source: {}\n- Needs: {needs}\n- Where it is violated: {}\n",
            it.id, it.level, it.title, it.sentence, it.source, it.remedy
        );
    }
    page
}
