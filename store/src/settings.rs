//! Variables of object storage: those that cannot work are named before anything is sent, and none makes a library
//! panic.

use crate::error::StoreError;
#[cfg(feature = "aws")]
use crate::profile;
use url::Url;

/// Settings of one store: those that were given go before those of the environment.
pub(crate) struct Settings<'a> {
    location: &'a str,
    given: &'a [(&'a str, &'a str)],
    variable: &'a dyn Fn(&str) -> Option<String>,
}

/// What a kind of store reads.
struct Known {
    /// Addresses of servers.
    addresses: &'static [&'static str],
    /// Addresses of the store's own server, which may be plain http only where that is allowed.
    endpoints: &'static [&'static str],
    /// The variable that allows it.
    allows_http: &'static str,
    /// Yes or no.
    switches: &'static [&'static str],
    /// Files that have to be there.
    files: &'static [&'static str],
    /// Whatever is of no use when it is empty.
    texts: &'static [&'static str],
}

#[cfg(feature = "aws")]
const AWS: Known = Known {
    addresses: &[
        "AWS_METADATA_ENDPOINT",
        "AWS_ENDPOINT_URL_STS",
        "AWS_PROXY_URL",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ],
    endpoints: &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
    allows_http: "AWS_ALLOW_HTTP",
    switches: &[
        "AWS_ALLOW_HTTP",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_SKIP_SIGNATURE",
        "AWS_UNSIGNED_PAYLOAD",
        "AWS_S3_EXPRESS",
        "AWS_IMDSV1_FALLBACK",
        "AWS_DISABLE_TAGGING",
    ],
    files: &["AWS_WEB_IDENTITY_TOKEN_FILE"],
    texts: &[
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
    ],
};

#[cfg(feature = "azure")]
const AZURE: Known = Known {
    addresses: &["AZURE_PROXY_URL", "AZURE_AUTHORITY_HOST"],
    endpoints: &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"],
    allows_http: "AZURE_ALLOW_HTTP",
    switches: &["AZURE_ALLOW_HTTP", "AZURE_STORAGE_USE_EMULATOR", "AZURE_USE_AZURE_CLI", "AZURE_SKIP_SIGNATURE"],
    files: &["AZURE_FEDERATED_TOKEN_FILE"],
    texts: &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_TOKEN"],
};

#[cfg(feature = "gcp")]
const GOOGLE: Known = Known {
    addresses: &["GOOGLE_PROXY_URL"],
    endpoints: &["GOOGLE_BASE_URL"],
    allows_http: "GOOGLE_ALLOW_HTTP",
    switches: &["GOOGLE_ALLOW_HTTP", "GOOGLE_SKIP_SIGNATURE"],
    files: &["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"],
    texts: &["GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BEARER_TOKEN"],
};

/// Whether a variable says where profiles are and which counts; `object_store` knows none of these.
pub(crate) fn is_of_profiles(name: &str) -> bool {
    ["AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"].contains(&name)
}

impl<'a> Settings<'a> {
    /// Settings of the store at `location`; `variable` looks the others up.
    pub(crate) fn new(
        location: &'a str,
        given: &'a [(&'a str, &'a str)],
        variable: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { location, given, variable }
    }

    fn get(&self, name: &str) -> Option<String> {
        let given = self.given.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        given.map(|(_, value)| (*value).to_owned()).or_else(|| (self.variable)(name))
    }

    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| switch(&value) == Some(true))
    }

    fn refuse(&self, problem: String, advice: impl Into<String>) -> StoreError {
        StoreError::BadConfiguration { store: self.location.to_owned(), problem, advice: advice.into() }
    }

    /// Checks the variables of Amazon S3. Gives what is read from `~/.aws` where nothing else says it.
    #[cfg(feature = "aws")]
    pub(crate) fn aws(&self) -> Result<Vec<(&'static str, String)>, StoreError> {
        self.check(&AWS)?;
        let has = |names: &[&str]| names.iter().any(|name| self.get(name).is_some());
        if has(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"])
            || self.is_on("AWS_SKIP_SIGNATURE")
        {
            return Ok(Vec::new());
        }
        let look = |name: &str| self.get(name);
        let mut found = profile::read(&look).map_err(|(problem, advice)| self.refuse(problem, advice))?;
        found.retain(|(name, _)| match *name {
            "AWS_REGION" => !has(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            "AWS_ENDPOINT" => !has(AWS.endpoints),
            _ => true,
        });
        if let Some((_, value)) = found.iter().find(|(name, _)| *name == "AWS_ENDPOINT") {
            self.endpoint("endpoint_url of the profile", value, &AWS)?;
        }
        Ok(found)
    }

    /// Checks the variables of Azure Blob Storage.
    #[cfg(feature = "azure")]
    pub(crate) fn azure(&self) -> Result<Vec<(&'static str, String)>, StoreError> {
        self.check(&AZURE).map(|()| Vec::new())
    }

    /// Checks the variables of Google Cloud Storage.
    #[cfg(feature = "gcp")]
    pub(crate) fn google(&self) -> Result<Vec<(&'static str, String)>, StoreError> {
        self.check(&GOOGLE).map(|()| Vec::new())
    }

    fn check(&self, known: &Known) -> Result<(), StoreError> {
        let set = |names: &'static [&'static str]| names.iter().filter_map(|name| Some((*name, self.get(name)?)));
        let all = set(known.addresses).chain(set(known.endpoints)).chain(set(known.switches)).chain(set(known.files));
        if let Some((name, _)) = all.chain(set(known.texts)).find(|(_, value)| value.trim().is_empty()) {
            return Err(self.refuse(format!("{name} is empty"), "set it, or unset it"));
        }
        for (name, value) in set(known.switches) {
            if switch(&value).is_none() {
                return Err(self.refuse(format!("{name} is `{value}`"), "give it true or false"));
            }
        }
        for (name, value) in set(known.files) {
            if let Err(error) = std::fs::metadata(&value) {
                return Err(self.refuse(format!("{name} names the file {value}: {error}"), "correct it, or unset it"));
            }
        }
        set(known.addresses).try_for_each(|(name, value)| self.address(name, &value).map(drop))?;
        set(known.endpoints).try_for_each(|(name, value)| self.endpoint(name, &value, known))
    }

    fn address(&self, name: &str, value: &str) -> Result<Url, StoreError> {
        let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let shown = without_password(value);
        url.ok_or_else(|| {
            self.refuse(format!("{name} is `{shown}`, which is no address"), "give it one such as https://HOST:PORT")
        })
    }

    fn endpoint(&self, name: &str, value: &str, known: &Known) -> Result<(), StoreError> {
        let url = self.address(name, value)?;
        if url.scheme() == "http" && !self.is_on(known.allows_http) {
            let problem = format!("{name} is {}, and plain http is not allowed", without_password(value));
            return Err(self.refuse(problem, format!("set {}=true, or give an https:// address", known.allows_http)));
        }
        Ok(())
    }
}

