//! Reports: the numbers are those of the summary, nothing of it is markup, and it needs nothing but itself.

mod common;

use common::{SMALL, run, stderr, summary};
use serde_json::Value;
use std::path::Path;

/// A name that would do something if it were not escaped.
const NAME: &str = "run.name=<script>alert(1)</script> | `x` & \"quoted\"";

/// A class likewise.
const CLASS: &str = "<img src=x onerror=alert(2)>";

fn trained() -> &'static (tempfile::TempDir, Value, Value) {
    static TRAINED: std::sync::OnceLock<(tempfile::TempDir, Value, Value)> = std::sync::OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let blocks = summary(&run(folder.path(), &[SMALL.as_slice(), &["--set", NAME]].concat()));
        let whole = [SMALL[..8].to_vec(), vec!["--end-to-end", "--set", "run.name=baseline"]].concat();
        let whole = summary(&run(folder.path(), &whole));
        (folder, blocks, whole)
    })
}

/// The one way in which a report has images.
const IMAGE: &str = "<img src=\"data:image/png;base64,";

fn id(summary: &Value) -> &str {
    summary["run"].as_str().expect("an id")
}

fn report(args: &[&str]) -> String {
    let made = run(trained().0.path(), &[&["report", "--out", "-"], args].concat());
    assert!(made.status.success(), "{}", stderr(&made));
    String::from_utf8(made.stdout).expect("text")
}

/// The cells of the first row of a Markdown report that begins with a name.
fn row<'a>(markdown: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("| {name} |");
    let line =
        markdown.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {name} in {markdown}"));
    line.trim_matches('|').split('|').map(str::trim).skip(1).collect()
}

fn percent(value: &Value) -> String {
    format!("{:.2} %", 100.0 * value.as_f64().expect("a number"))
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

#[test]
fn the_numbers_are_those_of_the_summary() {
    let (_, summary, whole) = trained();
    let text = report(&[id(summary), "--markdown"]);
    assert_eq!(row(&text, "test accuracy"), [percent(&summary["accuracy"]["test"])]);
    assert_eq!(
        row(&text, "validation accuracy, on which exits were calibrated"),
        [percent(&summary["accuracy"]["validation"])]
    );
    let inference = &summary["inference"];
    let number = |name: &str| inference[name].as_f64().expect("a number");
    assert_eq!(row(&text, "compute efficiency"), [format!("{:.2}x", number("compute_efficiency"))]);
    assert_eq!(row(&text, "synaptic operations per input"), [grouped(number("synops_per_sample"))]);
    assert_eq!(row(&text, "multiply-accumulates per input"), [grouped(number("macs_per_sample"))]);
    let cost = row(&text, "with exits, as the package answers");
    assert_eq!(cost[..2], [grouped(number("synops_per_sample")), grouped(number("macs_per_sample"))]);
    let nanojoules = (0.9 * number("synops_per_sample") + 4.6 * number("macs_per_sample")) / 1e3;
    assert_eq!(cost[2], format!("{nanojoules:.3} nJ"));
    let full = row(&text, "the full network, without exits");
    let of = |cells: &[&str]| {
        cells[..2].iter().map(|cell| cell.replace(',', "").parse::<f64>().expect("a count")).sum::<f64>()
    };
    assert!((of(&full) / of(&cost) - number("compute_efficiency")).abs() < 1e-3, "{full:?} over {cost:?}");
    for block in summary["blocks"].as_array().expect("blocks") {
        let cells = row(&text, &block["block"].to_string());
        assert_eq!(cells[0], block["classes"].to_string());
        assert_eq!(cells[2..4], [percent(&block["accuracy"]), percent(&block["exit_fraction"])]);
        let trained = block["train_samples"].as_f64().expect("samples") * block["epochs"].as_f64().expect("epochs");
        assert_eq!(cells[6], grouped(trained));
    }
    // 7,000 images, the tenth held out, two epochs of two later blocks; both have six of ten classes.
    assert!(text.contains("Selection: blocks after the first left out "), "{text}");

    let beside = report(&[id(summary), "--baseline", id(whole), "--markdown"]);
    let cells = row(&beside, "test accuracy");
    assert_eq!(cells, [percent(&summary["accuracy"]["test"]), percent(&whole["accuracy"]["test"])]);
    assert!(row(&beside, "run.end\\_to\\_end").contains(&"true"), "{beside}");
}

#[test]
fn the_package_has_its_report_and_a_card() {
    let (folder, summary, _) = trained();
    let file = folder.path().join(summary["report"].as_str().expect("a report"));
    let written = std::fs::read_to_string(&file).expect("the summary names it");
    assert_eq!(written.trim_end(), report(&[id(summary)]).trim_end(), "the command makes the same again");
    let model = file.parent().expect("a folder");
    assert_eq!(report(&[model.to_str().expect("utf-8")]).trim_end(), written.trim_end(), "by its folder");
    let card = std::fs::read_to_string(model.join("README.md")).expect("a card");
    let metadata = card.split("---\n").nth(1).expect("a metadata block");
    assert!(
        metadata.contains("pipeline_tag: image-classification") && metadata.contains("library_name: bloctrain"),
        "{metadata}"
    );
    assert!(metadata.contains(&format!("value: {}\n", summary["accuracy"]["test"])), "{metadata}");
    assert!(!card.contains("<script>"), "{card}");
}

#[test]
fn samples_of_every_exit_agree_with_the_summary() {
    let (folder, summary, _) = trained();
    let read = |file: &str| -> Value {
        let path = folder.path().join(summary["model"].as_str().expect("a model")).join(file);
        serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
    };
    let (samples, figures) = (read("samples.json"), read("figures.json"));
    let exits = samples["exits"].as_array().expect("exits");
    let sum = |field: &str| exits.iter().filter_map(|exit| exit[field].as_f64()).sum::<f64>();
    assert_eq!(Some(sum("answered")), figures["samples"].as_f64());
    let accuracy = summary["accuracy"]["test"].as_f64().expect("an accuracy");
    assert!((sum("right") / sum("answered") - accuracy).abs() < 1e-9, "{accuracy}");
    for (exit, block) in exits.iter().zip(summary["blocks"].as_array().expect("blocks")) {
        let share = exit["answered"].as_f64().expect("a count") / sum("answered");
        assert!((share - block["exit_fraction"].as_f64().expect("a share")).abs() < 1e-9, "{exit}");
        let shown = exit["samples"].as_array().expect("samples");
        assert_eq!(shown.len() as u64, exit["answered"].as_u64().expect("a count").min(8));
        for sample in shown {
            assert_eq!(sample["said"].as_array().map(|said| said.len() as u64), exit["block"].as_u64(), "{sample}");
            assert!(sample["png"].as_str().is_some_and(|png| png.starts_with("iVBORw0KGgo")), "{sample}");
        }
    }
}

#[test]
fn it_is_one_file_in_which_nothing_from_outside_is_markup() {
    let (_, summary, whole) = trained();
    for html in
        [report(&[id(summary)]), report(&[id(summary), id(whole)]), report(&[id(whole), "--baseline", id(summary)])]
    {
        assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "the name is shown");
        assert!(html.matches(IMAGE).count() >= 8, "test images of every exit");
        let html = html.replace(IMAGE, "<image ");
        for forbidden in ["<script", "<img", "<link", "<iframe", "src=", "@import", "url(", "href=\"h", "NaN"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
        assert!(html.matches("<svg").count() >= 4, "curves, classes, confusion, exits");
        balanced(&html);
    }
}

/// Every element that is opened is closed, in order.
fn balanced(html: &str) {
    let body = html.split_once("<body>").expect("a body").1;
    let mut open: Vec<&str> = vec!["html", "body"];
    for tag in body.split('<').skip(1) {
        let inner = tag.split_once('>').unwrap_or_else(|| panic!("a tag without an end: {tag:.60}")).0;
        if let Some(name) = inner.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag:.60}");
        } else if !inner.ends_with('/') {
            open.push(inner.split_whitespace().next().expect("a name"));
        }
    }
    assert_eq!(open, [] as [&str; 0]);
}

