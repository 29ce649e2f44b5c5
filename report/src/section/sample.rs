//! Test images of every exit, with what each block that ran said.

use crate::Run;
use crate::document::{Image, Section};
use crate::number::{count, percent};
use bloctrain_shared::sample::{BlockSaid, Sample, Samples};

pub(super) fn exits(section: &mut Section, run: &Run, samples: &Samples) {
    section.text(
        "Some test inputs of every exit, half of them answered wrongly where there are as many: the true class, what \
        every block that ran held most probable, and the answer.",
    );
    for exit in &samples.exits {
        let (answered, right) = (count(exit.answered as f64), exit.right as f64 / exit.answered.max(1) as f64);
        section.text(match exit.answered {
            0 => format!("No test input leaves behind block {}.", exit.block),
            _ => {
                format!(
                    "Behind block {} leave {answered} test inputs, {} of them answered rightly:",
                    exit.block,
                    percent(right)
                )
            }
        });
        section.images(exit.samples.iter().map(|sample| image(run, sample)).collect());
    }
}

fn image(run: &Run, sample: &Sample) -> Image {
    let sure = |probability: f32| format!("{:.0} %", 100.0 * probability);
    let said = |said: &BlockSaid| format!("block {}: {} {}", said.block, run.class(said.class), sure(said.confidence));
    let is_right = sample.answer == sample.label;
    let verdict = if is_right { "right" } else { "wrong" };
    let mut lines: Vec<String> = sample.said.iter().map(said).collect();
    lines.push(format!("{verdict}: {} {}", run.class(sample.answer), sure(sample.probability)));
    Image { png: sample.png.clone(), title: run.class(sample.label), lines, is_right }
}
