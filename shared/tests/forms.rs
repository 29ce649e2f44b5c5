//! The serialised form of every kind of task: stores and workers of earlier versions have it. The texts are what the
//! program wrote before each kind had a file of its own.

use bloctrain_shared::task::{Failure, Output, Report, Source, Split, Stage, Task, Work};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

const DIGEST: &str = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";

/// An object of a key, in place of `<key>`.
fn whole(text: &str) -> String {
    let mut parts = text.split(['<', '>']);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    while let (Some(key), Some(rest)) = (parts.next(), parts.next()) {
        whole += &format!(r#"{{"key":"{key}","digest":"{DIGEST}","bytes":7}}{rest}"#);
    }
    whole
}

/// What is read from a text is written as the same text.
fn check<T: Serialize + DeserializeOwned>(text: &str) -> T {
    let text = whole(text);
    let value: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(serde_json::to_string(&value).expect("plain data"), text);
    value
}

fn keys<'a>(objects: &[&'a bloctrain_shared::task::ObjectRef]) -> Vec<&'a str> {
    objects.iter().map(|object| object.key.as_str()).collect()
}

/// The kinds that some forms are of: the first word of each.
fn kinds<'a>(forms: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    forms.filter_map(|form| form.split('"').nth(1)).collect()
}

const METRICS: &str = r#"{"epochs":1,"epoch_samples":9,"loss":0.5,"accuracy":0.25,"validation_accuracy":null,"firing_rate":0.1,"samples":9,"seconds":1.5,"waiting_seconds":0.0,"peak_memory_bytes":3,"parameters":4}"#;

