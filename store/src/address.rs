//! What an address of a store means: it is understood as it was meant, or refused with the reason.

use crate::error::StoreError;
use std::path::PathBuf;
use url::Url;

/// Schemes of object storage.
const REMOTE: [&str; 8] = ["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"];

/// Schemes that people know and that name no store here, with what to write instead.
const OTHER: [(&str, &str); 7] = [
    ("gcs", "Google Cloud Storage is gs://BUCKET/PREFIX"),
    ("wasb", "Azure Blob Storage is az://CONTAINER/PREFIX"),
    ("wasbs", "Azure Blob Storage is az://CONTAINER/PREFIX"),
    (
        "http",
        "servers of object storage are named by a variable, such as AWS_ENDPOINT, and the store is s3://BUCKET/PREFIX",
    ),
    (
        "https",
        "servers of object storage are named by a variable, such as AWS_ENDPOINT, and the store is s3://BUCKET/PREFIX",
    ),
    ("hdfs", "that protocol is not spoken here"),
    ("ftp", "that protocol is not spoken here"),
];

/// What an address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A folder of this machine.
    Folder(PathBuf),
    /// This process's memory.
    Memory,
    /// Object storage, without slashes at its end.
    Remote(Url),
}

impl Address {
    /// Understands an address.
    ///
    /// # Errors
    /// [`StoreError::InvalidLocation`] with the reason.
    pub(crate) fn parse(location: &str) -> Result<Self, StoreError> {
        let refuse = |problem: &str| Err(invalid(location, problem));
        if location.is_empty() {
            return refuse("it is empty");
        }
        if location.contains('\0') || location.chars().any(char::is_control) {
            return refuse("it has control characters");
        }
        let Some((scheme, rest)) =
            location.split_once(':').filter(|(scheme, rest)| is_scheme(scheme) || rest.starts_with("//"))
        else {
            return folder(location, location);
        };
        let scheme = scheme.to_ascii_lowercase();
        let Some(rest) = rest.strip_prefix("//") else {
            return refuse(&format!(
                "two slashes follow the colon of an address ({scheme}://...); a folder of that name is ./{location}"
            ));
        };
        match scheme.as_str() {
            "memory" => Ok(Self::Memory),
            "file" => {
                let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
                if !path.starts_with('/') {
                    return refuse("the folder of a file:// address begins at the root (file:///FOLDER)");
                }
                folder(location, path)
            }
            known if REMOTE.contains(&known) => remote(location),
            other => match OTHER.iter().find(|(name, _)| *name == other) {
                Some((_, advice)) => refuse(advice),
                None => refuse(&format!("{other}:// is no scheme that is known here")),
            },
        }
    }
}

/// Whether the text before a colon is a scheme that people know, and no part of the name of a folder.
fn is_scheme(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["file", "memory"].iter().chain(&REMOTE).chain(OTHER.iter().map(|(name, _)| name)).any(|name| *name == lower)
}

fn invalid(location: &str, problem: &str) -> StoreError {
    StoreError::InvalidLocation { location: location.to_owned(), problem: problem.to_owned() }
}

/// A folder; `~` is the home folder, as where a shell does not put it in.
fn folder(location: &str, path: &str) -> Result<Address, StoreError> {
    let trimmed = path.trim_end_matches('/');
    let path = if trimmed.is_empty() { "/" } else { trimmed };
    let Some(rest) = path.strip_prefix('~') else { return Ok(Address::Folder(path.into())) };
    if !rest.is_empty() && !rest.starts_with('/') {
        return Err(invalid(
            location,
            &format!("homes of others are not looked up; a folder of that name is ./{location}"),
        ));
    }
    match std::env::var("HOME") {
        Ok(home) if !home.is_empty() => Ok(Address::Folder(format!("{}{rest}", home.trim_end_matches('/')).into())),
        _ => Err(invalid(location, "HOME is not set, so nobody knows what ~ is")),
    }
}

