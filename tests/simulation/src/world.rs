//! Everything that the processes of one simulation share: time, chance, network, stores, the oracle and the trace.

use crate::bug::Bug;
use crate::disk::Disk;
use crate::network::SimNetwork;
use crate::oracle::Oracle;
use crate::process::Process;
use crate::scenario::{FaultRates, Scenario};
use crate::watch::WatchedStore;
use bloctrain_coordinator::Clock;
use bloctrain_session::client::Leaving;
use bloctrain_shared::{Digest, seed};
use bloctrain_store::testing::{Faults, FaultyStore, Misbehaviour};
use bloctrain_store::{Artefacts, Place, RetryPolicy};
use object_store::memory::InMemory;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The time at which every simulation begins, Unix milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What `format.json` of the store says: the version of its layout and its identity.
pub(crate) fn format() -> String {
    let (version, check) = (bloctrain_shared::key::STORE_VERSION, Digest::of(b"simulated").short(8));
    format!("{{\"version\":{version},\"store\":\"simulated-{check}\"}}")
}

/// Address of the store, as messages call it.
pub(crate) const STORE: &str = "memory://simulation";

struct Trace {
    digest: Digest,
    is_printed: bool,
}

/// A process as incidents see it.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) process: Process,
    /// Asks a worker to leave.
    pub(crate) leaving: Option<watch::Sender<Leaving>>,
    /// Asks a coordinator to stop.
    pub(crate) stop: Option<watch::Sender<bool>>,
    /// Makes the tasks of a worker hang, as long as it lives.
    pub(crate) hangs: Option<Arc<AtomicBool>>,
}

pub(crate) struct Inner {
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) scenario: Scenario,
    pub(crate) memory: Arc<InMemory>,
    started: Instant,
    is_healthy: AtomicBool,
    openings: AtomicU64,
    generators: Mutex<BTreeMap<&'static str, ChaCha8Rng>>,
    disk: Mutex<Disk>,
    network: Mutex<SimNetwork>,
    oracle: Arc<Mutex<Oracle>>,
    trace: Mutex<Trace>,
    running: Mutex<BTreeMap<String, Running>>,
    /// How far the system's clock is off, milliseconds.
    stepped: AtomicI64,
    /// How each process's store misbehaves, and until when it is cut off.
    stores: Mutex<BTreeMap<String, (Faults, Instant)>>,
}

/// Shared by all processes of a simulation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

impl std::ops::Deref for World {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, is_printed: bool) -> Self {
        Self(Arc::new(Inner {
            seed,
            bug,
            scenario: Scenario::new(seed),
            memory: Arc::default(),
            started: Instant::now(),
            is_healthy: AtomicBool::new(false),
            openings: AtomicU64::new(0),
            generators: Mutex::default(),
            disk: Mutex::default(),
            network: Mutex::default(),
            oracle: Arc::default(),
            trace: Mutex::new(Trace { digest: Digest::of(b""), is_printed }),
            running: Mutex::default(),
            stepped: AtomicI64::new(0),
            stores: Mutex::default(),
        }))
    }
}

impl Inner {
    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    pub(crate) fn network(&self) -> MutexGuard<'_, SimNetwork> {
        lock(&self.network)
    }

    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.oracle)
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        lock(&self.running)
    }

    /// Draws from the generator of one use. Nothing runs beside anything else, so the order of draws follows from the
    /// seed.
    pub(crate) fn draw<T>(&self, usage: &'static str, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        draw(lock(&self.generators).entry(usage).or_insert_with(|| seed::rng(self.seed, usage, &[])))
    }

    /// A number for every opening of a coordinator.
    pub(crate) fn next_opening(&self) -> u64 {
        self.openings.fetch_add(1, Ordering::Relaxed)
    }

    /// Milliseconds since the simulation began.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "the simulation owns the virtual clock")]
    pub(crate) async fn pause(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Notes what happened: equal seeds have equal traces.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>9.3} {}", self.elapsed_ms() as f64 / 1000.0, line());
        let mut trace = lock(&self.trace);
        trace.digest = Digest::of_parts(&[trace.digest.as_bytes(), line.as_bytes()]);
        if trace.is_printed {
            println!("{line}");
        }
    }

    pub(crate) fn trace_digest(&self) -> Digest {
        lock(&self.trace).digest
    }

    /// How often what goes wrong now.
    pub(crate) fn faults(&self) -> FaultRates {
        if self.is_healthy.load(Ordering::Relaxed) { FaultRates::NONE } else { self.scenario.faults }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Relaxed)
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.is_healthy.store(true, Ordering::Relaxed);
        self.network().mend();
        for (faults, until) in lock(&self.stores).values_mut() {
            faults.set(Misbehaviour::default());
            *until = self.started;
        }
        self.running().values().for_each(|running| running.process.resume());
    }

    /// Whether a process cannot reach the store now.
    pub(crate) fn is_cut_off(&self, name: &str) -> bool {
        lock(&self.stores).get(name).is_some_and(|(_, until)| Instant::now() < *until)
    }

    /// Names of all processes that have a store.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.stores).keys().cloned().collect()
    }
}

