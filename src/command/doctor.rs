//! `doctor`: whether a machine, a store and a fleet can be used, and what to do where they cannot.

use super::connect::{Begun, Runs};
use super::{block_on, machine, print_json};
use crate::args::{Cli, DoctorArgs};
use crate::failure::Failure;
use bloctrain_proto::v1::{GetFleetRequest, GetStatusRequest};
use bloctrain_shared::key;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_store::{Artefacts, Place};
use bytes::Bytes;
use clap::CommandFactory;
use serde::Serialize;
use std::collections::BTreeSet;

/// Memory below which little can be trained.
const LITTLE: u64 = 1 << 30;

/// Difference of clocks that is worth a word, milliseconds.
const APART_MS: u64 = 5_000;

/// Bytes of the object by which the store is timed.
const OBJECT: usize = 1 << 20;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Good,
    /// It works, and there is something to know.
    Note,
    /// It does not work.
    Wrong,
}

/// What was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    of: &'static str,
    state: State,
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn good(of: &'static str, what: String) -> Self {
        Self { of, state: State::Good, what, advice: None }
    }

    fn note(of: &'static str, what: String, advice: &str) -> Self {
        Self { of, state: State::Note, what, advice: Some(advice.to_owned()) }
    }

    fn wrong(of: &'static str, what: String, advice: &str) -> Self {
        Self { of, state: State::Wrong, what, advice: Some(advice.to_owned()) }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut findings = vec![versions(), device(args), memory()];
    findings.extend(variables());
    findings.extend(match &args.connect.store {
        Some(store) => block_on(Box::pin(store_of(store)))?,
        None => vec![Finding::note("store", "none was named".into(), "--store URL looks at one")],
    });
    if !args.connect.coordinator.is_empty() {
        findings.push(coordinator(args)?);
    }
    if args.json {
        print_json(&findings)?;
    } else {
        for Finding { of, state, what, advice } in &findings {
            let mark = match state {
                State::Good => "ok   ",
                State::Note => "note ",
                State::Wrong => "WRONG",
            };
            tell!("{mark}  {of:12} {what}");
            advice.iter().for_each(|advice| tell!("       {:12} {advice}", ""));
        }
    }
    let wrong = findings.iter().filter(|finding| finding.state == State::Wrong).count();
    if wrong > 0 {
        return Err(Failure::Failed(anyhow::anyhow!("{wrong} of {} things are wrong", findings.len())));
    }
    Ok(())
}

fn versions() -> Finding {
    let (program, format, package) = (env!("CARGO_PKG_VERSION"), key::STORE_VERSION, key::FORMAT_VERSION);
    Finding::good(
        "versions",
        format!(
            "bloctrain {program}, arithmetic version {ARITHMETIC_VERSION}, store format {format}, model format \
            {package}"
        ),
    )
}

fn device(args: &DoctorArgs) -> Finding {
    let threads = super::spec::threads();
    match args.device.resolve() {
        Ok(device) => {
            let wide = vectors();
            Finding::good("device", format!("{device}; {threads} threads, {wide}"))
        }
        Err(error) => Finding::wrong("device", error.to_string(), "name another one with --device, such as cpu"),
    }
}

/// The vectors that this processor has, of those that the kernels are written for.
#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx512f") {
        "AVX-512"
    } else if std::arch::is_x86_feature_detected!("avx2") {
        "AVX2"
    } else {
        "no AVX2: kernels run on plain vectors, slowly"
    }
}

#[cfg(target_arch = "aarch64")]
fn vectors() -> &'static str {
    "NEON"
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vectors() -> &'static str {
    "plain vectors"
}

fn memory() -> Finding {
    let (all, free) = (machine::memory(), machine::free_memory());
    let size = |bytes: u64| bytesize::ByteSize::b(bytes).display().iec().to_string();
    let what = format!("{} free of {}", size(free), size(all));
    if free < LITTLE {
        let advice = "end other programs, or train with a smaller network.width or train.micro_batch; `bloctrain spec \
        check` says what a run takes";
        return Finding::note("memory", what, advice);
    }
    Finding::good("memory", what)
}

