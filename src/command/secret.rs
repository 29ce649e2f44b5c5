//! Tokens and certificates as files and environment have them, read again while a process runs.

use super::connect::{read, tokens, trust};
use crate::args::{ConnectArgs, CoordinatorArgs};
use crate::failure::Failure;
use bloctrain_coordinator::access::Access;
use bloctrain_coordinator::secret::Secrets;
use bloctrain_coordinator::server::Tls;
use bloctrain_operations::reload::{LOOK, Reloads, follow};
use bloctrain_proto::dial::{Credentials, Trust};
use std::sync::Arc;
use tokio::sync::watch;

/// What a coordinator's files say.
#[derive(Clone, PartialEq)]
pub(super) struct OfCoordinator {
    join: Vec<String>,
    viewer: Vec<String>,
    operator: Vec<String>,
    tls: Option<Tls>,
}

impl OfCoordinator {
    pub(super) fn read(args: &CoordinatorArgs) -> Result<Self, Failure> {
        Ok(Self {
            join: tokens(args.join_token_file.as_deref(), "BLOCTRAIN_JOIN_TOKEN")?,
            viewer: tokens(args.viewer_token_file.as_deref(), "BLOCTRAIN_VIEWER_TOKEN")?,
            operator: tokens(args.operator_token_file.as_deref(), "BLOCTRAIN_OPERATOR_TOKEN")?,
            tls: tls(args)?,
        })
    }

    pub(super) fn secrets(&self) -> Result<Secrets, Failure> {
        let access = Access::new(&self.join, &self.viewer, &self.operator).map_err(Failure::usage)?;
        self.tls.iter().try_for_each(Tls::check).map_err(Failure::usage)?;
        Ok(Secrets { access, tls: self.tls.clone() })
    }

    /// Reads again while the coordinator serves.
    pub(super) fn follow(
        self,
        args: CoordinatorArgs,
        reloads: Arc<Reloads>,
    ) -> Result<watch::Receiver<Secrets>, Failure> {
        let (sender, receiver) = watch::channel(self.secrets()?);
        tokio::spawn(async move {
            let take = |now: &Self| now.secrets().map(|secrets| drop(sender.send_replace(secrets)));
            follow(LOOK, self, || Self::read(&args), take, &reloads).await;
        });
        Ok(receiver)
    }
}

fn tls(args: &CoordinatorArgs) -> Result<Option<Tls>, Failure> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let client_ca = args.tls_client_ca.as_deref().map(|path| read(path, "certificate authority")).transpose()?;
    Ok(Some(Tls { certificate: read(certificate, "certificate")?, key: read(key, "key")?, client_ca }))
}

/// Reads a worker's token and certificates again while it works.
pub(super) fn follow_connection(
    args: ConnectArgs,
    credentials: Credentials,
    reloads: Arc<Reloads>,
) -> Result<(), Failure> {
    let read = move || -> Result<(Trust, Option<String>), Failure> {
        let token = tokens(args.token_file.as_deref(), "BLOCTRAIN_JOIN_TOKEN")?;
        Ok((trust(&args)?, token.into_iter().next()))
    };
    let first = read()?;
    tokio::spawn(async move {
        let take = |now: &(Trust, Option<String>)| credentials.replace(now.0.clone(), now.1.as_deref());
        follow(LOOK, first, read, take, &reloads).await;
    });
    Ok(())
}
