//! Simulates seeds: `cargo run --release -p bloctrain-simulation -- --seeds 10000`, or one of them with its trace:
//! `--seed N`.

use bloctrain_simulation::{Bug, command, simulate, simulate_all};
use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Deterministic simulation of a fleet")]
struct Args {
    /// Simulate this seed and print everything that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// First of many seeds.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// Threads; each simulates one seed at a time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A bug to plant.
    #[arg(long)]
    bug: Option<Bug>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        let outcome = simulate(seed, args.bug, true);
        println!("{outcome:#?}");
        return ExitCode::from(u8::from(outcome.violation.is_some()));
    }
    let outcomes = simulate_all(args.first..args.first + args.seeds, args.bug, args.threads, |outcome| {
        if let Some(violation) = &outcome.violation {
            println!("seed {}: {violation}\n  {}", outcome.seed, command(outcome.seed, args.bug));
        }
    });
    let failed = outcomes.values().filter(|outcome| outcome.violation.is_some()).count();
    let sum = |count: fn(&bloctrain_simulation::Counts) -> u64| {
        outcomes.values().map(|outcome| count(&outcome.counts)).sum::<u64>()
    };
    let hours = outcomes.values().map(|outcome| outcome.virtual_ms).sum::<u64>() as f64 / 3_600_000.0;
    println!(
        "{} seeds, {failed} with a violation; {hours:.1} virtual hours, {} events ({} refused), {} tasks handed out, \
        {} adopted, {} records, {} openings, {} rounds, {} lost objects, {} shared blocks",
        outcomes.len(),
        sum(|counts| counts.events),
        sum(|counts| counts.rejected),
        sum(|counts| counts.granted),
        sum(|counts| counts.adopted),
        sum(|counts| counts.records),
        sum(|counts| counts.openings),
        sum(|counts| counts.rounds),
        sum(|counts| counts.lost),
        sum(|counts| counts.shared),
    );
    ExitCode::from(u8::from(failed > 0))
}
