//! Downloads of published data sets: resumed where they broke off, verified before they count.

use super::DataError;
use super::registry::{self, PUBLISHED, Published, PublishedFile, md5_of};
use flate2::read::GzDecoder;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Times that a broken connection is taken up again.
const ATTEMPTS: u32 = 5;

/// Names that may come out of an archive; everything else in it is left there.
const WANTED: [&str; 11] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
    "batches.meta.txt",
    "train.bin",
    "test.bin",
    "fine_label_names.txt",
    "coarse_label_names.txt",
];

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The file.
    pub file: String,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all, where the server says.
    pub total: Option<u64>,
}

fn failed(what: &str, problem: impl Into<String>) -> DataError {
    DataError::Fetch { what: what.to_owned(), problem: problem.into() }
}

/// Fetches a data set into `folder`, from its published address or from a mirror, and unpacks archives.
///
/// Files that are already there with the right checksum are left; a partial download is resumed.
///
/// # Errors
/// When the name is unknown, the server cannot be reached, or a checksum differs (the file is then removed).
pub fn get(
    name: &str,
    folder: &Path,
    mirror: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let published: &Published = registry::find(name).ok_or_else(|| {
        failed(name, format!("there is no such data set; the names are {}", PUBLISHED.map(|set| set.name).join(", ")))
    })?;
    std::fs::create_dir_all(folder).map_err(|error| DataError::read(folder, error))?;
    let base = mirror.unwrap_or(published.base).trim_end_matches('/');
    for file in published.files {
        let target = folder.join(file.name);
        if !is_there(&target, file) {
            download(&format!("{base}/{}", file.name), &target, file, progress)?;
        }
        if file.name.ends_with(".tar.gz") {
            unpack(&target, folder)?;
        }
    }
    Ok(())
}

fn is_there(path: &Path, file: &PublishedFile) -> bool {
    std::fs::read(path).is_ok_and(|bytes| md5_of(&bytes) == file.md5)
}

fn download(
    url: &str,
    target: &Path,
    file: &PublishedFile,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let part = target.with_file_name(format!("{}.part", file.name));
    let mut problem = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            pause(attempt);
        }
        match transfer(url, &part, file.name, progress) {
            Ok(()) => return accept(&part, target, file, url),
            Err(Transfer::Final(error)) => return Err(error),
            Err(Transfer::Broken(error)) => problem = error,
        }
    }
    Err(failed(url, format!("{problem}; what has arrived is kept, the same command goes on from there")))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a blocking download waits before it tries again; nothing else runs on this thread"
)]
fn pause(attempt: u32) {
    std::thread::sleep(Duration::from_millis(200 * u64::from(attempt)));
}

enum Transfer {
    Broken(String),
    Final(DataError),
}

fn transfer(url: &str, part: &Path, name: &str, progress: &mut dyn FnMut(Progress)) -> Result<(), Transfer> {
    let local = |error: std::io::Error| Transfer::Final(DataError::read(part, error));
    let there = std::fs::metadata(part).map_or(0, |meta| meta.len());
    let mut request = ureq::get(url);
    if there > 0 {
        request = request.header("Range", format!("bytes={there}-"));
    }
    let mut response = match request.call() {
        Ok(response) => response,
        // The part is already complete, or longer than the file: the checksum decides.
        Err(ureq::Error::StatusCode(416)) => return Ok(()),
        Err(ureq::Error::StatusCode(status)) if status < 500 => {
            return Err(Transfer::Final(failed(url, format!("the server answers {status}; try --mirror URL"))));
        }
        Err(error) => return Err(Transfer::Broken(error.to_string())),
    };
    let resumed = response.status().as_u16() == 206;
    let mut done = if resumed { there } else { 0 };
    let length = response.body().content_length();
    let total = length.map(|length| done + length);
    let mut file =
        OpenOptions::new().create(true).write(true).append(resumed).truncate(!resumed).open(part).map_err(local)?;
    let mut reader = response.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = reader.read(&mut buffer).map_err(|error| Transfer::Broken(error.to_string()))?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(local)?;
        done += count as u64;
        progress(Progress { file: name.to_owned(), done, total });
    }
    match total {
        Some(total) if done < total => {
            Err(Transfer::Broken(format!("the connection broke after {done} of {total} bytes")))
        }
        _ => Ok(()),
    }
}

