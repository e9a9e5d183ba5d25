//! `REQUIREMENTS.md`, generated from the [`spec`](crate::spec).

use crate::spec::excuse::EXCUSES;
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
    page += "
# Excuses

What a failure may be excused by: on a condition that the recording has to show, and within a budget. Results say how often each was granted, of how
many: `excused: closed-while-idle 1 of 2`. Nothing else excuses anything.
";
    for it in EXCUSES {
        let known = match it.requirements {
            [] => "every claim about time".to_owned(),
            ids => ids.join(", "),
        };
        page += &format!(
            "\n## {}\n\n{}\n\n- Budget: {}\n- Granted by: {}\n- Used by: {known}\n",
            it.id, it.condition, it.budget, it.source
        );
    }
    page
}
