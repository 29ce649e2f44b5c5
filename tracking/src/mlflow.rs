//! MLflow's tracking server, by its REST API 2.0.
//!
//! A run of bloctrain is a run of an experiment there, found again by a tag with its id. Metrics have the epoch as
//! their step; what the server has already is not sent again.

use crate::{Course, scalars};
use base64::prelude::{BASE64_STANDARD, Engine};
use bloctrain_shared::view::RunState;
use serde_json::{Value, json};
use std::time::Duration;

/// Tag by which a run is found again.
const TAG: &str = "bloctrain.run";

/// Metrics that one request may have.
const METRICS: usize = 1_000;

/// Parameters that one request may have.
const PARAMS: usize = 100;

/// Longest value of a parameter.
const VALUE: usize = 500;

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server that could not be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MlflowError {
    /// The address is none.
    #[error("`{0}` is no address of an MLflow server; give one such as http://127.0.0.1:5000")]
    Address(String),
    /// It did not answer, or refused.
    #[error(
        "the MLflow server at {server} did not take {what}: {problem}; check the address, and MLFLOW_TRACKING_TOKEN \
        or MLFLOW_TRACKING_USERNAME and _PASSWORD where it asks for them"
    )]
    Refused {
        /// The server.
        server: String,
        /// What was asked of it.
        what: String,
        /// What it said.
        problem: String,
    },
}

/// How a client shows who it is.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Content of the header `Authorization`; none where the server asks for nothing.
    pub authorization: Option<String>,
}

impl Credentials {
    /// Those of MLflow's own environment variables.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let basic = || {
            let pair = format!("{}:{}", variable("MLFLOW_TRACKING_USERNAME")?, variable("MLFLOW_TRACKING_PASSWORD")?);
            Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        };
        Self { authorization: variable("MLFLOW_TRACKING_TOKEN").map(|token| format!("Bearer {token}")).or_else(basic) }
    }
}

/// The beginning of an answer, for a message.
fn short(answer: &Value) -> String {
    answer.to_string().chars().take(300).collect()
}

/// A client of a server.
pub struct Mlflow {
    server: String,
    credentials: Credentials,
    agent: ureq::Agent,
    /// The run there, once it is known.
    run: Option<String>,
}

