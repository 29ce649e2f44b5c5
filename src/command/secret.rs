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

    /// Reads again while the coordinator serves. Files that would open a door that was closed are refused.
    pub(super) fn follow(self, args: CoordinatorArgs, reloads: Arc<Reloads>) -> Result<watch::Receiver<Secrets>, Failure> {
        let first = self.secrets()?;
        let (is_protected, sees_people) = (first.access.is_protected(), !self.viewer.is_empty() || !self.operator.is_empty());
        let (sender, receiver) = watch::channel(first);
        tokio::spawn(async move {
            let take = |now: &Self| {
                let next = now.secrets()?;
                let sees_nobody = sees_people && now.viewer.is_empty() && now.operator.is_empty();
                if sees_nobody || (is_protected && !next.access.is_protected()) {
                    return Err(Failure::Usage(anyhow::anyhow!("a file of tokens is empty, which would let everybody in")));
                }
                sender.send_replace(next);
                Ok(())
            };
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
pub(super) fn follow_connection(args: ConnectArgs, credentials: Credentials, reloads: Arc<Reloads>) -> Result<(), Failure> {
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