fn accept(part: &Path, target: &Path, file: &PublishedFile, url: &str) -> Result<(), DataError> {
    let bytes = std::fs::read(part).map_err(|error| DataError::read(part, error))?;
    let found = md5_of(&bytes);
    if found != file.md5 {
        std::fs::remove_file(part).map_err(|error| DataError::read(part, error))?;
        return Err(failed(
            url,
            format!("its MD5 is {found}, published is {}; the file was removed, try again or --mirror URL", file.md5),
        ));
    }
    std::fs::rename(part, target).map_err(|error| DataError::read(target, error))
}

/// Unpacks the expected files of an archive into `folder/<archive folder>/`, whatever paths it claims.
fn unpack(archive: &Path, folder: &Path) -> Result<(), DataError> {
    let wrong = |error: std::io::Error| DataError::content(archive, format!("it cannot be unpacked: {error}"));
    let file = File::open(archive).map_err(|error| DataError::read(archive, error))?;
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    for entry in tar.entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        let path = entry.path().map_err(wrong)?.into_owned();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| WANTED.contains(name)) else {
            continue;
        };
        let target: PathBuf = folder.join(name);
        let mut out = File::create(&target).map_err(|error| DataError::read(&target, error))?;
        std::io::copy(&mut entry, &mut out).map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// Answers each connection by one behaviour; a `Break` sends half of what was asked for.
    #[derive(Clone, Copy)]
    enum Behaviour {
        Break,
        Whole,
        IgnoreRange,
        NotFound,
    }

    fn serve(content: Vec<u8>, behaviours: Vec<Behaviour>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for behaviour in behaviours {
                let (mut stream, _) = listener.accept().expect("a client");
                let lines: Vec<String> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let range = lines.iter().find_map(|line| {
                    line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
                });
                let from = if matches!(behaviour, Behaviour::IgnoreRange) { 0 } else { range.unwrap_or(0) };
                let status = match (behaviour, from) {
                    (Behaviour::NotFound, _) => "404 Not Found",
                    (_, 0) => "200 OK",
                    _ => "206 Partial Content",
                };
                let body = &content[from..];
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let sent = if matches!(behaviour, Behaviour::Break) { body.len() / 2 } else { body.len() };
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
            }
        });
        address
    }

    fn fetch(content: &[u8], behaviours: Vec<Behaviour>) -> (Result<(), DataError>, tempfile::TempDir, Vec<u64>) {
        let folder = tempfile::tempdir().expect("a folder");
        let md5: &'static str = Box::leak(md5_of(b"0123456789abcdef").into_boxed_str());
        let file = PublishedFile { name: "file.gz", md5, unpacked: None };
        let url = format!("{}/file.gz", serve(content.to_vec(), behaviours));
        let mut seen = Vec::new();
        let result = download(&url, &folder.path().join("file.gz"), &file, &mut |progress| seen.push(progress.done));
        (result, folder, seen)
    }

    #[test]
    fn a_broken_download_is_resumed() {
        let (result, folder, seen) = fetch(b"0123456789abcdef", vec![Behaviour::Break, Behaviour::Whole]);
        result.expect("resumed");
        assert_eq!(std::fs::read(folder.path().join("file.gz")).expect("there"), b"0123456789abcdef");
        assert_eq!((seen.first(), seen.last()), (Some(&8), Some(&16)));
    }

    #[test]
    fn a_server_without_ranges_starts_anew() {
        let (result, folder, _) = fetch(b"0123456789abcdef", vec![Behaviour::Break, Behaviour::IgnoreRange]);
        result.expect("fetched");
        assert_eq!(std::fs::read(folder.path().join("file.gz")).expect("there").len(), 16);
    }

    #[test]
    fn a_wrong_checksum_removes_the_file_and_says_so() {
        let (result, folder, _) = fetch(b"0123456789abcdeX", vec![Behaviour::Whole]);
        assert!(result.expect_err("wrong").to_string().contains("MD5"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_missing_file_is_said_at_once_and_an_unknown_name_lists_the_known() {
        let (result, _folder, _) = fetch(b"x", vec![Behaviour::NotFound]);
        assert!(result.expect_err("missing").to_string().contains("404"));
        let error = get("cifar11", Path::new("."), None, &mut |_| ()).expect_err("unknown").to_string();
        assert!(error.contains("cifar10"), "{error}");
    }
}
