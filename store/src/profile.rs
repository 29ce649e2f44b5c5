//! Profiles in `~/.aws`, which `object_store` does not read: keys that stand there, and what cannot be read by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What makes a profile get its credentials in a way that is not followed here.
const ELSEWHERE: [&str; 6] =
    ["sso_session", "sso_start_url", "credential_process", "role_arn", "source_profile", "web_identity_token_file"];

/// Looks up a variable of the environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Values of the profile that counts, under the names of the variables that would say the same; empty without one.
///
/// # Errors
/// What is wrong with a profile that is named, or that needs something else than keys, and what to do.
pub(crate) fn read(variable: Lookup) -> Result<Vec<(&'static str, String)>, (String, String)> {
    let home = variable("HOME").map(PathBuf::from);
    let file = |name: &str, usual: &str| {
        let usual = home.as_ref().map(|home| home.join(".aws").join(usual));
        variable(name).map(PathBuf::from).or(usual)
    };
    let files = [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")];
    let named = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
    let name = named.as_deref().unwrap_or("default");
    let mut found: Option<BTreeMap<String, String>> = None;
    // Keys of the first file go before those of the second.
    for path in files.iter().flatten() {
        if let Some(section) = section(path, name) {
            let all = found.get_or_insert_default();
            for (key, value) in section {
                all.entry(key).or_insert(value);
            }
        }
    }
    let places = || files.iter().flatten().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" nor in ");
    let Some(profile) = found else {
        return match named {
            None => Ok(Vec::new()),
            Some(named) => {
                let problem = format!("AWS_PROFILE names `{named}`, which is neither in {}", places());
                Err((problem, "correct it, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into()))
            }
        };
    };
    let of = |key: &str| profile.get(key).filter(|value| !value.is_empty()).cloned();
    let elsewhere = ELSEWHERE.iter().find(|way| of("aws_access_key_id").is_none() && profile.contains_key(**way));
    if let Some(way) = elsewhere {
        let problem = format!("the profile `{name}` gets its credentials by `{way}`, which is not followed here");
        let advice = format!("run `eval \"$(aws configure export-credentials --profile {name} --format env)\"` before");
        return Err((problem, advice));
    }
    let names = [
        ("AWS_ACCESS_KEY_ID", "aws_access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key"),
        ("AWS_SESSION_TOKEN", "aws_session_token"),
        ("AWS_REGION", "region"),
        ("AWS_ENDPOINT", "endpoint_url"),
    ];
    Ok(names.into_iter().filter_map(|(variable, key)| Some((variable, of(key)?))).collect())
}

/// A section of an INI file. Lines that are indented belong to the key before and are left out; a comment is a line.
fn section(path: &Path, name: &str) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut is_inside = false;
    for line in text.lines().filter(|line| !line.starts_with([' ', '\t', '#', ';'])) {
        let line = line.trim();
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(title, _)| title.trim())
        {
            let title = title.strip_prefix("profile ").unwrap_or(title).trim();
            is_inside = title == name;
            if is_inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value)), Some(section)) = (is_inside, line.split_once('='), &mut found) {
            section.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A home with both files, and variables beside it.
    fn found(variables: &[(&str, &str)]) -> Result<Vec<(&'static str, String)>, (String, String)> {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(home.path().join(".aws")).expect("made");
        let credentials = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key=S = \
        s\n\n[other]\naws_access_key_id = B\naws_secret_access_key = T\naws_session_token = U\n";
        let config = "[default]\nregion = eu-central-1\ns3 =\n  max_queue_size = 5\n[profile other]\nendpoint_url = \
        http://127.0.0.1:9000\naws_access_key_id = ignored\n[profile sso]\nsso_session = x\n";
        std::fs::write(home.path().join(".aws/credentials"), credentials).expect("written");
        std::fs::write(home.path().join(".aws/config"), config).expect("written");
        let home = home.path().to_str().expect("utf-8").to_owned();
        read(&|name| match name {
            "HOME" => Some(home.clone()),
            name => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        })
    }

    #[test]
    fn keys_of_the_profile_that_counts_are_found() {
        let own = |pairs: &[(&'static str, &str)]| {
            Ok(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
        };
        let default = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "S = s"), ("AWS_REGION", "eu-central-1")];
        assert_eq!(found(&[]), own(&default));
        let other = [
            ("AWS_ACCESS_KEY_ID", "B"),
            ("AWS_SECRET_ACCESS_KEY", "T"),
            ("AWS_SESSION_TOKEN", "U"),
            ("AWS_ENDPOINT", "http://127.0.0.1:9000"),
        ];
        assert_eq!(found(&[("AWS_PROFILE", "other")]), own(&other));
        let elsewhere = [("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"), ("AWS_CONFIG_FILE", "/nowhere")];
        assert_eq!(found(&elsewhere), Ok(Vec::new()), "without files there is nothing to say");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (problem, _) = found(&[("AWS_PROFILE", "typo")]).expect_err("no such profile");
        assert!(problem.contains("`typo`") && problem.contains("credentials"), "{problem}");
        let (problem, advice) = found(&[("AWS_PROFILE", "sso")]).expect_err("no keys");
        assert!(
            problem.contains("`sso_session`") && advice.contains("export-credentials --profile sso"),
            "{problem}; {advice}"
        );
    }
}
