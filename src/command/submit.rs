//! `submit`: the data set into the store, once, and the run to the coordinator.

use super::connect::Runs;
use super::{order, print_json, spec};
use crate::args::SubmitArgs;
use crate::failure::Failure;
use bloctrain_proto::convert::to_json;
use bloctrain_proto::v1::{GetFleetRequest, SubmitRequest};
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Plan, Submission};
use bloctrain_store::Artefacts;
use bloctrain_worker::data::{embedded, stored};
use bloctrain_worker::stage::prepared::{self, Prepared};

pub(crate) fn run(args: &SubmitArgs) -> Result<(), Failure> {
    let spec = spec::read(&args.source)?;
    let prepared = Prepared::new(prepared::open(&spec)?, &spec);
    let submission = Submission { spec, dataset: prepared.info(), arithmetic: ARITHMETIC_VERSION, backend: args.backend.clone() };
    Plan::new(&submission).map_err(Failure::usage)?;
    let mut runs = Runs::new(&args.connect)?;
    super::block_on(Box::pin(async {
        let fleet = runs.call(GetFleetRequest {}, |mut rpc, request| async move { rpc.get_fleet(request).await }).await?;
        if fleet.arithmetic != ARITHMETIC_VERSION {
            let problem = format!(
                "the fleet computes by version {}, this program by version {ARITHMETIC_VERSION}; run the same bloctrain everywhere",
                fleet.arithmetic
            );
            return Err(Failure::Failed(anyhow::anyhow!(problem)));
        }
        if submission.dataset.name != embedded::NAME {
            let store = Artefacts::open(args.connect.store.as_deref().unwrap_or(&fleet.store))?;
            if stored::upload(&prepared.dataset, &store).await? {
                eprintln!("the data set {} is now in the store", submission.dataset.name);
            }
        }
        let request = SubmitRequest { submission_json: to_json(&submission) };
        let submitted = runs.call(request, |mut rpc, request| async move { rpc.submit(request).await }).await?;
        if args.watch {
            eprintln!("run {}", submitted.run);
            return order::follow(&mut runs, &submitted.run, args.json).await;
        }
        if args.json {
            return print_json(&serde_json::json!({ "run": submitted.run }));
        }
        println!("{}", submitted.run);
        Ok(())
    }))?
}
