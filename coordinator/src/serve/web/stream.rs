//! Live answers: one computation a second for each topic that somebody looks at, whoever many they are.
//!
//! Whoever comes gets every part of the topic in full, and then what changes ([`topic`](super::topic)). A stream ends
//! when its topic does (the coordinator stops, the run is deleted), when its reader is too slow, and when its reader's
//! token is no longer good; then the page comes again and gets everything in full.

use super::Site;
use super::answer::{Answer, Problem};
use super::door::Way;
use super::form::{EventLine, LogLine, RunNow, RunRow};
use super::person::person;
use super::topic::{Part, Parts, all, changes, text};
use crate::drive::{DriverError, Handle};
use crate::schedule::Rejected;
use crate::serve::rpc::{MAX_PAGE, short};
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bloctrain_shared::view::WorkerView;
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{Duration, Interval, MissedTickBehavior, interval};

/// Pause between two computations of a topic.
const TURN: Duration = Duration::from_secs(1);

/// Computations after which a topic that nobody looks at ends.
const IDLE: u32 = 5;

/// Pause after which a stream says that it is still there, and looks whether its reader may still read.
const BEAT: Duration = Duration::from_secs(10);

/// Streams at once; other requests have to find connections too.
const STREAMS: usize = 192;

/// Changes that a reader may be behind.
const BEHIND: usize = 16;

/// Lines of logs that a stream begins with.
const LINES: usize = 200;

/// Ages of heartbeats, in milliseconds, below which nobody needs to know them, and in steps of which they are told.
const SILENCE_MS: u64 = 5_000;

/// How soon a browser comes again.
const RETRY: &[u8] = b"retry: 2000\n\n";

/// What somebody looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Runs,
    Workers,
    Events,
    Run(String),
}

/// A topic as it is now.
struct Now {
    parts: Parts,
    /// Everything, made when somebody comes.
    everything: Option<Bytes>,
}

/// A topic that somebody looks at.
struct Shown {
    now: AsyncMutex<Option<Now>>,
    sender: broadcast::Sender<Bytes>,
}

/// All topics that somebody looks at.
pub(super) struct Streams {
    shown: Mutex<BTreeMap<Topic, Arc<Shown>>>,
    places: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { shown: Mutex::default(), places: Arc::new(Semaphore::new(STREAMS)) }
    }
}

impl Streams {
    fn get(&self, topic: &Topic) -> Arc<Shown> {
        let new = || Arc::new(Shown { now: AsyncMutex::default(), sender: broadcast::channel(BEHIND).0 });
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shown.entry(topic.clone()).or_insert_with(new))
    }

    fn has(&self, topic: &Topic, own: &Arc<Shown>) -> bool {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.get(topic).is_some_and(|known| Arc::ptr_eq(known, own))
    }

    /// Lets go of a topic; `unless_looked_at`, only if nobody has come meanwhile. Whether it is gone.
    fn let_go(&self, topic: &Topic, own: &Arc<Shown>, unless_looked_at: bool) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.get(topic).is_some_and(|known| Arc::ptr_eq(known, own)) {
            return true;
        }
        let goes = !unless_looked_at || own.sender.receiver_count() == 0;
        if goes {
            shown.remove(topic);
        }
        goes
    }
}

/// The runs of a coordinator, page by page so that nobody else waits for long.
pub(super) async fn rows(handle: &Handle) -> Result<Vec<RunRow>, DriverError> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = handle.briefs(&after, MAX_PAGE).await?;
        let is_last = page.len() < MAX_PAGE;
        after = page.last().map(|view| view.run.clone()).unwrap_or_default();
        rows.extend(page.into_iter().map(RunRow::new));
        if is_last {
            return Ok(rows);
        }
    }
}

/// A worker as a stream has it: its silence only where it is worth seeing.
fn coarse(mut view: WorkerView) -> WorkerView {
    view.silent_ms = view.silent_ms / SILENCE_MS * SILENCE_MS;
    view
}

/// The parts of a topic as they are now.
async fn gather(site: &Site, topic: &Topic) -> Result<Parts, Problem> {
    let active = site.gate.active()?;
    let handle = &active.handle;
    Ok(match topic {
        Topic::Runs => {
            let rows = rows(handle).await?;
            let rows = rows.iter().map(|row| (row.id().to_owned(), text(row))).collect();
            Parts::from([("fleet", Part::Value(text(&site.fleet()))), ("runs", Part::Rows(rows))])
        }
        Topic::Workers => {
            let mut rows = BTreeMap::new();
            for view in handle.workers().await? {
                // Names need not differ.
                let same = (2_u32..).map(|number| format!("{} ({number})", view.name));
                let free = std::iter::once(view.name.clone()).chain(same).find(|key| !rows.contains_key(key));
                rows.extend(free.map(|key| (key, text(&coarse(view)))));
            }
            Parts::from([("fleet", Part::Value(text(&site.fleet()))), ("workers", Part::Rows(rows))])
        }
        Topic::Events => {
            let lines = handle.journal().latest(0, LINES).into_iter();
            let lines = lines.map(|(run, line)| (line.sequence, text(&EventLine::new((run, line))))).collect();
            Parts::from([("events", Part::Lines(lines))])
        }
        Topic::Run(run) => {
            let unknown = || Problem::from(DriverError::from(Rejected::UnknownRun(run.clone())));
            let view = handle.view(run).await?.ok_or_else(unknown)?;
            let detail = handle.detail(run).await?.ok_or_else(unknown)?;
            let history = handle.history(run).await?.ok_or_else(unknown)?;
            let history = (0..).zip(history.iter().map(text)).collect();
            let lines = handle.journal().since(run, 0);
            let lines = lines.into_iter().rev().take(LINES).rev();
            let log = lines.map(|line| (line.number, text(&LogLine::new(line)))).collect();
            Parts::from([
                ("detail", Part::Value(text(&detail))),
                ("history", Part::Lines(history)),
                ("log", Part::Lines(log)),
                ("run", Part::Value(text(&RunNow::new(view)))),
            ])
        }
    })
}

