//! Text from elsewhere (servers, commands, panics), made safe for a terminal and for XML.

use std::path::Path;

/// Escapes what a terminal or XML 1.0 chokes on; line feeds and tabs stay.
///
/// ```text
/// "a\u{1b}[31m\r\n"  ->  "a\\u{1b}[31m\\r\n"
/// ```
/// Source: XML 1.0, section 2.2 (Char): no C0 control but tab, CR and LF; no U+FFFE, U+FFFF. C1 controls and DEL are
/// allowed there, but steer terminals; CR too, and an XML parser turns it into LF.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\t' => out.push(char),
            '\u{fffe}' | '\u{ffff}' => out.extend(char.escape_unicode()),
            char if char.is_control() => out.extend(char.escape_debug()),
            char => out.push(char),
        }
    }
    out
}

/// The text as one printable line of at most `most` characters; where it was cut, it ends in `…`.
pub fn one_line(text: &str, most: usize) -> String {
    // No more than can end up in the line is looked at: the text may be a megabyte.
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    let mut line = String::new();
    for word in words {
        if line.len() > most.saturating_mul(4) {
            break;
        }
        let end = word.char_indices().nth(most.saturating_add(1)).map_or(word.len(), |(at, _)| at);
        line.push_str(&printable(&word[..end]));
    }
    match line.char_indices().nth(most) {
        None => line,
        Some(_) => line.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A path as a person in the current folder would type it.
pub(super) fn typed(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let path = here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    printable(&path.display().to_string())
}