fn remote(location: &str) -> Result<Address, StoreError> {
    let refuse = |problem: &str| Err(invalid(location, problem));
    let mut url = match Url::parse(location.trim_end_matches('/')) {
        Ok(url) => url,
        Err(_) => return refuse("it names no bucket"),
    };
    if url.password().is_some() {
        // The address would end in messages and logs.
        return Err(invalid(&format!("{}://USER:PASSWORD@...", url.scheme()), "credentials come from the environment"));
    }
    let takes_account = matches!(url.scheme(), "abfs" | "abfss");
    if !url.username().is_empty() && !takes_account {
        return refuse("there is an @ before its bucket; credentials come from the environment");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("it names no bucket");
    }
    for (sign, code, is_there) in [("#", "%23", url.fragment().is_some()), ("?", "%3F", url.query().is_some())] {
        if is_there {
            return refuse(&format!("what follows {sign} would be dropped; write {code} for a key that has that sign"));
        }
    }
    if url.path().contains("//") {
        return refuse("there is an empty part between two slashes of its prefix");
    }
    if location.split('/').any(|part| part == "." || part == "..") {
        return refuse("its prefix has a part of dots");
    }
    if url.path() == "/" {
        url.set_path("");
    }
    Ok(Address::Remote(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_addresses() {
        let whole = [
            "runs/",
            "file:///data/x",
            "~/x",
            "s3://bucket/a/b%23c",
            "gs://bucket/prefix",
            "az://container/a",
            "abfss://container@account.dfs.core.windows.net/a",
        ];
        let allowance = bloctrain_damage::Allowance { least: 1 << 14, each: 64 };
        bloctrain_damage::each_text("addresses", &whole, allowance, |text| Address::parse(text).is_ok());
    }

    #[test]
    fn an_address_is_understood_as_it_was_meant() {
        let folder = |path: &str| Ok(Address::Folder(path.into()));
        assert_eq!(Address::parse("runs/"), folder("runs"));
        assert_eq!(Address::parse("/"), folder("/"));
        assert_eq!(Address::parse("a:b/c"), folder("a:b/c"), "a folder may have a colon");
        assert_eq!(Address::parse("file:///data/x/"), folder("/data/x"));
        assert_eq!(Address::parse("file://localhost/data"), folder("/data"));
        let home = std::env::var("HOME").expect("a home");
        assert_eq!(Address::parse("~/x"), folder(&format!("{}/x", home.trim_end_matches('/'))));
        assert_eq!(Address::parse("MEMORY://"), Ok(Address::Memory));
        for (written, meant) in
            [("s3://b/x/", "s3://b/x"), ("S3://b", "s3://b"), ("s3://b/x//", "s3://b/x"), ("gs://b/", "gs://b")]
        {
            let Ok(Address::Remote(url)) = Address::parse(written) else { panic!("{written}") };
            assert_eq!(url.as_str(), meant);
        }
    }

    #[test]
    fn what_would_be_understood_otherwise_is_refused_with_the_reason() {
        let cases = [
            ("", "empty"),
            ("s3:/bucket/x", "two slashes"),
            ("S3:bucket", "two slashes"),
            ("file:/data", "two slashes"),
            ("memory:", "two slashes"),
            ("file://data", "begins at the root"),
            ("s3://", "no bucket"),
            ("s3:///prefix", "no bucket"),
            ("s3://b/a#b", "%23"),
            ("s3://b/?a=b", "%3F"),
            ("s3://b/a//b", "empty part"),
            ("s3://b/../c", "dots"),
            ("s3://user:word@bucket/x", "environment"),
            ("s3://user@bucket/x", "environment"),
            ("gcs://b/x", "gs://"),
            ("https://example.com/x", "AWS_ENDPOINT"),
            ("ftp://host/x", "not spoken"),
            ("r2://bucket/x", "r2:// is no scheme"),
            ("://x", "no scheme"),
            ("~other/x", "./~other/x"),
            ("a\nb", "control"),
        ];
        for (address, reason) in cases {
            let error = Address::parse(address).expect_err(address);
            assert!(matches!(&error, StoreError::InvalidLocation { .. }), "{address}: {error}");
            assert!(
                error.to_string().contains(reason) && error.to_string().contains("is not a store"),
                "{address}: {error}"
            );
            assert!(!error.to_string().contains("word"), "no secret is named: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_panics(address in "(s3|file|az|~|memory)?:?/{0,3}.{0,24}") {
            let _ = Address::parse(&address);
        }
    }
}