/// Variables that no option of the command has: most likely mistyped.
fn variables() -> Vec<Finding> {
    let mut known: BTreeSet<String> = [
        "BLOCTRAIN_LOG",
        "BLOCTRAIN_TOKEN",
        "BLOCTRAIN_JOIN_TOKEN",
        "BLOCTRAIN_VIEWER_TOKEN",
        "BLOCTRAIN_OPERATOR_TOKEN",
    ]
    .map(str::to_owned)
    .into();
    let cli = Cli::command();
    for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
        known.extend(
            command.get_arguments().filter_map(|option| Some(option.get_env()?.to_string_lossy().into_owned())),
        );
    }
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let unknown: Vec<String> = set.filter(|name| name.starts_with("BLOCTRAIN_") && !known.contains(name)).collect();
    let finding = |name: String| {
        Finding::note(
            "environment",
            format!("nothing reads {name}"),
            "unset it, or look for the name of the option that is meant: bloctrain COMMAND --help",
        )
    };
    unknown.into_iter().map(finding).collect()
}

/// A store: whether it is one, can be written, keeps conditions, how quick it is, and what its clock says.
async fn store_of(store: &str) -> Vec<Finding> {
    let artefacts = match Artefacts::look(store) {
        Ok(artefacts) => artefacts,
        Err(error) => {
            return vec![Finding::wrong(
                "store",
                error.to_string(),
                "check the address and its variables: docs/storage.md",
            )];
        }
    };
    let advice = "check that it may be written, and has space: docs/storage.md";
    let begun = async {
        artefacts.look_format().await?;
        artefacts.probe().await
    };
    if let Err(error) = begun.await {
        return vec![Finding::wrong("store", error.to_string(), advice)];
    }
    let watch = super::stopwatch();
    let object = format!("{}/doctor-{:016x}", key::RUNS, super::random_seed());
    let timed = async {
        let begun = watch();
        let written = artefacts.put(&object, Bytes::from(vec![7; OBJECT])).await?;
        let written_at = watch();
        artefacts.get_stored(&written).await?;
        let read_at = watch();
        let listed = artefacts.list_objects(key::RUNS).await?;
        artefacts.delete(&object).await?;
        let own = listed.into_iter().find(|listed| listed.key == object);
        Ok::<_, bloctrain_store::StoreError>((written_at - begun, read_at - written_at, own.map(|own| own.modified_ms)))
    };
    let (wrote, read, modified_ms) = match timed.await {
        Ok(timed) => timed,
        Err(error) => return vec![Finding::wrong("store", error.to_string(), advice)],
    };
    let milliseconds = |seconds: f64| format!("{:.0} ms", 1_000.0 * seconds);
    let mut findings = vec![Finding::good(
        "store",
        format!(
            "{}: 1 MiB is written in {}, read in {}; conditions are kept",
            artefacts.location(),
            milliseconds(wrote),
            milliseconds(read)
        ),
    )];
    findings.extend(modified_ms.map(|modified_ms| clock(modified_ms, artefacts.place())));
    findings
}

fn clock(modified_ms: u64, place: Place) -> Finding {
    let now = super::clock()();
    let apart = now.abs_diff(modified_ms);
    let of = if place == Place::Folder { "the folder's" } else { "the store's" };
    if apart > APART_MS {
        let what = format!("it is {:.1} s from {of}", apart as f64 / 1_000.0);
        let advice =
            "set it by NTP: `cache gc` goes by the store's clock, certificates and signed requests by this one";
        return Finding::note("clock", what, advice);
    }
    Finding::good("clock", format!("within {:.0} s of {of}", (apart as f64 / 1_000.0).ceil()))
}

fn coordinator(args: &DoctorArgs) -> Result<Finding, Failure> {
    let mut runs = Runs::new(&args.connect, Begun::Already)?;
    let asked = block_on(Box::pin(async {
        let fleet =
            runs.call(GetFleetRequest {}, |mut rpc, request| async move { rpc.get_fleet(request).await }).await?;
        let status =
            runs.call(GetStatusRequest {}, |mut rpc, request| async move { rpc.get_status(request).await }).await?;
        Ok::<_, Failure>((fleet, status))
    }))?;
    Ok(match asked {
        Ok((fleet, _)) if fleet.arithmetic != ARITHMETIC_VERSION => Finding::wrong(
            "coordinator",
            format!("it has arithmetic version {}, this program {ARITHMETIC_VERSION}", fleet.arithmetic),
            "run the same bloctrain everywhere",
        ),
        Ok((fleet, status)) => Finding::good(
            "coordinator",
            format!("it answers for {}; {} workers, {} runs", fleet.store, status.workers, status.runs),
        ),
        Err(failure) => Finding::wrong(
            "coordinator",
            failure.to_string().trim_start_matches("error: ").to_owned(),
            "check --coordinator, the token and the certificates: docs/fleet.md",
        ),
    })
}
