//! The `bloctrain` command: argument parsing and wiring, nothing else.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod say;

mod args;
mod attempt;
mod command;
mod failure;
mod log;
mod progress;
mod screen;
mod table;

use args::{Cli, Command, LogFormat};
use bloctrain_worker::kernel::memory::{self, CountingAllocator};
use clap::Parser;
use failure::Failure;
use log::InPod;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Coordinator(_) => memory::share_one_heap(),
        _ => memory::keep_freed_memory(),
    }
    if is_brief(&cli.command) {
        // A reader that goes away (`| head`) ends the program quietly, as it does others.
        sigpipe::reset();
    }
    let quiet = !matches!(cli.command, Command::Coordinator(_) | Command::Worker(_));
    // What CubeCL warns of is said by whoever asked the device (`device::failure`). Commands that are no part of a
    // fleet say what is wrong once, by the message at their end, and what a run met on its way by its notes.
    let rest = "slatedb=off,object_store=off,cubecl_common=error,cubecl_runtime=error";
    let usual = format!("{},{rest}", if quiet { "error" } else { "info" });
    let filter = tracing_subscriber::EnvFilter::try_from_env("BLOCTRAIN_LOG").unwrap_or_else(|_| usual.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // What it finds wrong with a closed stream it would write there, and panic.
    let log = log.log_internal_errors(false);
    match cli.log_format {
        LogFormat::Text => log.with_ansi(is_coloured()).init(),
        LogFormat::Json => {
            let form = tracing_subscriber::fmt::format().json().flatten_event(true).with_target(false);
            log.json().event_format(InPod::new(form, cli.pod.as_deref())).init();
        }
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say!("{failure}");
            failure.code()
        }
    }
}

/// Whether a command prints and ends. The others keep connections, and the same signal would kill them when a peer
/// hangs up: sockets are written with `writev`, which cannot be told to do without it.
fn is_brief(command: &Command) -> bool {
    use Command::{
        Bench, Cache, Completions, Curve, Data, Doctor, Eval, Health, Init, Man, Predict, Report, Runs, Show, Spec,
        Track, Workers,
    };
    matches!(
        command,
        Health(_)
            | Init(_)
            | Doctor(_)
            | Eval(_)
            | Predict(_)
            | Curve(_)
            | Spec(_)
            | Data(_)
            | Workers(_)
            | Runs(_)
            | Show(_)
            | Report(_)
            | Track(_)
            | Cache(_)
            | Bench(_)
            | Completions(_)
            | Man(_)
    )
}

/// Whether lines of the log may have colours: on a terminal, unless NO_COLOR (no-color.org) has a value.
fn is_coloured() -> bool {
    say::is_drawn_on() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Train(args) => command::train::run(args),
        Command::Init(args) => command::init::run(&args),
        Command::Doctor(args) => command::doctor::run(&args),
        Command::Eval(args) => command::model::eval(&args),
        Command::Predict(args) => command::model::predict(&args),
        Command::Curve(args) => command::model::curve(&args),
        Command::Spec(args) => command::spec::run(args),
        Command::Data(args) => command::data::run(args),
        Command::Coordinator(args) => command::coordinator::run(&args),
        Command::Worker(args) => command::worker::run(&args, cli.pod),
        Command::Health(args) => command::health::run(&args),
        Command::Submit(args) => command::submit::run(&args),
        Command::Watch(args) => command::order::watch(&args),
        Command::Logs(args) => command::order::logs(&args),
        Command::Pause(args) => command::order::pause(&args),
        Command::Resume(args) => command::order::resume(&args),
        Command::Cancel(args) => command::order::cancel(&args),
        Command::Delete(args) => command::order::delete(&args),
        Command::Workers(args) => command::order::workers(&args),
        Command::Status(args) => command::status::run(&args),
        Command::Runs(args) => command::runs::list(&args),
        Command::Show(args) => command::runs::show(&args),
        Command::Report(args) => command::report::run(&args),
        Command::Cache(args) => command::cache::run(args),
        Command::Track(args) => command::track::run(&args),
        Command::Bench(args) => command::bench::run(args),
        Command::Completions(args) => command::help::completions(&args),
        Command::Man(args) => command::help::man(&args),
    }
}
