//! Coordinators and workers as child processes over one store.

use crate::common::{SMALL, bloctrain, run, summary, weights};
use crate::proxy::Proxy;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Arguments of the run: the same as of the baseline.
pub(crate) fn spec() -> &'static [&'static str] {
    &SMALL[2..]
}

/// Weights of the run in one process, undisturbed.
pub(crate) fn baseline() -> &'static [u8] {
    static BASELINE: OnceLock<Vec<u8>> = OnceLock::new();
    BASELINE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        weights(folder.path(), &summary(&run(folder.path(), &SMALL)))
    })
}

/// One process with its log.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) child: Child,
    log: PathBuf,
}

impl Process {
    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has printed on standard output.
    pub(crate) fn out(&self) -> String {
        std::fs::read_to_string(self.log.with_extension("out")).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success(), "{} was not there to get {signal}", self.name);
    }

    /// SIGKILL; asserts that it was still alive.
    pub(crate) fn kill(&mut self) {
        assert!(self.child.try_wait().expect("a child").is_none(), "{} had ended before it was killed", self.name);
        self.child.kill().expect("killed");
        self.child.wait().expect("dead");
    }

    /// Waits for a line with all of these parts.
    pub(crate) fn wait_for(&mut self, parts: &[&str]) {
        let name = self.name.clone();
        wait_until(&format!("{parts:?} in the log of {name}"), || {
            self.log().lines().any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "the test watches other processes")]
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < Duration::from_secs(180), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A store, and the processes around it.
pub(crate) struct Fleet {
    folder: tempfile::TempDir,
    processes: usize,
    /// Address of the store; processes run in the folder.
    store: String,
    /// Environment that the store needs.
    settings: Vec<(&'static str, String)>,
    /// What is started instead of the program that is tested.
    program: Option<PathBuf>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, processes: 0, store: "store".into(), settings: Vec::new(), program: None }
    }

    /// On the first S3 server of `BLOCTRAIN_TEST_S3` (`scripts/test-servers`); `None` when there is none, which is
    /// said.
    pub(crate) fn on_object_storage() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(servers) = variable("BLOCTRAIN_TEST_S3") else {
            assert!(variable("BLOCTRAIN_REQUIRE_SERVERS").is_none(), "BLOCTRAIN_TEST_S3 names no server");
            // Not `eprintln!`, which a test that passes keeps to itself.
            let _ = writeln!(std::io::stderr(), "skipped: BLOCTRAIN_TEST_S3 names no server");
            return None;
        };
        let mut fleet = Self::new();
        let unique = fleet.path().file_name().expect("a name").to_string_lossy().replace('.', "");
        fleet.store = format!("s3://bloctrain-test/fleet-{unique}");
        fleet.settings = vec![
            ("AWS_ENDPOINT", servers.split(',').next().unwrap_or_default().to_owned()),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", variable("BLOCTRAIN_TEST_S3_KEY")?),
            ("AWS_SECRET_ACCESS_KEY", variable("BLOCTRAIN_TEST_S3_SECRET")?),
        ];
        Some(fleet)
    }

    /// On an S3 server behind a proxy of ours.
    pub(crate) fn behind(proxy: &Proxy, listener: TcpListener) -> Option<Self> {
        let mut fleet = Self::on_object_storage()?;
        let (_, endpoint) = fleet.settings.iter_mut().find(|(name, _)| *name == "AWS_ENDPOINT").expect("set");
        proxy.serve(listener, endpoint);
        *endpoint = proxy.address.clone();
        Some(fleet)
    }

    /// The store, as a process of the fleet opens it.
    pub(crate) fn open_store(&self) -> bloctrain_store::Artefacts {
        let is_address = self.store.contains("://");
        let place = if is_address { self.store.clone() } else { self.path().join("store").display().to_string() };
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        bloctrain_store::Artefacts::open_with(&place, &settings).expect("opens")
    }

    /// Address of the store, as commands take it.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// Starts another program from now on, or the one that is tested.
    pub(crate) fn program(&mut self, program: Option<PathBuf>) {
        self.program = program;
    }

    /// Gives every process from now on a variable of its environment.
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.settings.push((name, value.to_owned()));
    }

    fn command(&self) -> Command {
        let own = bloctrain(self.path());
        let mut command = self.program.as_ref().map_or(own, |program| {
            let mut command = Command::new(program);
            command.current_dir(self.path()).env("BLOCTRAIN_LOG", "error").stdin(Stdio::null());
            command
        });
        command.envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a process that logs into the folder.
    pub(crate) fn start(&mut self, name: &str, args: &[&str]) -> Process {
        self.start_with(name, args, &[])
    }

    /// Starts a process with settings in its environment.
    pub(crate) fn start_with(&mut self, name: &str, args: &[&str], settings: &[(&str, &str)]) -> Process {
        self.processes += 1;
        let log = self.path().join(format!("{name}-{}.log", self.processes));
        let (out, err) =
            (File::create(log.with_extension("out")).expect("a file"), File::create(&log).expect("a file"));
        let mut command = self.command();
        command.args(args).env("BLOCTRAIN_LOG", "info,slatedb=error").stdout(out).stderr(err);
        command.envs(settings.iter().copied());
        Process { name: name.to_owned(), child: command.spawn().expect("the binary runs"), log }
    }

    /// Starts a coordinator with short leases; gives its address once it listens.
    pub(crate) fn coordinator(&mut self, name: &str, more: &[&str]) -> (Process, String) {
        let store = self.store.clone();
        let args = [&["coordinator", "--store", &store, "--listen", "127.0.0.1:0", "--lease", "2s"], more].concat();
        let process = self.start(name, &args);
        let mut listening = String::new();
        wait_until("the coordinator listens", || {
            let text = process.out();
            let said: Option<serde_json::Value> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
            listening = said.map(|said| said["listening"].as_str().expect("an address").to_owned()).unwrap_or_default();
            !listening.is_empty()
        });
        (process, format!("http://{listening}"))
    }

    /// Starts an active coordinator and one that stands by; gives the addresses of the first, and of both.
    pub(crate) fn pair(&mut self, active: &str) -> (Process, Process, String, String) {
        let (mut active, address) = self.coordinator(active, &[]);
        active.wait_for(&["is active"]);
        let (standby, other) = self.coordinator("standby", &["--standby"]);
        let both = format!("{address},{other}");
        (active, standby, address, both)
    }

    /// Kills the worker that holds a task; another one, which joins late, goes on. Gives the coordinator's log.
    pub(crate) fn killed_worker(&mut self, task: &str) -> String {
        let (mut coordinator, address) = self.coordinator("coordinator", &[]);
        let mut first = self.worker("first", &address);
        let run = self.submit(&address);
        coordinator.wait_for(&["handed out", task, "first"]);
        first.kill();
        let _late = self.worker("late", &address);
        self.finish(&run, task);
        let log = coordinator.log();
        assert!(log.lines().any(|line| line.contains("handed out") && line.contains("late")), "nobody took over");
        log
    }

    /// Starts a worker that knows a coordinator.
    pub(crate) fn worker(&mut self, name: &str, coordinator: &str) -> Process {
        self.start(name, &["worker", "--coordinator", coordinator, "--name", name])
    }

    /// Submits the run; gives its id.
    pub(crate) fn submit(&self, coordinator: &str) -> String {
        let args = [&["submit", "--coordinator", coordinator], spec()].concat();
        let output = self.run(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("utf-8").trim().to_owned()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[])
    }

    /// Runs a command with settings in its environment.
    pub(crate) fn run_with(&self, args: &[&str], settings: &[(&str, &str)]) -> Output {
        let mut command = self.command();
        command.args(args).envs(settings.iter().copied()).stderr(Stdio::piped()).output().expect("the binary runs")
    }

    /// Runs a command that reads a text from a pipe.
    pub(crate) fn run_on(&self, text: &str, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
        child.wait_with_output().expect("it ends")
    }

    /// Waits for the run at whichever coordinator is active, and compares its weights with the baseline.
    pub(crate) fn finish(&self, run: &str, what: &str) {
        let output = self.run(&["watch", run, "--store", &self.store, "--json"]);
        let summary = summary(&output);
        assert!(self.weights(run) == baseline(), "{what}: other weights than undisturbed");
        assert_eq!(summary["run"], run);
    }

    /// The weights of a completed run.
    pub(crate) fn weights(&self, run: &str) -> Vec<u8> {
        let store = self.open_store();
        let key = format!("models/{run}/model.safetensors");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(store.get_unverified(&key)).expect("a model").to_vec()
    }

    /// The run as `show --json` has it, read from the store.
    pub(crate) fn show(&self, run: &str) -> serde_json::Value {
        let output = self.run(&["show", run, "--store", &self.store, "--json"]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            eprintln!("--- {}\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}
