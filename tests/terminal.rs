//! Progress on a real pseudo-terminal: narrow, resized while it runs, without colours, dumb, redirected.

mod common;

use common::{SMALL, bloctrain, stderr};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time in which a program hears that its terminal has another size, and draws again.
const SETTLE: Duration = Duration::from_millis(700);

/// What a terminal has on it, and everything that was written to it.
struct Seen {
    screen: vt100::Parser,
    raw: Vec<u8>,
    /// Until when what is written may be of the size before.
    settles: Instant,
    /// Rows that ran over the edge then, and stay until they are drawn again.
    stale: BTreeSet<String>,
    /// Rows that ran over the edge later while they showed progress.
    broken: BTreeSet<String>,
}

impl Seen {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn new(columns: u16, rows: u16) -> Self {
        let (stale, broken) = (BTreeSet::new(), BTreeSet::new());
        Self { screen: vt100::Parser::new(rows, columns, 500), raw: Vec::new(), settles: Instant::now(), stale, broken }
    }

    #[expect(clippy::disallowed_methods, reason = "the test watches another process")]
    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        self.screen.process(bytes);
        let is_settled = Instant::now() > self.settles;
        let screen = self.screen.screen();
        let rows: Vec<String> = screen.rows(0, screen.size().1).map(|row| row.trim_end().to_owned()).collect();
        for (number, row) in (0..).zip(rows) {
            let is_progress = screen.alternate_screen() || row.contains("/train/");
            match is_progress && screen.row_wrapped(number) && !self.stale.contains(&row) {
                true if is_settled => drop(self.broken.insert(row)),
                true => drop(self.stale.insert(row)),
                false => {}
            }
        }
    }

    fn text(&self) -> String {
        self.screen.screen().contents()
    }
}

/// A program on a terminal of its own.
struct Terminal {
    master: Arc<File>,
    seen: Arc<Mutex<Seen>>,
    child: Child,
    reader: std::thread::JoinHandle<()>,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Starts the program; `change` may take its standard error or output away from the terminal.
    fn start(folder: &Path, (columns, rows): (u16, u16), args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("usable");
        tcsetwinsize(&master, size(columns, rows)).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("a path");
        let side = || OpenOptions::new().read(true).write(true).open(&name).expect("opens");
        // The program's controlling terminal, as a shell's would be.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_bloctrain")]).args(args).current_dir(folder);
        command.env("BLOCTRAIN_LOG", "error").env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.stdin(side()).stdout(side()).stderr(side());
        change(&mut command);
        let child = command.spawn().expect("it starts");
        drop(command);
        let (master, seen) = (Arc::new(File::from(master)), Arc::new(Mutex::new(Seen::new(columns, rows))));
        let (reading, taking) = (Arc::clone(&master), Arc::clone(&seen));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It is an error when nobody holds the other side any more.
            while let Ok(count @ 1..) = (&*reading).read(&mut bytes) {
                taking.lock().unwrap_or_else(PoisonError::into_inner).take(&bytes[..count]);
            }
        });
        Self { master, seen, child, reader }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::disallowed_methods, reason = "the test watches another process")]
    fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !is_there(&self.seen().text()) {
            assert!(begun.elapsed() < Duration::from_secs(120), "{what} did not appear:\n{}", self.seen().text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Another size, as when somebody pulls at the window.
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn resize(&self, columns: u16, rows: u16) {
        let mut seen = self.seen();
        tcsetwinsize(&self.master, size(columns, rows)).expect("a size");
        seen.settles = Instant::now() + SETTLE;
        seen.screen.screen_mut().set_size(rows, columns);
    }

    /// Waits for the end; gives everything that was written.
    fn end(mut self) -> Seen {
        let status = self.child.wait().expect("it ends");
        self.reader.join().expect("read");
        let seen = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), Seen::new(80, 24));
        let said = String::from_utf8_lossy(&seen.raw).into_owned();
        assert!(status.success(), "{status}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(seen.broken, BTreeSet::new(), "ran over the edge");
        seen
    }
}

