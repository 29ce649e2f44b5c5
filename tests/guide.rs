//! The guide's commands, one after another, as somebody types them who reads it from the start.

mod common;

use common::stderr;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// What stands before the guide's commands: training is short, and RUN and OTHER are the ids of the last two runs.
const PRELUDE: &str = r#"
set -eu
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
last=; other=
bloctrain() {
  local args=() arg
  for arg in "$@"; do arg=${arg//RUN/$last}; args+=("${arg//OTHER/$other}"); done
  echo "+ bloctrain ${args[*]}" >&2
  # A network that is written out has no width.
  case "${args[*]}" in
    train*own.toml*) args+=(--set train.epochs=1 --set train.warmup_epochs=0) ;;
    train*|submit*) args+=(--set train.epochs=1 --set train.warmup_epochs=0 --set network.width=4) ;;
  esac
  "$PROGRAM" "${args[@]}" 2>err.txt >out.txt || { status=$?; cat out.txt err.txt >&2; return $status; }
  cat out.txt; cat err.txt >&2
  local run; run=$(sed -n 's/^run \(r[0-9a-f]*\).*/\1/p' err.txt | head -n 1)
  if [ -n "$run" ] && [ "$run" != "$last" ]; then other=$last; last=$run; fi
}
"#;

/// The blocks of a language in the guide, in order.
fn blocks(guide: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
}

/// Folders of classes with pictures, as the guide asks for.
fn flowers(folder: &Path) {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/ankle-boot.png");
    for class in ["rose", "tulip", "lily"] {
        for (split, count) in [("train", 20), ("test", 6)] {
            let place = folder.join("flowers").join(split).join(class);
            std::fs::create_dir_all(&place).expect("a folder");
            for number in 0..count {
                std::fs::copy(&image, place.join(format!("{number}.png"))).expect("copied");
            }
        }
    }
}

#[test]
fn every_command_of_the_guide_works() {
    let guide =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md")).expect("the guide");
    let folder = tempfile::tempdir().expect("a folder");
    flowers(folder.path());
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/ankle-boot.png");
    std::fs::copy(image, folder.path().join("photo.png")).expect("copied");
    for text in blocks(&guide, "toml") {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("its first line is its name");
        std::fs::write(folder.path().join(name), &text).expect("written");
    }
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let commands = blocks(&guide, "sh").join("\n").replace("7070", &port.to_string());
    assert!(commands.matches("bloctrain ").count() > 25, "{commands}");
    // What goes on in the background is the program itself.
    let commands = commands.replace("bloctrain coordinator", "\"$PROGRAM\" coordinator");
    let script = format!("{PRELUDE}\n{}\n", commands.replace("bloctrain worker ", "\"$PROGRAM\" worker "));
    std::fs::write(folder.path().join("guide.sh"), &script).expect("written");
    let output = Command::new("bash")
        .arg("guide.sh")
        .current_dir(folder.path())
        .env("PROGRAM", env!("CARGO_BIN_EXE_bloctrain"))
        .env("BLOCTRAIN_LOG", "error")
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    for made in ["report.html", "flowers.toml", "bloctrain.bash", "man/bloctrain-train.1", "boards"] {
        assert!(folder.path().join(made).exists(), "{made} is not there:\n{}", stderr(&output));
    }
}