#[test]
fn work_keeps_its_form() {
    let blocks = r#""blocks":[{"block":1,"classes":[0,1],"hard":[0,1],"weights":<w1>,"detector":<d1>},{"block":2,"classes":[0,1],"hard":[],"weights":<w2>,"detector":null}]"#;
    let cache = r#"{"cache":[{"split":"train","view":1,"shard":2,"object":<c>}]}"#;
    let confusion = r#"{"classes":2,"counts":[1,2,3,4]}"#;
    let finish = format!(
        r#"{{"finish":{{{blocks},"validation":[<v>],"test":[<t>],"progress":[{{"rounds":[{METRICS}],"confusion":{confusion}}}],"cache":{{"bytes":1,"uncompressed_bytes":2}},"seconds":1.5}}}}"#
    );
    let forms = [
        (r#"{"train":{"round":0,"classes":[0,1],"from":null,"source":"images"}}"#.to_owned(), vec![]),
        (
            format!(
                r#"{{"train":{{"round":3,"replica":2,"classes":[0,1],"from":{{"weights":<w>,"optimizer":<o>}},"source":{cache}}}}}"#
            ),
            vec!["w", "o", "c"],
        ),
        (
            format!(
                r#"{{"merge":{{"round":3,"classes":[0,1],"from":{{"weights":<w>,"optimizer":<o>}},"replicas":[{{"weights":<r>,"metrics":{METRICS}}}],"source":{cache}}}}}"#
            ),
            vec!["w", "o", "r", "c"],
        ),
        (format!(r#"{{"validate":{{"shard":2,"classes":[0,1],"weights":<w>,"source":{cache}}}}}"#), vec!["w", "c"]),
        (format!(r#"{{"detect":{{"classes":[0,1],"hard":[1],"weights":<w>,"source":{cache}}}}}"#), vec!["w", "c"]),
        (
            format!(
                r#"{{"export":{{"split":"validation","view":0,"shard":2,"classes":[0,1],"hard":[1],"weights":<w>,"source":{cache}}}}}"#
            ),
            vec!["w", "c"],
        ),
        (
            format!(r#"{{"train":{{"round":0,"classes":[0,1],"from":null,"among":<a>,"source":{cache}}}}}"#),
            vec!["a", "c"],
        ),
        (
            r#"{"score":{"shard":2,"classes":[0,1],"weights":<w>,"source":"images"}}"#.to_owned(),
            vec!["w"],
        ),
        (
            r#"{"score":{"shard":2,"classes":[0,1],"weights":<w2>,"among":<a>,"source":{"fresh":{"blocks":[{"classes":2,"weights":<w1>}],"validation":[]}}}}"#
                .to_owned(),
            vec!["w2", "a", "w1"],
        ),
        (r#"{"select":{"classes":[0,1],"scores":[<s1>,<s2>]}}"#.to_owned(), vec!["s1", "s2"]),
        (r#"{"select":{"classes":[0,1],"among":<a>,"scores":[<s>]}}"#.to_owned(), vec!["a", "s"]),
        (
            r#"{"detect":{"classes":[0,1],"hard":[0,1],"weights":<w>,"among":<a>,"selection":<s>,"source":"images"}}"#.to_owned(),
            vec!["w", "a", "s"],
        ),
        (
            format!(
                r#"{{"export":{{"split":"train","view":1,"shard":2,"classes":[0,1],"hard":[0,1],"weights":<w>,"among":<a>,"selection":<s>,"source":{cache}}}}}"#
            ),
            vec!["w", "a", "s", "c"],
        ),
        (format!(r#"{{"evaluate":{{"split":"test","shard":2,{blocks}}}}}"#), vec!["w1", "d1", "w2"]),
        (finish, vec!["w1", "d1", "w2", "v", "t"]),
    ];
    let all = Stage::ALL.map(Stage::name);
    assert_eq!(kinds(forms.iter().map(|(form, _)| form.as_str())), BTreeSet::from(all), "a form of every kind");
    for (form, named) in forms {
        assert_eq!(keys(&check::<Work>(&form).objects()), named, "{form}");
    }
}

#[test]
fn outputs_keep_their_form() {
    let summary = r#"{"run":"r","dataset":"d","accuracy":{"test":0.5,"validation":0.5},"blocks":[],"inference":{"compute_efficiency":1.0,"synops_per_sample":0.0,"macs_per_sample":0.0,"parameter_overhead":1.0},"cache":{"bytes":0,"uncompressed_bytes":0},"wall_seconds":0.0,"model":"","report":""}"#;
    let checkpoint = r#""checkpoint":{"weights":<w>,"optimizer":<o>}"#;
    let forms = [
        (format!(r#"{{"train":{{{checkpoint},"finished":true,"metrics":{METRICS}}}}}"#), vec!["w", "o"]),
        (format!(r#"{{"replica":{{{checkpoint},"complete":true,"metrics":{METRICS}}}}}"#), vec!["w", "o"]),
        (r#"{"validate":{"confusion":{"classes":2,"counts":[1,2,3,4]}}}"#.to_owned(), vec![]),
        (r#"{"score":{"scores":<s>}}"#.to_owned(), vec!["s"]),
        (r#"{"select":{"selection":<s>,"samples":9,"selected":5}}"#.to_owned(), vec!["s"]),
        (r#"{"select":{"selection":<s>,"samples":9,"selected":5,"wrong":1}}"#.to_owned(), vec!["s"]),
        (r#"{"detect":{"detector":<d>}}"#.to_owned(), vec!["d"]),
        (r#"{"detect":{"detector":null}}"#.to_owned(), vec![]),
        (
            r#"{"export":{"shard":{"split":"train","view":1,"shard":2,"object":<c>},"uncompressed_bytes":8,"reused":false}}"#
                .to_owned(),
            vec!["c"],
        ),
        (r#"{"evaluate":{"records":<e>}}"#.to_owned(), vec!["e"]),
        (format!(r#"{{"finish":{{"summary":{summary}}}}}"#), vec![]),
    ];
    let mut made = kinds(forms.iter().map(|(form, _)| form.as_str()));
    // A merge makes a round as training does; a replica makes its part of one.
    assert!(made.insert("merge") && made.remove("replica"));
    assert_eq!(made, BTreeSet::from(Stage::ALL.map(Stage::name)), "a form of every kind");
    for (form, named) in forms {
        assert_eq!(keys(&check::<Output>(&form).objects()), named, "{form}");
    }
}

#[test]
fn tasks_and_reports_keep_their_form() {
    let id = r#"{"block":1,"stage":"train","part":0,"replica":2}"#;
    let task: Task = check(&format!(
        r#"{{"id":{id},"run":"r","submission":<s>,"work":{{"validate":{{"shard":0,"classes":[0],"weights":<w>,"source":"images"}}}}}}"#
    ));
    assert_eq!(task.id.to_string(), "block1/train/0/replica2");
    let plain = r#"{"block":0,"stage":"finish","part":0}"#;
    let report: Report = check(&format!(
        r#"{{"task":{plain},"lease_epoch":5,"seconds":1.5,"result":{{"Err":{{"input-lost":{{"key":"k","problem":"p"}}}}}}}}"#
    ));
    assert!(matches!(report.result, Err(Failure::InputLost { content: false, .. })) && report.inputs.is_none());
    let report: Report = check(&format!(
        r#"{{"task":{plain},"lease_epoch":5,"seconds":1.5,"inputs":"{DIGEST}","result":{{"Err":{{"fatal":{{"message":"m"}}}}}}}}"#
    ));
    assert_eq!(report.inputs.map(|inputs| inputs.to_string()).as_deref(), Some(DIGEST));
    let report: Report = check(&format!(
        r#"{{"task":{plain},"lease_epoch":5,"seconds":1.5,"result":{{"Err":{{"input-lost":{{"key":"k","problem":"p","content":true}}}}}}}}"#
    ));
    assert!(matches!(report.result, Err(Failure::InputLost { content: true, .. })));
    assert_eq!(check::<Source>(r#""images""#), Source::Images);
    assert_eq!(check::<Split>(r#""validation""#), Split::Validation);
}