/// A run of a second or two.
fn short(more: &[&'static str]) -> Vec<&'static str> {
    SMALL.into_iter().filter(|arg| *arg != "--json").chain(more.iter().copied()).collect()
}

/// A run of some seconds.
fn longer(more: &[&'static str]) -> Vec<&'static str> {
    [short(more), vec!["--set", "train.epochs=6"]].concat()
}

/// The rows of the table at the end are whole.
fn check_table(seen: &Seen) {
    let screen = seen.screen.screen();
    let wrapped: Vec<u16> = (0..screen.size().0).filter(|row| screen.row_wrapped(*row)).collect();
    let rows: Vec<String> = screen.rows(0, screen.size().1).collect();
    let of_table = |row: &u16| rows[usize::from(*row)].contains('─') || rows[usize::from(*row)].contains('%');
    assert!(rows.iter().any(|row| row.contains('─')), "{rows:#?}");
    assert!(!wrapped.iter().any(of_table), "{rows:#?}");
}

/// Whether something sets a colour (SGR 30 to 49 and 90 to 107).
fn has_colour(raw: &[u8]) -> bool {
    let text = String::from_utf8_lossy(raw);
    let is_colour = |code: &str| code.parse().is_ok_and(|code: u16| matches!(code, 30..=38 | 40..=48 | 90..=107));
    let sequences = text.split("\x1b[").skip(1).filter_map(|rest| {
        let end = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
        (rest[end..].starts_with('m')).then(|| rest[..end].to_owned())
    });
    sequences.into_iter().any(|codes| codes.split(';').any(is_colour))
}

#[test]
fn a_bar_fits_a_terminal_of_sixty_columns_and_every_size_that_it_gets() {
    let folder = tempfile::tempdir().expect("a folder");
    let terminal = Terminal::start(folder.path(), (60, 24), &longer(&[]), |_| {});
    terminal.wait_for("a bar", |text| text.contains("block1/train/"));
    terminal.resize(40, 24);
    terminal.wait_for("the second block", |text| text.contains("block2/train/"));
    terminal.resize(130, 30);
    terminal.wait_for("a bar of the wide form", |text| text.contains("/train/") && text.contains("images/s"));
    terminal.resize(60, 40);
    let seen = terminal.end();
    check_table(&seen);
    // What was drawn for the size before, until the program heard of another, stays where the terminal moved it.
    let is_left = |row: &str| row.contains("/train/") && !seen.stale.contains(row.trim_end());
    let screen = seen.screen.screen();
    assert!(!screen.rows(0, screen.size().1).any(|row| is_left(&row)), "the bar is gone:\n{}", seen.text());
}

#[test]
fn the_whole_terminal_is_drawn_in_every_size_and_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let terminal = Terminal::start(folder.path(), (60, 24), &longer(&["--tui"]), |_| {});
    terminal.wait_for("curves", |text| text.contains("block 1") && text.contains("loss by epoch"));
    assert!(terminal.seen().screen.screen().hide_cursor() && has_colour(&terminal.seen().raw));
    terminal.resize(40, 12);
    terminal.wait_for("the small form", |text| text.contains("block 1") && !text.contains("loss by epoch"));
    terminal.resize(120, 40);
    terminal.wait_for("the wide form", |text| text.contains("loss by epoch") && text.contains("accuracy by epoch"));
    terminal.resize(60, 40);
    let seen = terminal.end();
    assert!(!seen.screen.screen().alternate_screen() && !seen.screen.screen().hide_cursor(), "given back");
    check_table(&seen);
}

#[test]
fn without_colours_and_on_dumb_terminals_nothing_is_coloured_or_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    for tui in [&[][..], &["--tui"]] {
        let run = [short(tui), vec!["--store", if tui.is_empty() { "bar" } else { "tui" }]].concat();
        let plain = Terminal::start(folder.path(), (80, 24), &run, |command| {
            command.env("NO_COLOR", "1");
        })
        .end();
        assert!(!has_colour(&plain.raw), "{}", String::from_utf8_lossy(&plain.raw));
        let run = [short(tui), vec!["--store", if tui.is_empty() { "dumb" } else { "dumb-tui" }]].concat();
        let dumb = Terminal::start(folder.path(), (80, 24), &run, |command| {
            command.env("TERM", "dumb");
        })
        .end();
        let said = String::from_utf8_lossy(&dumb.raw);
        assert!(!said.contains('\x1b') && said.contains("everything is kept in"), "{said}");
        check_table(&dumb);
    }
}

#[test]
fn what_is_redirected_has_no_control_characters() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let errors = File::create(&err).expect("a file");
    let run = [short(&["--tui"]), vec!["--store", "err-redirected"]].concat();
    let seen = Terminal::start(folder.path(), (60, 30), &run, |command| {
        command.stderr(errors);
    })
    .end();
    check_table(&seen);
    let output = File::create(&out).expect("a file");
    let run = [short(&[]), vec!["--store", "out-redirected"]].concat();
    let seen = Terminal::start(folder.path(), (60, 30), &run, |command| {
        command.stdout(output);
    })
    .end();
    assert!(String::from_utf8_lossy(&seen.raw).contains("/train/"), "the bar is on the terminal");
    for file in [out, err] {
        let text = std::fs::read_to_string(&file).expect("written");
        let is_plain = |letter: char| !letter.is_control() || letter == '\n';
        assert!(!text.is_empty() && text.chars().all(is_plain), "{}: {text}", file.display());
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn watching_a_run_of_a_fleet_is_drawn_in_every_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = bloctrain(folder.path());
    command.args(["coordinator", "--store", "store", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut coordinator = Running(command.spawn().expect("it starts"));
    let mut said = String::new();
    let out = coordinator.0.stdout.take().expect("a pipe");
    BufReader::new(out).read_line(&mut said).expect("it says where it is");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let address = format!("http://{}", said["listening"].as_str().expect("an address"));
    let worker = bloctrain(folder.path()).args(["worker", "--coordinator", &address, "--name", "w1"]).spawn();
    let _worker = Running(worker.expect("it starts"));
    let submit = [&["submit", "--coordinator", &address], &longer(&[])[1..]].concat();
    let submitted = bloctrain(folder.path()).args(&submit).output().expect("it runs");
    assert!(submitted.status.success(), "{}", stderr(&submitted));
    let run = String::from_utf8(submitted.stdout).expect("an id").trim().to_owned();
    let terminal = Terminal::start(folder.path(), (60, 24), &["watch", &run, "--coordinator", &address], |_| {});
    terminal.wait_for("the pipeline", |text| text.contains(&run) && text.contains("block 1") && text.contains("w1"));
    terminal.resize(34, 10);
    terminal.wait_for("the small form", |text| text.contains("block 1"));
    terminal.resize(100, 30);
    terminal.wait_for("the wide form", |text| text.contains("accuracy by epoch"));
    terminal.resize(60, 40);
    let seen = terminal.end();
    assert!(!seen.screen.screen().alternate_screen() && !seen.screen.screen().hide_cursor(), "given back");
    check_table(&seen);
}
