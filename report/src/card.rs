//! The model card of a package: `README.md`, with the metadata block that model hubs read.

use crate::Run;
use crate::document::Table;
use crate::markdown::{escaped, to_table};
use crate::number::{bytes, channels, count, percent, times};
use serde_json::Value;
use std::fmt::Write;

/// Most classes that a card names.
const NAMED: usize = 40;

/// A text as YAML takes it, whatever it holds: JSON's strings are YAML's. What could be markup is written as numbers,
/// for readers who take the block for Markdown.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// The card of a run's package.
pub fn card(run: &Run) -> String {
    let (summary, spec, data) = (&run.summary, &run.spec, &run.dataset);
    let name = format!("bloctrain-{}", run.title());
    let mut text = String::from("---\nlibrary_name: bloctrain\npipeline_tag: image-classification\n");
    text.push_str("tags:\n- spiking-neural-network\n- early-exit\n- image-classification\n- bloctrain\n");
    // Writing into a text does not fail.
    let _ = write!(
        text,
        "metrics:\n- accuracy\nmodel-index:\n- name: {}\n  results:\n  - task:\n\
         \x20     type: image-classification\n    dataset:\n      name: {}\n      type: {}\n      split: test\n\
         \x20   metrics:\n    - type: accuracy\n      value: {}\n      name: test accuracy with early exits\n\
         ---\n\n",
        quoted(&name),
        quoted(&data.name),
        quoted(&data.name),
        summary.accuracy.test,
    );
    let mode = if spec.run.end_to_end { "end to end" } else { "block by block (BlocTrain)" };
    let _ = write!(
        text,
        "# {}\n\n\
         A deep spiking network with early exits that classifies images, trained {mode} by\n\
         [bloctrain](https://github.com/bloctrain/bloctrain).\n\n",
        escaped(run.title())
    );
    let shape = data.shape;
    let mut table = Table::words(&["figure", "value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("test accuracy", percent(summary.accuracy.test));
    row("validation accuracy", percent(summary.accuracy.validation));
    row("compute efficiency by exits", times(summary.inference.compute_efficiency));
    row("synaptic operations per input", count(summary.inference.synops_per_sample));
    row("MACs per input", count(summary.inference.macs_per_sample));
    row("blocks", summary.blocks.len().to_string());
    row("time steps", spec.encoding.steps.to_string());
    row("input", format!("{} x {} pixels, {}", shape.width, shape.height, channels(shape.channels)));
    let peak = summary.blocks.iter().map(|block| block.peak_memory_bytes).max().unwrap_or(0);
    row("peak memory of a training step", bytes(peak));
    text.push_str(&to_table(&table));
    let _ = write!(
        text,
        "\n## Use\n\n```\nbloctrain predict . photo.png     # class, probability, exit block\n\
         bloctrain eval    .               # the same accuracy, on the test data\n\
         bloctrain curve   .               # accuracy against compute\n```\n\n\
         `report.html` beside this file has the course of training, class accuracies, confusion, exits and costs.\n\n\
         ## Data\n\n\
         {}: {} images to train on, {} held out to decide hard classes and to calibrate exits, {} to test on, \
         seed {}.\nDigest {}.\n",
        escaped(&data.name),
        count(data.train as f64),
        count(data.validation as f64),
        count(data.test as f64),
        spec.run.seed,
        data.digest,
    );
    let classes: Vec<String> = data.classes.iter().take(NAMED).map(|class| escaped(class)).collect();
    let more = data.classes.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let _ = write!(text, "\nClasses: {}{more}.\n", classes.join(", "));
    let _ = write!(
        text,
        "\n## Limits\n\n\
         It tells these classes apart and knows no others: an image of something else gets one of them. Accuracy was\n\
         measured on data like those of its training. Compute is a count of operations, not of energy or time.\n",
    );
    for note in &summary.notes {
        let _ = write!(text, "\nNote: {}\n", escaped(note));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_hold_any_text_and_no_markup() {
        let text = quoted("<b> \"x\" & \n: #");
        assert_eq!(text, r#""\u003cb\u003e \"x\" \u0026 \n: #""#);
        assert_eq!(serde_json::from_str::<String>(&text).ok().as_deref(), Some("<b> \"x\" & \n: #"));
    }
}
