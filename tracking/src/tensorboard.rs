//! TensorBoard's event files: records of TFRecord, each an `Event` in protobuf.
//!
//! A record is the length of its content (64 bits, little-endian), the masked CRC-32C of these 8 bytes, the content,
//! and its masked CRC-32C; see TensorFlow's `lib/io/record_writer.h` and `util/event.proto`. A folder with such a file
//! is a run of TensorBoard; here each block is one, so that blocks lie over each other by epoch.
//!
//! The content of a file follows from the run alone: one that is there already is continued where it ends, and written
//! anew only where it holds something else.

use crate::{Course, scalars};
use prost::Message;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What is at the start of every event file.
const VERSION: &str = "brain.Event:2";

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Values),
}

#[derive(Clone, PartialEq, Message)]
struct Values {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// The checksum of records: rotated, and moved by a constant, since checksums of what holds checksums are weak.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn record(event: &Event) -> Vec<u8> {
    let content = event.encode_to_vec();
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), &content, &masked(&content).to_le_bytes()].concat()
}

/// Event files, each with the name of its run of TensorBoard.
fn files(course: &Course) -> Vec<(String, Vec<u8>)> {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let start = || {
        record(&Event { wall_time: seconds(course.created_ms), step: 0, what: Some(What::FileVersion(VERSION.into())) })
    };
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let epochs = course.epochs();
    for (at_ms, line) in &epochs {
        let name = format!("block{}", line.block);
        if files.last().is_none_or(|(last, _)| *last != name) {
            files.push((name, start()));
        }
        let mut value: Vec<Value> = scalars(line)
            .into_iter()
            .map(|scalar| Value { tag: scalar.name.to_owned(), simple_value: scalar.value as f32 })
            .collect();
        let rates = (1..).zip(line.firing_rates.iter().flatten());
        value.extend(rates.map(|(layer, rate): (u32, &f64)| Value {
            tag: format!("firing_rates/layer{layer}"),
            simple_value: *rate as f32,
        }));
        let event = Event {
            wall_time: seconds(*at_ms),
            step: i64::from(line.epoch),
            what: Some(What::Summary(Values { value })),
        };
        if let Some((_, content)) = files.last_mut() {
            content.extend(record(&event));
        }
    }
    let results = course.results();
    if !results.is_empty() {
        let of =
            |scalar: crate::Scalar| Value { tag: format!("result/{}", scalar.name), simple_value: scalar.value as f32 };
        let value = results.into_iter().map(of).collect();
        let at_ms = epochs.last().map_or(course.created_ms, |(at_ms, _)| *at_ms);
        let event = Event { wall_time: seconds(at_ms), step: 0, what: Some(What::Summary(Values { value })) };
        files.push(("result".into(), [start(), record(&event)].concat()));
    }
    files
}

/// Writes a run below a folder, as `FOLDER/RUN/blockN/events.out.tfevents...`; gives the run's folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write(folder: &Path, course: &Course) -> std::io::Result<PathBuf> {
    let own = folder.join(&course.run);
    let file = format!("events.out.tfevents.{}.bloctrain", course.created_ms / 1_000);
    for (name, content) in files(course) {
        let place = own.join(name);
        std::fs::create_dir_all(&place)?;
        put(&place.join(&file), &content)?;
    }
    Ok(own)
}

/// Makes a file hold some content: by what is missing at its end, where it has the beginning.
fn put(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let found = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        found => found?,
    };
    match content.strip_prefix(found.as_slice()) {
        Some([]) => Ok(()),
        Some(rest) => File::options().append(true).create(true).open(path)?.write_all(rest),
        None => {
            let new = path.with_extension("new");
            std::fs::write(&new, content)?;
            std::fs::rename(&new, path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::course;

    /// The events of a file, checked as a reader checks them.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(sum, masked(length).to_le_bytes());
            let (content, rest) = rest.split_at(u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(sum, masked(content).to_le_bytes());
            events.push(Event::decode(content).expect("an event"));
            bytes = rest;
        }
        events
    }

    #[test]
    fn checksums_are_those_of_the_format() {
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720, appendix B.4 has others).
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn files_are_continued_and_never_doubled() {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = course();
        let first = Course { lines: whole.lines[..1].to_vec(), ..whole.clone() };
        let own = write(folder.path(), &first).expect("written");
        let file = own.join("block1/events.out.tfevents.1700000000.bloctrain");
        let begun = std::fs::read(&file).expect("a file");
        for _ in 0..2 {
            write(folder.path(), &whole).expect("written");
        }
        let bytes = std::fs::read(&file).expect("a file");
        assert!(bytes.starts_with(&begun));
        let events = read(&bytes);
        assert_eq!(events.iter().map(|event| event.step).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(events[0].what, Some(What::FileVersion(VERSION.into())));
        let Some(What::Summary(Values { value })) = &events[2].what else { panic!("{events:?}") };
        assert!(value.contains(&Value { tag: "loss".into(), simple_value: 0.5 }));
        assert!(value.contains(&Value { tag: "firing_rates/layer2".into(), simple_value: 0.2 }));
        assert!(!own.join("block2").exists(), "its epoch is under way");
        // A round was lost and trained again: the file is another one.
        let mut again = whole;
        again.lines[0].loss = 3.0;
        write(folder.path(), &again).expect("written");
        assert_eq!(read(&std::fs::read(&file).expect("a file")).len(), 3);
        // Cut off in the middle of a record, as by a full disk.
        std::fs::write(&file, &bytes[..bytes.len() - 3]).expect("cut");
        write(folder.path(), &course()).expect("written");
        assert_eq!(std::fs::read(&file).expect("a file"), bytes);
    }
}