#[test]
fn classes_with_markup_in_their_names_are_shown_as_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/ankle-boot.png");
    for class in [CLASS, "pipe | and `tick`"] {
        for (split, count) in [("train", 24), ("test", 8)] {
            let place = folder.path().join("data").join(split).join(class);
            std::fs::create_dir_all(&place).expect("a folder");
            for number in 0..count {
                std::fs::copy(&image, place.join(format!("{number}.png"))).expect("copied");
            }
        }
    }
    let args = [
        "train",
        "--json",
        "--data",
        "data",
        "--set",
        "network.width=2",
        "--set",
        "train.epochs=1",
        "--set",
        "train.warmup_epochs=0",
        "--set",
        "train.batch=8",
    ];
    let summary = summary(&run(folder.path(), &args));
    let file = folder.path().join(summary["report"].as_str().expect("a report"));
    let html = std::fs::read_to_string(&file).expect("read");
    assert!(html.contains("&lt;img src=x onerror=alert(2)&gt;") && !html.replace(IMAGE, "").contains("<img"));
    balanced(&html);
    let made = run(folder.path(), &["report", id(&summary), "--markdown", "--out", "-"]);
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(text.contains("pipe \\| and \\`tick\\`") && !text.contains("<img"), "{text}");
}

#[test]
fn wrong_runs_and_constants_are_named() {
    let (folder, summary, _) = trained();
    let refused = |args: &[&str]| {
        let output = run(folder.path(), &[&["report"], args].concat());
        (output.status.code(), stderr(&output))
    };
    let (code, text) = refused(&["r0"]);
    assert!(code == Some(1) && text.contains("bloctrain show r0"), "{text}");
    let (code, text) = refused(&[id(summary), "--energy", "joule=1"]);
    assert!(code == Some(2) && text.contains("there are synop, mac"), "{text}");
    let (code, text) = refused(&[id(summary), "--out", "no/such/folder.html"]);
    assert!(code == Some(1) && text.contains("--out"), "{text}");
}
