//! `cache ls` and `cache gc`.

use super::{block_on, print_json};
use crate::args::{CacheArgs, CacheCommand};
use crate::failure::Failure;
use bloctrain_store::{Artefacts, cache};
use std::collections::BTreeSet;

pub(crate) fn run(args: CacheArgs) -> Result<(), Failure> {
    match args.command {
        CacheCommand::Ls(args) => {
            let store = Artefacts::open(&args.store)?;
            let shards = block_on(async {
                store.check_format().await?;
                cache::list(&store).await
            })??;
            if args.json {
                return print_json(&shards);
            }
            for shard in &shards {
                let meta = &shard.meta;
                let place = format!("{} view {}", meta.split.name(), meta.view);
                println!(
                    "{}  {place:18} {:6} samples  {:10} bytes ({} unpacked)",
                    shard.object.key, shard.samples, shard.object.bytes, shard.uncompressed_bytes
                );
            }
            let bytes: u64 = shards.iter().map(|shard| shard.object.bytes).sum();
            println!("{} shards, {bytes} bytes", shards.len());
            Ok(())
        }
        CacheCommand::Gc { store: args, all, dry_run } => {
            let store = Artefacts::open(&args.store)?;
            let collected = block_on(async {
                store.check_format().await?;
                let keep = if all { BTreeSet::new() } else { bloctrain_coordinator::named_cache_keys(&store).await? };
                Ok::<_, anyhow::Error>(cache::collect(&store, &keep, dry_run).await?)
            })??;
            if args.json {
                return print_json(&collected);
            }
            let verb = if dry_run { "would remove" } else { "removed" };
            println!("{verb} {} objects, {} bytes", collected.objects, collected.bytes);
            Ok(())
        }
    }
}