impl Mlflow {
    /// A client of the server at an address; nothing is sent yet.
    ///
    /// # Errors
    /// When the address has no scheme.
    pub fn new(address: &str, credentials: Credentials) -> Result<Self, MlflowError> {
        let server = address.trim_end_matches('/').to_owned();
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(MlflowError::Address(address.to_owned()));
        }
        // Statuses are looked at here: their bodies say what is wrong.
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Ok(Self { server, credentials, agent: config.into(), run: None })
    }

    /// Tells the server what it does not know yet of a run.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub fn tell(&mut self, experiment: &str, course: &Course) -> Result<(), MlflowError> {
        let run = match &self.run {
            Some(run) => run.clone(),
            None => self.begin(experiment, course)?,
        };
        self.run = Some(run.clone());
        let known = self.known(&run)?;
        let mut metrics = Vec::new();
        for (at_ms, line) in course.epochs() {
            let key = |name: &str| format!("block{}/{name}", line.block);
            let is_new = known(&key("loss")).is_none_or(|step| step < i64::from(line.epoch));
            let metric = |name: &str, value: f64| {
                json!({ "key": key(name), "value": value, "timestamp": at_ms,
                "step": line.epoch })
            };
            if is_new {
                let rates = (1..).zip(line.firing_rates.iter().flatten());
                metrics.extend(
                    rates.map(|(layer, rate): (u32, &f64)| metric(&format!("firing_rate_layer{layer}"), *rate)),
                );
                // The loss comes last: where it is known, all of the epoch is.
                metrics.extend(scalars(line).iter().rev().map(|scalar| metric(scalar.name, scalar.value)));
            }
        }
        let at_ms = course.epochs().last().map_or(course.created_ms, |(at_ms, _)| *at_ms);
        let results = course.results().into_iter().filter(|scalar| known(scalar.name).is_none());
        metrics.extend(
            results.map(|scalar| json!({ "key": scalar.name, "value": scalar.value, "timestamp": at_ms, "step": 0 })),
        );
        for part in metrics.chunks(METRICS) {
            self.post("runs/log-batch", &json!({ "run_id": run, "metrics": part }))?;
        }
        let status = match course.state {
            RunState::Running | RunState::Paused => "RUNNING",
            RunState::Completed => "FINISHED",
            RunState::Failed { .. } => "FAILED",
            RunState::Cancelled => "KILLED",
        };
        let mut update = json!({ "run_id": run, "status": status });
        if !course.state.is_live() {
            update["end_time"] = at_ms.into();
        }
        self.post("runs/update", &update).map(drop)
    }

    /// Finds the run there, or begins it with its parameters.
    fn begin(&self, experiment: &str, course: &Course) -> Result<String, MlflowError> {
        let id = self.experiment(experiment)?;
        let filter = format!("tags.`{TAG}` = '{}'", course.run);
        let found = self.post("runs/search", &json!({ "experiment_ids": [id], "filter": filter, "max_results": 1 }))?;
        if let Some(run) = found["runs"][0]["info"]["run_id"].as_str() {
            return Ok(run.to_owned());
        }
        let tags =
            json!([{ "key": TAG, "value": course.run }, { "key": "bloctrain.dataset", "value": course.dataset }]);
        let begun =
            json!({ "experiment_id": id, "run_name": course.title(), "start_time": course.created_ms, "tags": tags });
        let begun = self.post("runs/create", &begun)?;
        let run = begun["run"]["info"]["run_id"].as_str().map(str::to_owned);
        let run = run.ok_or_else(|| self.refused("runs/create", format!("it named no run: {}", short(&begun))))?;
        let cut = |value: String| value.chars().take(VALUE).collect::<String>();
        let params: Vec<Value> =
            course.fields().into_iter().map(|(key, value)| json!({ "key": key, "value": cut(value) })).collect();
        for part in params.chunks(PARAMS) {
            self.post("runs/log-batch", &json!({ "run_id": run, "params": part }))?;
        }
        Ok(run)
    }

    fn experiment(&self, name: &str) -> Result<String, MlflowError> {
        let query = [("experiment_name", name)];
        let (status, found) = self.call("experiments/get-by-name", None, &query)?;
        if status < 300
            && let Some(id) = found["experiment"]["experiment_id"].as_str()
        {
            return Ok(id.to_owned());
        }
        let made = self.post("experiments/create", &json!({ "name": name }))?;
        let id = made["experiment_id"].as_str().map(str::to_owned);
        id.ok_or_else(|| self.refused("experiments/create", format!("it named no experiment: {}", short(&made))))
    }

    /// The last step of each metric that the server has.
    fn known(&self, run: &str) -> Result<impl Fn(&str) -> Option<i64> + use<>, MlflowError> {
        let (status, found) = self.call("runs/get", None, &[("run_id", run)])?;
        if status >= 300 {
            return Err(self.refused("runs/get", format!("{status}: {}", short(&found))));
        }
        let metrics = found["run"]["data"]["metrics"].as_array().cloned().unwrap_or_default();
        // 64-bit numbers are texts in some versions.
        let step =
            |metric: &Value| metric["step"].as_i64().or_else(|| metric["step"].as_str()?.parse().ok()).unwrap_or(0);
        Ok(move |key: &str| metrics.iter().find(|metric| metric["key"] == key).map(step))
    }

    fn refused(&self, what: &str, problem: String) -> MlflowError {
        MlflowError::Refused { server: self.server.clone(), what: what.to_owned(), problem }
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value, MlflowError> {
        let (status, answer) = self.call(what, Some(body), &[])?;
        if status >= 300 {
            return Err(self.refused(what, format!("{status}: {}", short(&answer))));
        }
        Ok(answer)
    }

    fn call(&self, what: &str, body: Option<&Value>, query: &[(&str, &str)]) -> Result<(u16, Value), MlflowError> {
        let url = format!("{}/api/2.0/mlflow/{what}", self.server);
        let problem = |error: ureq::Error| self.refused(what, error.to_string());
        let authorization = self.credentials.authorization.as_deref();
        let answer = match body {
            Some(body) => {
                let mut request = self.agent.post(&url).header("Content-Type", "application/json");
                if let Some(authorization) = authorization {
                    request = request.header("Authorization", authorization);
                }
                request.send(body.to_string())
            }
            None => {
                let mut request = self.agent.get(&url).query_pairs(query.iter().copied());
                if let Some(authorization) = authorization {
                    request = request.header("Authorization", authorization);
                }
                request.call()
            }
        };
        let mut answer = answer.map_err(problem)?;
        let text = answer.body_mut().read_to_string().map_err(problem)?;
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((answer.status().as_u16(), json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_credentials() {
        assert!(
            Mlflow::new("127.0.0.1:5000", Credentials::default())
                .is_err_and(|error| error.to_string().contains("http://"))
        );
        let only =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        let token = Credentials::of_environment(only("MLFLOW_TRACKING_TOKEN", "t"));
        assert_eq!(token.authorization.as_deref(), Some("Bearer t"));
        let both = |asked: &str| match asked {
            "MLFLOW_TRACKING_USERNAME" => Some("Aladdin".to_owned()),
            "MLFLOW_TRACKING_PASSWORD" => Some("open sesame".to_owned()),
            _ => None,
        };
        // RFC 7617.
        let basic = Credentials::of_environment(both);
        assert_eq!(basic.authorization.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(Credentials::of_environment(only("OTHER", "x")).authorization, None);
    }
}
