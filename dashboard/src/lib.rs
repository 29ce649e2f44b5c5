//! The pages of the dashboard, as files in the program: plain modules of JavaScript, a style sheet, and uPlot (MIT, its
//! licence beside it) that draws curves. They read the coordinator's JSON API and know nothing of this program's code.

/// A file of the dashboard.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its path below `assets/`.
    pub path: &'static str,
    /// Its media type.
    pub media: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PAGE: &str = "text/html; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// Defines the list of files, each by its path below `assets/`.
macro_rules! assets {
    ($($path:literal $media:ident),+ $(,)?) => {
        /// All files.
        pub const ASSETS: &[Asset] =
            &[$(Asset { path: $path, media: $media, bytes: include_bytes!(concat!("../assets/", $path)) }),+];
    };
}

assets! {
    "index.html" PAGE,
    "style.css" STYLE,
    "icon.svg" PICTURE,
    "app.js" SCRIPT,
    "api.js" SCRIPT,
    "dom.js" SCRIPT,
    "format.js" SCRIPT,
    "list.js" SCRIPT,
    "theme.js" SCRIPT,
    "chart/lines.js" SCRIPT,
    "chart/heat.js" SCRIPT,
    "chart/bars.js" SCRIPT,
    "chart/pipeline.js" SCRIPT,
    "chart/parallel.js" SCRIPT,
    "page/login.js" SCRIPT,
    "page/runs.js" SCRIPT,
    "page/run.js" SCRIPT,
    "page/samples.js" SCRIPT,
    "page/workers.js" SCRIPT,
    "page/events.js" SCRIPT,
    "page/sweeps.js" SCRIPT,
    "uplot/uPlot.iife.min.js" SCRIPT,
    "uplot/uPlot.min.css" STYLE,
    "uplot/LICENSE" TEXT,
}

/// A file by its path.
pub fn asset(path: &str) -> Option<Asset> {
    ASSETS.iter().find(|asset| asset.path == path).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn files(folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                files(&path, into);
            } else {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
                into.insert(path.strip_prefix(root).expect("below").to_string_lossy().into_owned());
            }
        }
    }

    #[test]
    fn every_file_is_in_the_program() {
        let mut found = BTreeSet::new();
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"), &mut found);
        let listed: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(found, listed);
    }

    #[test]
    fn a_first_view_is_small_and_needs_nothing_from_elsewhere() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(bytes < 280_000, "{bytes} bytes; with data a first view is to stay below 300 kB");
        for asset in ASSETS.iter().filter(|asset| !asset.path.starts_with("uplot/")) {
            let text = String::from_utf8_lossy(asset.bytes);
            // A name space, and the address of a coordinator that people are shown.
            let text = text.replace("http://www.w3.org/", "").replace("http://HOST:7070", "");
            for wrong in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(wrong), "{} has {wrong}", asset.path);
            }
            if asset.path.ends_with(".html") {
                assert!(!text.contains("style=") && !text.contains("onclick") && !text.contains("<script>"), "inline");
            }
        }
    }
}
