//! `data list`, `data get` and `data verify`.

use super::print_json;
use crate::args::{DataArgs, DataCommand};
use crate::failure::Failure;
use bloctrain_data::verify::FileStatus;
use bloctrain_data::{DataError, Dataset, Opened, embedded, fetch, registry, verify};
use bloctrain_shared::RunSpec;
use bloctrain_worker::stage::prepared;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// The data set of a specification. What people should know about it goes to standard error.
pub(super) fn open(spec: &RunSpec) -> Result<Dataset, DataError> {
    let Opened { dataset, notes } = prepared::open(spec)?;
    notes.iter().for_each(|note| say!("note: {note}"));
    Ok(dataset)
}

pub(crate) fn run(args: DataArgs) -> Result<(), Failure> {
    match args.command {
        DataCommand::List => {
            tell!("{:20} embedded; 8,700 images of Fashion-MNIST (MIT)", embedded::NAME);
            for set in registry::PUBLISHED {
                tell!("{:20} {} ({})", set.name, set.title, set.licence);
            }
            Ok(())
        }
        DataCommand::Get { name, dir, mirror } => {
            let folder = dir.unwrap_or_else(|| PathBuf::from(&name));
            get(&name, &folder, mirror.as_deref())
        }
        DataCommand::Verify { dir, json } => {
            let found = verify::verify(&dir)?;
            if json {
                print_json(&found)?;
            } else {
                for (file, status) in &found.files {
                    match status {
                        FileStatus::Published { dataset } => tell!("{file}: as published ({dataset})"),
                        FileStatus::Repacked { dataset } => {
                            tell!("{file}: packed again, content as published ({dataset})")
                        }
                        FileStatus::Differs { found, .. } => tell!("{file}: MD5 {found} is not a published one"),
                    }
                }
                let (name, classes, train, test) = &found.content;
                tell!("{name}: {classes} classes, {train} training and {test} test images; sizes and labels are right");
                found.notes.iter().for_each(|note| tell!("note: {note}"));
            }
            if found.has_differences() {
                let problem = "some files are not the published ones; fetch them with `bloctrain data get`";
                return Err(Failure::Failed(anyhow::anyhow!(problem)));
            }
            Ok(())
        }
    }
}

fn get(name: &str, folder: &Path, mirror: Option<&str>) -> Result<(), Failure> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:32} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?;
    bar.set_style(style);
    fetch::get(name, folder, mirror, &mut |progress| {
        bar.set_message(progress.file);
        bar.set_length(progress.total.unwrap_or(progress.done));
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    tell!("{}", folder.display());
    Ok(())
}
