//! Asks a process for its health, as a container's probe does.

use std::time::Duration;

/// Longest time that an answer may take.
const LIMIT: Duration = Duration::from_secs(3);

/// A process that is not in order.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The process says why.
    #[error("{address} is not {question}: {why}")]
    NotSo {
        /// Whom was asked.
        address: String,
        /// What was asked: live, ready or active.
        question: String,
        /// The answer.
        why: String,
    },
    /// Nobody answers.
    #[error("{address} does not answer: {problem}; is --http set there?")]
    Silent {
        /// Whom was asked.
        address: String,
        /// What went wrong.
        problem: String,
    },
}

/// Asks the process at an address such as `127.0.0.1:9090` whether it is `live`, `ready` or `active`. Blocks for at
/// most three seconds.
///
/// # Errors
/// When it is not, or does not answer.
pub fn ask(address: &str, question: &str) -> Result<(), ProbeError> {
    let silent = |problem: String| ProbeError::Silent { address: address.to_owned(), problem };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let mut answer =
        agent.get(format!("http://{address}/health/{question}")).call().map_err(|error| silent(error.to_string()))?;
    let text = answer.body_mut().read_to_string().map_err(|error| silent(error.to_string()))?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(ProbeError::NotSo { address: address.to_owned(), question: question.to_owned(), why: text.trim().to_owned() })
}