/// Computes a topic once a second until nobody looks at it any more, or there is nothing to see.
async fn show(site: Arc<Site>, topic: Topic, shown: Arc<Shown>) {
    let (mut turn, mut idle) = (interval(TURN), 0);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turn.tick().await;
    loop {
        turn.tick().await;
        idle = if shown.sender.receiver_count() > 0 { 0 } else { idle + 1 };
        if idle >= IDLE && site.streams.let_go(&topic, &shown, true) {
            return;
        }
        if idle > 0 {
            continue;
        }
        let Ok(parts) = gather(&site, &topic).await else { break };
        let mut now = shown.now.lock().await;
        let told = now.as_ref().map(|now| changes(&now.parts, &parts)).unwrap_or_default();
        if !told.is_empty() {
            *now = Some(Now { parts, everything: None });
            // Everybody may have left since.
            let _ = shown.sender.send(told);
        }
    }
    // Whoever comes now begins anew, and hears why there is nothing; the streams end with the sender.
    site.streams.let_go(&topic, &shown, false);
}

/// Everything of a topic, and what changes from then on.
async fn join(site: &Arc<Site>, topic: Topic) -> Result<(Bytes, broadcast::Receiver<Bytes>), Problem> {
    loop {
        let shown = site.streams.get(&topic);
        let joined = enter(site, &topic, &shown).await?;
        // Between the two it may have ended because nobody looked at it.
        if site.streams.has(&topic, &shown) {
            return Ok(joined);
        }
    }
}

async fn enter(
    site: &Arc<Site>,
    topic: &Topic,
    shown: &Arc<Shown>,
) -> Result<(Bytes, broadcast::Receiver<Bytes>), Problem> {
    let mut now = shown.now.lock().await;
    // What was computed while nobody looked may be old.
    if shown.sender.receiver_count() == 0 {
        let is_new = now.is_none();
        match gather(site, topic).await {
            Ok(parts) => *now = Some(Now { parts, everything: None }),
            Err(problem) => {
                if is_new {
                    site.streams.let_go(topic, shown, true);
                }
                return Err(problem);
            }
        }
        if is_new {
            tokio::spawn(show(Arc::clone(site), topic.clone(), Arc::clone(shown)));
        }
    }
    let receiver = shown.sender.subscribe();
    let everything = match now.as_mut() {
        Some(now) => now.everything.get_or_insert_with(|| all(&now.parts)).clone(),
        None => Bytes::new(),
    };
    Ok((everything, receiver))
}

/// Somebody who looks.
struct Reader {
    site: Arc<Site>,
    headers: HeaderMap,
    way: Way,
    first: Option<Bytes>,
    receiver: broadcast::Receiver<Bytes>,
    beat: Interval,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// What is sent next; `None` ends the stream, also for whoever read too slowly to get everything: it comes back and
    /// begins anew.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            told = self.receiver.recv() => told.ok(),
            _ = self.beat.tick() => {
                let now = self.site.seconds();
                let may = person(&self.site.secrets.borrow().access, &self.headers, self.way.secure, now).is_some();
                may.then(|| Bytes::from_static(b"event: beat\ndata: null\n\n"))
            }
        }
    }
}

/// What a stream is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    topic: String,
    #[serde(default)]
    run: String,
}

impl Asked {
    fn topic(self) -> Result<Topic, Problem> {
        match self.topic.as_str() {
            "runs" => Ok(Topic::Runs),
            "workers" => Ok(Topic::Workers),
            "events" => Ok(Topic::Events),
            "run" => {
                short("run", &self.run)?;
                Ok(Topic::Run(self.run))
            }
            _ => Err(Problem::new(StatusCode::BAD_REQUEST, "`topic` is one of runs, workers, events and run")),
        }
    }
}

/// A topic as server-sent events.
pub(super) async fn stream(
    State(site): State<Arc<Site>>,
    ConnectInfo(way): ConnectInfo<Way>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Answer {
    let topic = asked.topic()?;
    let full =
        |_| Problem::new(StatusCode::TOO_MANY_REQUESTS, format!("{STREAMS} pages look at this coordinator already"));
    let place = Arc::clone(&site.streams.places).try_acquire_owned().map_err(full)?;
    let (everything, receiver) = join(&site, topic).await?;
    let first = [RETRY, &everything].concat();
    let mut beat = interval(BEAT);
    beat.tick().await;
    let reader = Reader { site, headers, way, first: Some(first.into()), receiver, beat, _place: place };
    let events = futures::stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((Ok::<_, Infallible>(bytes), reader))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    Ok(response)
}