/// An address as it may be shown.
fn without_password(value: &str) -> String {
    value.rsplit_once('@').map_or_else(|| value.to_owned(), |(_, rest)| format!("...@{rest}"))
}

/// Yes or no, as `object_store` understands them.
fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" | "y" => Some(true),
        "0" | "false" | "off" | "no" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(all(test, feature = "aws", feature = "azure", feature = "gcp"))]
mod tests {
    use super::*;

    fn problem(
        of: impl Fn(&Settings<'_>) -> Result<Vec<(&'static str, String)>, StoreError>,
        variables: &[(&str, &str)],
    ) -> String {
        let look =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let error = of(&Settings::new("s3://b/x", &[], &look)).expect_err("it cannot work");
        assert!(matches!(&error, StoreError::BadConfiguration { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn every_variable_that_cannot_work_is_named() {
        let aws = [
            ("AWS_ENDPOINT", "127.0.0.1:9000"),
            ("AWS_ENDPOINT", ""),
            ("AWS_ENDPOINT_URL", "localhost"),
            ("AWS_ENDPOINT_URL_S3", "http://"),
            ("AWS_METADATA_ENDPOINT", "x"),
            ("AWS_ALLOW_HTTP", "maybe"),
            ("AWS_REGION", ""),
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token"),
            ("AWS_PROFILE", "nobody"),
        ];
        for (name, value) in aws {
            let said = problem(|settings| settings.aws(), &[(name, value)]);
            assert!(said.contains(name) && said.contains("s3://b/x"), "{name}: {said}");
        }
        let said = problem(|settings| settings.azure(), &[("AZURE_STORAGE_ENDPOINT", "host")]);
        assert!(said.contains("AZURE_STORAGE_ENDPOINT"), "{said}");
        let said = problem(|settings| settings.google(), &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")]);
        assert!(
            said.contains("GOOGLE_APPLICATION_CREDENTIALS is") || said.contains("GOOGLE_APPLICATION_CREDENTIALS names"),
            "{said}"
        );
    }

    #[test]
    fn plain_http_is_asked_for_by_name() {
        let said = problem(|settings| settings.aws(), &[("AWS_ENDPOINT", "http://127.0.0.1:9000")]);
        assert!(said.contains("plain http is not allowed") && said.contains("AWS_ALLOW_HTTP=true"), "{said}");
        let given = [("AWS_ENDPOINT", "http://127.0.0.1:9000"), ("aws_allow_http", "Yes"), ("AWS_SKIP_SIGNATURE", "1")];
        assert_eq!(Settings::new("s3://b/x", &given, &|_| None).aws(), Ok(Vec::new()));
    }

    #[test]
    fn what_is_said_otherwise_is_not_read_from_a_profile() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials");
        std::fs::write(&file, "[default]\naws_access_key_id = A\naws_secret_access_key = S\nregion = r\n")
            .expect("written");
        let file = file.to_str().expect("utf-8").to_owned();
        let look = |name: &str| (name == "AWS_SHARED_CREDENTIALS_FILE").then(|| file.clone());
        let keys = |given: &[(&str, &str)]| {
            let found = Settings::new("s3://b/x", given, &look).aws().expect("it works");
            found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(keys(&[]), ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"]);
        assert_eq!(keys(&[("AWS_DEFAULT_REGION", "q")]), ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
        assert!(keys(&[("AWS_ACCESS_KEY_ID", "B"), ("AWS_SECRET_ACCESS_KEY", "T")]).is_empty());
    }
}
