//! How a command finds and trusts its coordinator.

use crate::args::ConnectArgs;
use crate::failure::Failure;
use anyhow::Context;
use bloctrain_coordinator::access;
use bloctrain_proto::MESSAGE_LIMIT;
use bloctrain_proto::dial::{Dialer, Link, Trust, within};
use bloctrain_proto::status::{Kind, kind};
use bloctrain_proto::v1::run_service_client::RunServiceClient;
use bloctrain_store::{Artefacts, StoreError};
use bloctrain_worker::session::discover;
use std::path::Path;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Longest time that one call may take.
const CALL: Duration = Duration::from_secs(10);

/// Failed calls after which a command gives up: enough for a coordinator to be replaced.
const ATTEMPTS: u32 = 20;

/// The content of a file that the user named.
pub(crate) fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).with_context(|| format!("cannot read the {what} {}", path.display())).map_err(Failure::Usage)
}

/// Tokens of a file, one a line, or of an environment variable; none where neither is named.
pub(crate) fn tokens(file: Option<&Path>, variable: &str) -> Result<Vec<String>, Failure> {
    let (text, place) = match (file, std::env::var(variable)) {
        (Some(file), _) => {
            let text = String::from_utf8(read(file, "token file")?).map_err(Failure::usage)?;
            (text, format!("the token file {}", file.display()))
        }
        (None, Ok(text)) => (text, format!("the variable {variable}")),
        (None, Err(_)) => return Ok(Vec::new()),
    };
    access::tokens(&text).with_context(|| place).map_err(Failure::Usage)
}

/// Whether a store has to be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It has: whoever asks about a store that is not there has mistyped it.
    Already,
    /// Its coordinator may be about to begin it.
    Soon,
}

/// The certificates of a command line.
pub(crate) fn trust(args: &ConnectArgs) -> Result<Trust, Failure> {
    let identity = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some((read(certificate, "certificate")?, read(key, "key")?)),
        _ => None,
    };
    let ca = args.tls_ca.as_deref().map(|path| read(path, "certificate authority")).transpose()?;
    Ok(Trust { ca, identity, name: args.tls_name.clone(), is_insecure: args.insecure })
}

/// A dialer for the addresses and certificates of a command line.
pub(crate) fn dialer(args: &ConnectArgs, token: Option<&str>, begun: Begun) -> Result<Dialer, Failure> {
    let mut dialer =
        Dialer::new(args.coordinator.clone(), trust(args)?, token, super::random_seed()).map_err(Failure::usage)?;
    if let Some(store) = &args.store {
        dialer.discover(match Artefacts::look(store) {
            Err(StoreError::NoStore { .. }) if begun == Begun::Soon => discover::at(store.clone()),
            artefacts => discover::in_store(artefacts?),
        });
    } else if args.coordinator.is_empty() {
        let problem =
            "no coordinator is named: give --coordinator URL (or BLOCTRAIN_COORDINATOR), or --store URL to find it";
        return Err(Failure::Usage(anyhow::anyhow!(problem)));
    }
    Ok(dialer)
}

/// A client of the run service that finds the active coordinator by itself.
pub(crate) struct Runs {
    dialer: Dialer,
    rpc: Option<RunServiceClient<Link>>,
}

impl Runs {
    /// A client for the addresses, certificates and token of a command line.
    pub(crate) fn new(args: &ConnectArgs, begun: Begun) -> Result<Self, Failure> {
        let token = tokens(args.token_file.as_deref(), "BLOCTRAIN_TOKEN")?;
        Ok(Self { dialer: dialer(args, token.first().map(String::as_str), begun)?, rpc: None })
    }

    /// A client of the coordinator in this process.
    pub(crate) fn here(channel: Channel) -> Self {
        Self { dialer: Dialer::fixed(channel), rpc: None }
    }

    /// Makes a call, at the next coordinator when this one cannot answer.
    pub(crate) async fn call<M: Clone, T, F>(
        &mut self,
        message: M,
        call: impl Fn(RunServiceClient<Link>, Request<M>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.rpc().await {
                Ok(rpc) => match call(rpc, within(CALL, message.clone())).await {
                    Ok(response) => {
                        self.dialer.answered();
                        return Ok(response.into_inner());
                    }
                    Err(status) if matches!(kind(&status), Kind::Unavailable | Kind::Exhausted) => {
                        last = status.message().to_owned();
                        self.rpc = None;
                    }
                    Err(status) => return Err(Failure::Failed(anyhow::anyhow!("{}", status.message()))),
                },
                Err(error) => last = error.to_string(),
            }
            let mut pause = tokio::time::interval(self.dialer.pause());
            pause.tick().await;
            pause.tick().await;
        }
        Err(Failure::Failed(anyhow::anyhow!("no coordinator answers: {last}")))
    }

    async fn rpc(&mut self) -> Result<RunServiceClient<Link>, bloctrain_proto::dial::DialError> {
        if let Some(rpc) = &self.rpc {
            return Ok(rpc.clone());
        }
        let rpc = RunServiceClient::new(self.dialer.next().await?).max_decoding_message_size(MESSAGE_LIMIT);
        self.rpc = Some(rpc.clone());
        Ok(rpc)
    }

    /// The call failed in the middle of a stream: the next one goes elsewhere.
    pub(crate) fn lost(&mut self) {
        self.rpc = None;
    }
}
