//! Notices of clouds that a spot machine will be taken away.
//!
//! Each cloud tells it on a metadata address that only the machine itself reaches:
//!
//! | cloud | request | notice | time left |
//! |---|---|---|---|
//! | AWS | `GET /latest/meta-data/spot/instance-action`, with an IMDSv2 token | 200 with an action (404 before) | 2 minutes |
//! | GCP | `GET /computeMetadata/v1/instance/preempted`, `Metadata-Flavor: Google` | `TRUE` | 30 seconds |
//! | Azure | `GET /metadata/scheduledevents`, `Metadata: true` | an event `Preempt` that names this machine | 30 seconds |
//!
//! Sources: the clouds' own documentation (AWS "Spot Instance interruption notices", Google "Spot VMs: preemption
//! process", Azure "Scheduled Events for Linux VMs").

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Pause between two looks: short against the shortest notice.
const LOOK: Duration = Duration::from_secs(3);

/// Longest time that a metadata service may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Who takes machines away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon EC2.
    Aws,
    /// Google Compute Engine.
    Gcp,
    /// Microsoft Azure.
    Azure,
}

impl Cloud {
    /// Its name in options and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }

    /// Where its metadata service is.
    pub const fn address(self) -> &'static str {
        match self {
            Self::Aws | Self::Azure => "http://169.254.169.254",
            Self::Gcp => "http://metadata.google.internal",
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a cloud that nobody has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cloud whose notices are known; give aws, gcp or azure")]
pub struct UnknownCloud(String);

impl FromStr for Cloud {
    type Err = UnknownCloud;

    fn from_str(text: &str) -> Result<Self, UnknownCloud> {
        let all = [Self::Aws, Self::Gcp, Self::Azure];
        all.into_iter().find(|cloud| cloud.name() == text).ok_or_else(|| UnknownCloud(text.to_owned()))
    }
}

/// A metadata service that does not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("the metadata service does not say whether this machine goes: {0}")]
pub struct NoticeError(String);

impl NoticeError {
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A cloud's metadata service.
#[derive(Debug, Clone)]
pub struct Metadata {
    cloud: Cloud,
    address: String,
    agent: ureq::Agent,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scheduled {
    events: Vec<ScheduledEvent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScheduledEvent {
    event_type: String,
    #[serde(default)]
    resources: Vec<String>,
}

impl Metadata {
    /// The service of a cloud, at its own address or another one.
    pub fn new(cloud: Cloud, address: Option<&str>) -> Self {
        let address = address.unwrap_or(cloud.address()).trim_end_matches('/').to_owned();
        // A proxy would answer for its own machine.
        let config = ureq::Agent::config_builder().timeout_global(Some(LIMIT)).http_status_as_error(false).proxy(None);
        Self { cloud, address, agent: config.build().into() }
    }

    /// The cloud.
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// Whether this machine will be taken away. Blocks for some seconds at most.
    ///
    /// # Errors
    /// When the service does not answer, or with something else than it should.
    pub fn is_leaving(&self) -> Result<bool, NoticeError> {
        match self.cloud {
            Cloud::Aws => self.aws(),
            Cloud::Gcp => self.gcp(),
            Cloud::Azure => self.azure(),
        }
    }

    /// Waits until the cloud says that this machine will be taken away. What cannot be asked is said once, and asked
    /// again.
    pub async fn notice(&self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            look.tick().await;
            let own = self.clone();
            let answer = tokio::task::spawn_blocking(move || own.is_leaving()).await;
            match answer.map_err(NoticeError::of).and_then(|answer| answer) {
                Ok(true) => return,
                Ok(false) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(cloud = self.cloud.name(), %error, "preemption notices cannot be read now");
                    }
                    failing = true;
                }
            }
        }
    }

    fn aws(&self) -> Result<bool, NoticeError> {
        let token = self.agent.put(format!("{}/latest/api/token", self.address));
        let token = token.header("X-aws-ec2-metadata-token-ttl-seconds", "60").send_empty();
        let token = text(token, "its token")?;
        let action = self.agent.get(format!("{}/latest/meta-data/spot/instance-action", self.address));
        let answer = action.header("X-aws-ec2-metadata-token", token.trim()).call().map_err(NoticeError::of)?;
        match answer.status().as_u16() {
            404 => Ok(false),
            200 => Ok(true),
            other => Err(NoticeError(format!("it answers {other}"))),
        }
    }

    fn gcp(&self) -> Result<bool, NoticeError> {
        let preempted = self.agent.get(format!("{}/computeMetadata/v1/instance/preempted", self.address));
        match text(preempted.header("Metadata-Flavor", "Google").call(), "instance/preempted")?.trim() {
            "TRUE" => Ok(true),
            "FALSE" => Ok(false),
            other => Err(NoticeError(format!("instance/preempted is `{other}`"))),
        }
    }

    /// All machines of a scale set see each other's events, so the event has to name this one.
    fn azure(&self) -> Result<bool, NoticeError> {
        let ask = |path: &str, what| {
            text(self.agent.get(format!("{}/metadata/{path}", self.address)).header("Metadata", "true").call(), what)
        };
        let events = ask("scheduledevents?api-version=2020-07-01", "scheduledevents")?;
        let events: Scheduled = serde_json::from_str(&events).map_err(NoticeError::of)?;
        let preempt: Vec<ScheduledEvent> =
            events.events.into_iter().filter(|event| event.event_type == "Preempt").collect();
        if preempt.is_empty() {
            return Ok(false);
        }
        let name = ask("instance/compute/name?api-version=2021-02-01&format=text", "instance/compute/name")?;
        Ok(preempt.iter().any(|event| event.resources.iter().any(|resource| resource == name.trim())))
    }
}

/// The body of a good answer.
fn text(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>, what: &str) -> Result<String, NoticeError> {
    let mut answer = answer.map_err(NoticeError::of)?;
    if !answer.status().is_success() {
        return Err(NoticeError(format!("{what}: it answers {}", answer.status())));
    }
    answer.body_mut().read_to_string().map_err(NoticeError::of)
}
