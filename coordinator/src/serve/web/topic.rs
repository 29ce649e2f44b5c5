//! What a stream is about: named parts as JSON texts, and the events that bring somebody's copy of them up to date.

use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;

/// A part of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// One value: sent anew when it differs.
    Value(Bytes),
    /// Values by key: those that differ are sent, and the keys of those that are gone.
    Rows(BTreeMap<String, Bytes>),
    /// Values in order, by ascending numbers: what came behind is sent; all of them when something before it changed.
    Lines(Vec<(u64, Bytes)>),
}

/// All parts by name.
pub(super) type Parts = BTreeMap<&'static str, Part>;

/// A value as a part's text.
pub(super) fn text<T: Serialize>(value: &T) -> Bytes {
    // Views are plain data with string keys, which always serialise.
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_else(|_| Bytes::from_static(b"null"))
}

/// An event of server-sent events; the texts are JSON without line breaks.
fn event(name: &str, pieces: &[&[u8]], into: &mut Vec<u8>) {
    into.extend_from_slice(b"event: ");
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b"\ndata: ");
    pieces.iter().for_each(|piece| into.extend_from_slice(piece));
    into.extend_from_slice(b"\n\n");
}

/// `{"reset":...,"set":{...},"gone":[...]}`
fn rows<'a>(
    name: &str,
    reset: bool,
    set: impl Iterator<Item = (&'a String, &'a Bytes)>,
    gone: &[&String],
    into: &mut Vec<u8>,
) {
    let mut body = Vec::new();
    for (key, value) in set {
        if !body.is_empty() {
            body.push(b',');
        }
        body.extend_from_slice(&text(key));
        body.push(b':');
        body.extend_from_slice(value);
    }
    let reset: &[u8] = if reset { b"true" } else { b"false" };
    event(name, &[b"{\"reset\":", reset, b",\"set\":{", &body, b"},\"gone\":", &text(&gone), b"}"], into);
}

/// `{"reset":...,"lines":[...]}`
fn lines(name: &str, reset: bool, lines: &[(u64, Bytes)], into: &mut Vec<u8>) {
    let body: Vec<&[u8]> = lines.iter().map(|(_, line)| line.as_ref()).collect();
    let reset: &[u8] = if reset { b"true" } else { b"false" };
    event(name, &[b"{\"reset\":", reset, b",\"lines\":[", &body.join(&b','), b"]}"], into);
}

/// Writes the event that gives a whole part.
fn whole(name: &str, part: &Part, into: &mut Vec<u8>) {
    match part {
        Part::Value(value) => event(name, &[value], into),
        Part::Rows(values) => rows(name, true, values.iter(), &[], into),
        Part::Lines(values) => lines(name, true, values, into),
    }
}

/// Writes the event that brings an old copy of a part up to date; nothing where it is.
fn change(name: &str, old: &Part, new: &Part, into: &mut Vec<u8>) {
    match (old, new) {
        _ if old == new => {}
        (Part::Rows(old), Part::Rows(new)) => {
            let gone: Vec<&String> = old.keys().filter(|key| !new.contains_key(*key)).collect();
            rows(name, false, new.iter().filter(|(key, value)| old.get(*key) != Some(value)), &gone, into);
        }
        (Part::Lines(old), Part::Lines(new)) => {
            let last = old.last().map(|(number, _)| *number);
            let seen = new.iter().take_while(|(number, _)| Some(*number) <= last).count();
            // What both still have must be the same; the oldest may have gone.
            match old.ends_with(&new[..seen]) && (seen > 0 || old.is_empty()) {
                true => lines(name, false, &new[seen..], into),
                false => lines(name, true, new, into),
            }
        }
        _ => whole(name, new, into),
    }
}

/// The events that give everything to whoever comes.
pub(super) fn all(parts: &Parts) -> Bytes {
    let mut into = Vec::new();
    parts.iter().for_each(|(name, part)| whole(name, part, &mut into));
    into.into()
}

/// The events that bring a copy up to date; empty where it is.
pub(super) fn changes(old: &Parts, new: &Parts) -> Bytes {
    let mut into = Vec::new();
    for (name, part) in new {
        match old.get(name) {
            Some(old) => change(name, old, part, &mut into),
            None => whole(name, part, &mut into),
        }
    }
    into.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(events: &Bytes) -> Vec<(String, Value)> {
        let text = String::from_utf8(events.to_vec()).expect("text");
        let read = |event: &str| {
            let (name, data) =
                event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: ")).expect("an event");
            (name.to_owned(), serde_json::from_str(data).expect("JSON"))
        };
        text.split_terminator("\n\n").map(read).collect()
    }

    fn parts(value: u32, rows: &[(&str, u32)], lines: &[(u64, &str)]) -> Parts {
        Parts::from([
            ("value", Part::Value(text(&value))),
            ("rows", Part::Rows(rows.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect())),
            ("lines", Part::Lines(lines.iter().map(|(number, line)| (*number, text(line))).collect())),
        ])
    }

    #[test]
    fn a_copy_is_brought_up_to_date() {
        let first = parts(1, &[("a", 1), ("b\"<", 2)], &[(0, "x"), (1, "y")]);
        let everything = read(&all(&first));
        assert_eq!(everything[1], ("rows".into(), json!({ "reset": true, "set": { "a": 1, "b\"<": 2 }, "gone": [] })));
        assert_eq!(everything[0], ("lines".into(), json!({ "reset": true, "lines": ["x", "y"] })));
        assert!(changes(&first, &first).is_empty());
        let second = parts(2, &[("b\"<", 3), ("c", 4)], &[(1, "y"), (2, "z")]);
        assert_eq!(
            read(&changes(&first, &second)),
            [
                ("lines".into(), json!({ "reset": false, "lines": ["z"] })),
                ("rows".into(), json!({ "reset": false, "set": { "b\"<": 3, "c": 4 }, "gone": ["a"] })),
                ("value".into(), json!(2)),
            ]
        );
    }

    #[test]
    fn lines_that_changed_are_sent_again() {
        let of = |lines: &[(u64, &str)]| parts(1, &[], lines);
        let told = |old: &[(u64, &str)], new: &[(u64, &str)]| read(&changes(&of(old), &of(new)));
        let all = |lines: Value| vec![("lines".to_owned(), json!({ "reset": true, "lines": lines }))];
        assert_eq!(told(&[(0, "x"), (1, "y")], &[(0, "x")]), all(json!(["x"])), "a round was lost");
        assert_eq!(told(&[(0, "x"), (1, "y")], &[(0, "x"), (1, "z")]), all(json!(["x", "z"])));
        assert_eq!(told(&[(0, "x")], &[(5, "y")]), all(json!(["y"])), "a gap");
        assert_eq!(told(&[], &[(0, "x")]), [("lines".to_owned(), json!({ "reset": false, "lines": ["x"] }))]);
    }
}
