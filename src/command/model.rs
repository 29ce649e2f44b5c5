//! `eval`, `predict` and `curve`: commands on a trained model.

use super::{data, print_json};
use crate::args::{CurveArgs, EvalArgs, PredictArgs};
use crate::failure::Failure;
use crate::table::percent;
use anyhow::Context;
use bloctrain_data::Dataset;
use bloctrain_infer::picture::{EXTENSIONS, FORMATS};
use bloctrain_infer::{CURVE, CURVE_PICTURE, Package, Predictor};
use bloctrain_shared::ImageShape;
use bloctrain_shared::curve::Curve;
use bloctrain_shared::exit::{Answer, evaluate};
use bloctrain_worker::model::place::Place;
use bloctrain_worker::model::test_records;
use serde::Serialize;
use std::path::{Path, PathBuf};

pub(crate) fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let package = Place::of(&args.model)?.package()?;
    let dataset = test_data(&package, args.data.as_deref())?;
    let classes = dataset.classes.len();
    let records = test_records(&Predictor::new(&package)?, &dataset);
    let rule = &package.manifest.exit;
    let outcome = evaluate(&records, rule, classes);
    if args.json {
        return print_json(&outcome);
    }
    let whole = evaluate(&records, &rule.without_exits(), classes);
    tell!("test accuracy {}  ({}, {} images)", percent(outcome.accuracy), outcome.accuracy, records.len());
    tell!("without early exits {}", percent(whole.accuracy));
    tell!("compute efficiency {:.2}x", outcome.compute_efficiency());
    for (index, fraction) in outcome.exit_fraction.iter().enumerate() {
        tell!("block {}: {} of the images exit", index + 1, percent(*fraction));
    }
    Ok(())
}

/// The data that a model is to be tested on: those of its training, or of a folder.
pub(super) fn test_data(package: &Package, folder: Option<&Path>) -> Result<Dataset, Failure> {
    let mut spec = package.manifest.spec.clone();
    if let Some(folder) = folder {
        spec.data.dir = Some(folder.to_string_lossy().into_owned());
        spec.data.name = None;
    }
    let known = &package.manifest.dataset;
    let dataset = match data::open(&spec) {
        Err(error) if folder.is_none() => {
            let advice =
                format!("the model was trained on {}; if these are elsewhere now, give --data DIR", known.name);
            return Err(anyhow::Error::from(error).context(advice).into());
        }
        opened => opened?,
    };
    if let Some(problem) = difference(known.shape, &known.classes, &dataset) {
        return Err(Failure::Failed(anyhow::anyhow!(problem)));
    }
    if dataset.digest != package.manifest.dataset.digest {
        say!("note: these are not the data that the model was trained on ({})", package.manifest.dataset.name);
    }
    Ok(dataset)
}

/// Why a model of some images and classes cannot answer to data.
fn difference(shape: ImageShape, classes: &[String], dataset: &Dataset) -> Option<String> {
    if dataset.shape != shape {
        let size = |shape: ImageShape| {
            let colour = if shape.channels == 1 { "gray" } else { "colour" };
            format!("{} x {} pixels in {colour}", shape.width, shape.height)
        };
        return Some(format!("the model takes images of {}, these data have {}", size(shape), size(dataset.shape)));
    }
    if dataset.classes.len() != classes.len() {
        return Some(format!(
            "the model tells {} classes apart, these data have {}",
            classes.len(),
            dataset.classes.len()
        ));
    }
    let other = classes.iter().zip(&dataset.classes).position(|(own, other)| own != other)?;
    let (own, other) = (&classes[other], &dataset.classes[other]);
    Some(format!(
        "class names differ: where the model has `{own}`, these data have `{other}`; rename the classes, or their order"
    ))
}

#[derive(Serialize)]
struct Prediction {
    file: PathBuf,
    class: String,
    probability: f32,
    exit_block: usize,
}

/// Standard input, as a file, and where the system has it.
const STDIN: &str = "-";
const STDIN_FILE: &str = "/dev/stdin";

/// The images that a command line means: files as they are, of folders all pictures below them in order.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut images = Vec::new();
    for place in named {
        if !place.is_dir() {
            images.push(place.clone());
            continue;
        }
        let before = images.len();
        let is_picture = |path: &Path| {
            let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
            extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
        };
        for entry in walkdir::WalkDir::new(place).follow_links(true).sort_by_file_name() {
            let entry = entry.with_context(|| format!("cannot read the folder {}", place.display()))?;
            if entry.file_type().is_file() && is_picture(entry.path()) {
                images.push(entry.into_path());
            }
        }
        if images.len() == before {
            let problem =
                format!("the folder {} has no picture ({FORMATS}); name files, or another folder", place.display());
            return Err(Failure::Failed(anyhow::anyhow!(problem)));
        }
    }
    Ok(images)
}

pub(crate) fn predict(args: &PredictArgs) -> Result<(), Failure> {
    let package = Place::of(&args.model)?.package()?;
    let classes = &package.manifest.dataset.classes;
    let named = images(&args.files)?;
    let read: Vec<PathBuf> =
        named.iter().map(|file| if file == Path::new(STDIN) { STDIN_FILE.into() } else { file.clone() }).collect();
    let answers = Predictor::new(&package)?.files(&read)?;
    let prediction = |(file, answer): (&PathBuf, Answer)| Prediction {
        file: file.clone(),
        class: classes.get(usize::from(answer.class)).cloned().unwrap_or_default(),
        probability: answer.probability,
        exit_block: answer.exit + 1,
    };
    let predictions: Vec<Prediction> = named.iter().zip(answers).map(prediction).collect();
    if args.json {
        return print_json(&predictions);
    }
    for prediction in predictions {
        let Prediction { file, class, probability, exit_block } = prediction;
        tell!("{}: {class} ({}), exit at block {exit_block}", file.display(), percent(f64::from(probability)));
    }
    Ok(())
}

pub(crate) fn curve(args: &CurveArgs) -> Result<(), Failure> {
    let place = Place::of(&args.model)?;
    let curve: Curve = serde_json::from_slice(&place.read(CURVE)?)
        .with_context(|| format!("{} is not a curve of this version", place.name(CURVE)))?;
    if args.json {
        return print_json(&curve);
    }
    tell!("   compute  accuracy (validation)   compute  accuracy (test)   exits per block (test)");
    let marked =
        curve.points.iter().enumerate().map(|(index, point)| (if index == curve.chosen { "*" } else { " " }, point));
    for (mark, point) in marked.chain(curve.without_exits.iter().map(|point| ("-", point))) {
        let exits: Vec<String> = point.test.exit_fraction.iter().map(|&fraction| percent(fraction)).collect();
        tell!(
            "{mark} {:>8}  {:>21}  {:>8}  {:>15}   {}",
            percent(point.validation.relative_compute),
            percent(point.validation.accuracy),
            percent(point.test.relative_compute),
            percent(point.test.accuracy),
            exits.join("  ")
        );
    }
    tell!("* is the point that the model uses; the picture is {}", place.name(CURVE_PICTURE));
    if curve.without_exits.is_some() {
        tell!("- is the network without early exits: every input goes through all blocks, and all exits are computed");
    }
    Ok(())
}
