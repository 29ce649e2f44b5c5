//! `health`: how a coordinator or worker on this machine is, for probes.

use crate::args::HealthArgs;
use crate::failure::Failure;
use bloctrain_operations::probe;

pub(crate) fn run(args: &HealthArgs) -> Result<(), Failure> {
    // A process that listens on all interfaces is asked on this machine.
    let address = args.address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
    probe::ask(&address, &args.is)?;
    tell!("{}", args.is);
    Ok(())
}
