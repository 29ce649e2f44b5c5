//! The page on messages has every message of the code, and none that the code does not have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders with the code that people meet.
const SOURCES: [&str; 13] = [
    "src",
    "coordinator/src",
    "data/src",
    "infer/src",
    "kernel/src",
    "kernel/memory/src",
    "proto/src",
    "report/src",
    "shared/src",
    "store/src",
    "tracking/src",
    "worker/src",
    "worker/session/src",
];

/// What begins a message for people.
const MESSAGES: [&str; 4] = ["#[error(", "anyhow!(", "fatal(", "fatal(format!("];

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut open, mut found): (Vec<PathBuf>, Vec<PathBuf>) =
        (SOURCES.iter().map(|source| root.join(source)).collect(), Vec::new());
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).expect("a folder of the code").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("tests") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The code of a file, without its tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("a file of the code");
    let tests = ["#[cfg(test)]\nmod", "#[cfg(all(test"].iter().filter_map(|start| text.find(start)).min();
    text[..tests.unwrap_or(text.len())].to_owned()
}

/// The text literal at the beginning of a piece of code, and what follows it.
fn literal(code: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = code.strip_prefix('"')?.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((text, &code[at + 2..])),
            '\\' => match chars.next()?.1 {
                '\n' => text.push(' '),
                'n' => text.push('\n'),
                escaped => text.push(escaped),
            },
            char => text.push(char),
        }
    }
    None
}

/// All text literals of a piece of code. Comments and single characters are passed over.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code);
    while !rest.is_empty() {
        rest = if rest.starts_with("//") {
            rest.split_once('\n').map_or("", |(_, after)| after)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\''") {
            rest.get(3..).unwrap_or("")
        } else if let Some((text, after)) = literal(rest) {
            found.push(text);
            after
        } else {
            let mut chars = rest.chars();
            chars.next();
            chars.as_str()
        };
    }
    found
}

/// The part of a message before its advice, as the page has it.
fn head(message: &str) -> String {
    let (mut plain, mut depth) = (String::new(), 0);
    for char in message.replace("{{", "(").replace("}}", ")").chars() {
        match char {
            '{' => {
                depth += 1;
                plain.push('…');
            }
            '}' => depth -= 1,
            '`' => {}
            char if depth == 0 => plain.push(char),
            _ => {}
        }
    }
    let before = plain.split(';').next().unwrap_or_default();
    before.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether it says more than what others put into it.
fn says_something(head: &str) -> bool {
    head.split(|char: char| !char.is_alphabetic()).filter(|word| word.len() > 1).count() > 1
}

/// Whether an entry of the page is this message, or its beginning.
fn is_of(entry: &str, head: &str) -> bool {
    entry == head || entry.strip_suffix('…').is_some_and(|start| says_something(start) && head.starts_with(start))
}

fn spans(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('`').skip(1).step_by(2).map(head)
}

#[test]
fn every_message_is_on_the_page_and_the_page_has_no_other() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md"))
        .expect("the page");
    let entries: Vec<String> = spans(&page).collect();
    let (mut messages, mut texts) = (BTreeMap::new(), Vec::new());
    for path in sources() {
        let code = code(&path);
        texts.extend(literals(&code).iter().map(|text| head(text)));
        for start in MESSAGES {
            let pieces = code.match_indices(start).filter_map(|(at, _)| literal(code[at + start.len()..].trim_start()));
            messages
                .extend(pieces.map(|(text, _)| (head(&text), path.clone())).filter(|(head, _)| says_something(head)));
        }
    }
    assert!(messages.len() > 100, "the messages are found: {}", messages.len());
    let absent: Vec<String> = messages
        .iter()
        .filter(|(head, _)| !entries.iter().any(|entry| is_of(entry, head)))
        .map(|(head, path)| format!("{head}  ({})", path.display()))
        .collect();
    assert!(absent.is_empty(), "docs/troubleshooting.md does not have:\n{}", absent.join("\n"));

    // The first column of every table, and the list at the end, are messages.
    let list = page.split("\n## Messages of a worker's log").nth(1).expect("the list at the end");
    let rows = page.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split(" | ").next());
    let claimed = rows.flat_map(spans).chain(spans(list));
    let stale: Vec<String> =
        claimed.filter(|entry| !texts.iter().any(|text| is_of(entry, text) || text.contains(entry.as_str()))).collect();
    assert!(stale.is_empty(), "docs/troubleshooting.md has what the code does not say:\n{}", stale.join("\n"));
}
