//! Where spans go and as whose, from a flag and from the environment variables that OpenTelemetry names
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

/// Path of traces below an address of everything.
const PATH: &str = "v1/traces";

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The address is none.
    #[error("`{0}` is no address for traces; give one such as http://127.0.0.1:4318")]
    Address(String),
    /// The headers are none.
    #[error("{variable} is no list of headers: `{text}` has no NAME=VALUE")]
    Headers {
        /// The variable.
        variable: &'static str,
        /// The part that is none.
        text: String,
    },
}

/// Where spans go, and as whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address that spans are posted to.
    pub endpoint: String,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// Attributes of this process; the first is `service.name`.
    pub resource: Vec<(String, String)>,
}

impl Settings {
    /// Those of a flag with an address of everything, which comes before those of the environment; `None` where neither
    /// names an address, or the environment switches traces off.
    ///
    /// # Errors
    /// When an address or a header makes no sense.
    pub fn new(flag: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, OtlpError> {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is_off = given("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || given("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let whole = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let base = flag.map(str::to_owned).or_else(|| given("OTEL_EXPORTER_OTLP_ENDPOINT").filter(|_| whole.is_none()));
        if is_off && flag.is_none() {
            return Ok(None);
        }
        let Some(endpoint) = base.map(|base| below(&base)).or(whole) else { return Ok(None) };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(OtlpError::Address(endpoint));
        }
        let mut headers = Vec::new();
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
            for (key, value) in pairs(name, &given(name).unwrap_or_default())? {
                headers.retain(|(known, _): &(String, String)| !known.eq_ignore_ascii_case(&key));
                headers.push((key, value));
            }
        }
        let mut resource = pairs("OTEL_RESOURCE_ATTRIBUTES", &given("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default())?;
        let named = resource.iter().position(|(key, _)| key == "service.name").map(|at| resource.remove(at).1);
        let name = given("OTEL_SERVICE_NAME").or(named).unwrap_or_else(|| "bloctrain".into());
        resource.insert(0, ("service.name".into(), name));
        if resource.iter().all(|(key, _)| key != "service.version") {
            resource.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
        }
        Ok(Some(Self { endpoint, headers, resource }))
    }
}

/// The address of traces below one of everything.
fn below(base: &str) -> String {
    let base = base.trim_end_matches('/');
    if base.ends_with(PATH) { base.to_owned() } else { format!("{base}/{PATH}") }
}

/// `NAME=VALUE,...`, in percent-encoding.
fn pairs(variable: &'static str, text: &str) -> Result<Vec<(String, String)>, OtlpError> {
    let pair = |part: &str| {
        let pair = part.split_once('=').filter(|(name, _)| !name.trim().is_empty());
        let (name, value) = pair.ok_or_else(|| OtlpError::Headers { variable, text: part.to_owned() })?;
        Ok((decoded(name.trim()), decoded(value.trim())))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// A text in percent-encoding. What is no code stays as it is.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<Settings>, OtlpError> {
        let found =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::new(flag, found)
    }

    fn endpoint(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        settings(flag, variables).expect("they make sense").map(|settings| settings.endpoint)
    }

    #[test]
    fn the_flag_comes_before_the_environment_and_the_narrower_variable_before_the_wider() {
        assert_eq!(endpoint(None, &[]), None);
        let wide = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://wide:4318/");
        let narrow = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://narrow:1/here");
        assert_eq!(endpoint(None, &[wide]).as_deref(), Some("http://wide:4318/v1/traces"));
        assert_eq!(endpoint(None, &[wide, narrow]).as_deref(), Some("http://narrow:1/here"));
        assert_eq!(endpoint(Some("http://flag:2"), &[wide, narrow]).as_deref(), Some("http://flag:2/v1/traces"));
        assert_eq!(endpoint(Some("http://flag:2/v1/traces"), &[]).as_deref(), Some("http://flag:2/v1/traces"));
        assert_eq!(endpoint(None, &[wide, ("OTEL_SDK_DISABLED", "true")]), None);
        assert_eq!(endpoint(None, &[wide, ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert_eq!(settings(Some("host:4317"), &[]), Err(OtlpError::Address("host:4317/v1/traces".into())));
    }

    #[test]
    fn headers_and_the_name_of_the_service() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://host"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a, x-team = snn"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=Bearer%20b%"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=test"),
        ];
        let found = settings(None, &variables).expect("they make sense").expect("an address");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found.headers, [pair("x-team", "snn"), pair("Authorization", "Bearer b%")]);
        assert_eq!(found.resource[0], pair("service.name", "other"));
        assert_eq!(found.resource[1], pair("deployment.environment", "test"));
        let named = [variables[0], variables[3], ("OTEL_SERVICE_NAME", "fleet")];
        let named = settings(None, &named).expect("they make sense").expect("an address");
        assert_eq!(named.resource[0], pair("service.name", "fleet"));
        let bad = settings(Some("http://h"), &[("OTEL_EXPORTER_OTLP_HEADERS", "nothing")]);
        assert!(bad.is_err_and(|error| error.to_string().contains("OTEL_EXPORTER_OTLP_HEADERS")));
    }
}
