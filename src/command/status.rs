//! `status`: how the active coordinator stands, and its counters.

use super::connect::{Begun, Runs};
use super::{block_on, print_json};
use crate::args::ReadArgs;
use crate::failure::Failure;
use bloctrain_proto::v1::{GetStatusRequest, GetStatusResponse};

pub(crate) fn run(args: &ReadArgs) -> Result<(), Failure> {
    let mut runs = Runs::new(&args.connect, Begun::Already)?;
    let answer =
        block_on(runs.call(GetStatusRequest {}, |mut rpc, request| async move { rpc.get_status(request).await }))??;
    let lines = lines(&answer);
    if args.json {
        let object: serde_json::Map<String, serde_json::Value> =
            lines.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        return print_json(&object);
    }
    for (name, value) in lines {
        tell!("{name:20} {value:>14}");
    }
    Ok(())
}

/// Everything by the names that `run_service.proto` explains.
fn lines(status: &GetStatusResponse) -> [(&'static str, u64); 16] {
    [
        ("workers", status.workers),
        ("workers_waiting", status.workers_waiting),
        ("leases", status.leases),
        ("runs", status.runs),
        ("connections", status.connections),
        ("workers_registered", status.workers_registered),
        ("leases_granted", status.leases_granted),
        ("leases_adopted", status.leases_adopted),
        ("leases_lost", status.leases_lost),
        ("records_persisted", status.records_persisted),
        ("groups_persisted", status.groups_persisted),
        ("persist_us", status.persist_us),
        ("busy_us", status.busy_us),
        ("events_rejected", status.events_rejected),
        ("calls_unauthorised", status.calls_unauthorised),
        ("connections_refused", status.connections_refused),
    ]
}