impl World {
    /// The clock of a coordinator, which is never set; with a bug, the system's.
    pub(crate) fn clock(&self) -> Clock {
        let world = self.clone();
        Arc::new(move || if world.bug == Some(Bug::WallClock) { world.wall_ms() } else { world.now_ms() })
    }

    /// The time, whatever clocks say.
    pub(crate) fn now_ms(&self) -> u64 {
        EPOCH_MS + self.elapsed_ms()
    }

    fn wall_ms(&self) -> u64 {
        self.now_ms().saturating_add_signed(self.stepped.load(Ordering::Relaxed))
    }

    /// Sets the system's clock.
    pub(crate) fn step_clock(&self, milliseconds: i64) {
        self.stepped.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// The store as a process sees it.
    pub(crate) fn artefacts(&self, name: &str) -> Artefacts {
        let rates = self.faults();
        let own = Digest::of_parts(&[&self.seed.to_le_bytes(), name.as_bytes()]);
        let own_seed = u64::from_le_bytes(own.as_bytes()[..8].try_into().unwrap_or_default());
        let misbehaviour = Misbehaviour {
            seed: own_seed,
            refuse: rates.store_refuses,
            lose_answer: rates.store_loses_answer,
            slow: rates.store_slow,
            delay: Duration::from_millis(rates.delay_ms * 5),
            break_off: rates.store_spoils,
            damage: rates.store_spoils,
            ..Misbehaviour::default()
        };
        let faults = lock(&self.stores)
            .entry(name.to_owned())
            .or_insert_with(|| {
                let faults = Faults::default();
                faults.set(misbehaviour);
                (faults, self.started)
            })
            .0
            .clone();
        let retry = RetryPolicy {
            patience: Duration::from_secs(120),
            attempt_timeout: Duration::from_secs(10),
            jitter_seed: own_seed,
            ..RetryPolicy::default()
        };
        let (inner, oracle) = (Arc::clone(&self.memory), Arc::clone(&self.oracle));
        let store = FaultyStore::new(Arc::new(WatchedStore { inner, oracle, bug: self.bug }), faults);
        Artefacts::with_store(Arc::new(store), STORE, Place::Memory).with_retry(retry)
    }

    /// Puts another, empty store in the place of a process's for a while, as when a folder is not mounted.
    pub(crate) fn hide_store(&self, name: &str, milliseconds: u64) {
        if let Some((faults, _)) = lock(&self.stores).get(name) {
            faults.change(|misbehaviour| misbehaviour.empty = true);
        }
        let (world, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            world.pause(milliseconds).await;
            if let Some((faults, _)) = lock(&world.stores).get(&name) {
                faults.change(|misbehaviour| misbehaviour.empty = false);
            }
        });
    }

    /// Cuts a process off its store for a while.
    pub(crate) fn cut_store(&self, name: &str, milliseconds: u64) {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        if let Some((faults, end)) = lock(&self.stores).get_mut(name) {
            *end = until.max(*end);
            faults.change(|misbehaviour| misbehaviour.down = true);
        }
        let (world, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            world.pause(milliseconds).await;
            if let Some((faults, until)) = lock(&world.stores).get(&name)
                && Instant::now() >= *until
            {
                faults.change(|misbehaviour| misbehaviour.down = false);
            }
        });
    }
}
