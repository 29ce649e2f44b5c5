//! `cache ls` and `cache gc`.

use super::{block_on, print_json};
use crate::args::{CacheArgs, CacheCommand};
use crate::failure::Failure;
use bloctrain_store::collect::{self, Keep, Sweep};
use bloctrain_store::{Artefacts, cache};

pub(crate) fn run(args: CacheArgs) -> Result<(), Failure> {
    match args.command {
        CacheCommand::Ls(args) => {
            let store = Artefacts::look(&args.store)?;
            let shards = block_on(async {
                store.look_format().await?;
                cache::list(&store).await
            })??;
            if args.json {
                return print_json(&shards);
            }
            for shard in &shards {
                let meta = &shard.meta;
                let place = format!("{} view {}", meta.split.name(), meta.view);
                tell!(
                    "{}  {place:18} {:6} samples  {:10} bytes ({} unpacked)",
                    shard.object.key,
                    shard.samples,
                    shard.object.bytes,
                    shard.uncompressed_bytes
                );
            }
            let bytes: u64 = shards.iter().map(|shard| shard.object.bytes).sum();
            tell!("{} shards, {bytes} bytes", shards.len());
            Ok(())
        }
        CacheCommand::Gc { store: args, all, min_age_hours, dry_run } => {
            let store = Artefacts::look(&args.store)?;
            let written_before_ms = if all { u64::MAX } else { now_ms().saturating_sub(min_age_hours * 3_600_000) };
            let sweep = Sweep { written_before_ms, dry_run };
            let collected = block_on(async {
                if all {
                    store.look_format().await?;
                    Ok::<_, bloctrain_coordinator::OpenError>(
                        collect::sweep(&store, collect::candidates_of_cache(&store).await?, &Keep::default(), sweep)
                            .await?,
                    )
                } else {
                    bloctrain_coordinator::collect::collect(&store, sweep).await
                }
            })??;
            if args.json {
                return print_json(&collected);
            }
            let verb = if dry_run { "would remove" } else { "removed" };
            tell!(
                "{verb} {} objects, {} bytes: {} of the cache, {} of runs, {} of data sets, {} of models, {} \
                unfinished",
                collected.objects,
                collected.bytes,
                collected.cache.objects,
                collected.runs.objects,
                collected.data.objects,
                collected.models.objects,
                collected.unfinished.objects
            );
            Ok(())
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the command owns the clock")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
