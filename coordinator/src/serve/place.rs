//! Places of connections: how many there may be, of whom, and who has to go when there are more.
//!
//! A connection waits until a call of it is let in. Those that wait may be anybody's, so they keep nobody out: when all
//! places are taken, or one address has too many that wait, the one that has waited longest goes. Workers leave some
//! places free for the people who operate the fleet.

use futures::task::AtomicWaker;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

/// Most places that are kept free for operators, and the share of all places that they are at most.
const RESERVED: (usize, usize) = (64, 8);

/// Share of all places that connections of one address may take while they wait, and fewest.
const WAITING: (usize, usize) = (4, 8);

/// Who has which place.
#[derive(Debug, Default)]
struct Taken {
    open: usize,
    workers: usize,
    /// Those that wait to be let in, by address, oldest first.
    waiting: BTreeMap<IpAddr, VecDeque<Arc<Shared>>>,
}

/// All places. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

/// What a place and the connection in it know of each other.
#[derive(Debug, Default)]
struct Shared {
    has_to_go: AtomicBool,
    waker: AtomicWaker,
}

/// A place. It is free again when the last of its clones is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    places: Places,
    address: IpAddr,
    shared: Arc<Shared>,
    /// Whether a call was let in, and whether it was a worker's.
    is_let_in: AtomicBool,
    is_worker: AtomicBool,
}

impl Places {
    /// So many.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from an address; `None` when all are taken by connections that were let in.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        let own = taken.waiting.get(&address).map_or(0, VecDeque::len);
        if own >= (self.most / WAITING.0).max(WAITING.1) {
            taken.send_away(address);
        }
        if taken.open >= self.most {
            let crowd = taken.waiting.iter().max_by_key(|(_, waiting)| waiting.len()).map(|(address, _)| *address)?;
            taken.send_away(crowd);
        }
        let shared = Arc::<Shared>::default();
        taken.open += 1;
        taken.waiting.entry(address).or_default().push_back(Arc::clone(&shared));
        drop(taken);
        let (is_let_in, is_worker) = (AtomicBool::new(false), AtomicBool::new(false));
        Some(Place(Arc::new(Held { places: self.clone(), address, shared, is_let_in, is_worker })))
    }
}

impl Taken {
    /// Sends the connection away that has waited longest of those of an address; its place is free at once.
    fn send_away(&mut self, address: IpAddr) {
        let Some(oldest) = self.waiting.get_mut(&address).and_then(VecDeque::pop_front) else { return };
        if self.waiting.get(&address).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&address);
        }
        self.open -= 1;
        oldest.has_to_go.store(true, Ordering::Relaxed);
        oldest.waker.wake();
    }

    /// Takes a connection out of those that wait; whether it did.
    fn leave(&mut self, address: IpAddr, shared: &Arc<Shared>) -> bool {
        let Some(waiting) = self.waiting.get_mut(&address) else { return false };
        let before = waiting.len();
        waiting.retain(|other| !Arc::ptr_eq(other, shared));
        let was_there = waiting.len() < before;
        if waiting.is_empty() {
            self.waiting.remove(&address);
        }
        was_there
    }
}

impl Place {
    /// A call was let in: the connection may stay. False when it is a worker's, and what is left is kept for operators.
    pub(crate) fn let_in(&self, is_worker: bool) -> bool {
        let Held { places, address, shared, .. } = &*self.0;
        if self.is_let_in() {
            return true;
        }
        let mut taken = places.taken();
        if is_worker && taken.workers >= places.most - RESERVED.0.min(places.most / RESERVED.1) {
            return false;
        }
        // One that was sent away meanwhile has no place to keep.
        if taken.leave(*address, shared) {
            taken.workers += usize::from(is_worker);
            self.0.is_worker.store(is_worker, Ordering::Relaxed);
            self.0.is_let_in.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Whether a call was let in.
    pub(crate) fn is_let_in(&self) -> bool {
        self.0.is_let_in.load(Ordering::Relaxed)
    }

    /// Whether the connection has to go. Wakes the task when it becomes so.
    pub(crate) fn has_to_go(&self, context: &Context<'_>) -> bool {
        self.0.shared.waker.register(context.waker());
        self.0.shared.has_to_go.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if self.is_let_in.load(Ordering::Relaxed) {
            taken.open -= 1;
            taken.workers -= usize::from(self.is_worker.load(Ordering::Relaxed));
        } else if taken.leave(self.address, &self.shared) {
            taken.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn is_sent_away(place: &Place) -> bool {
        place.0.shared.has_to_go.load(Ordering::Relaxed)
    }

    #[test]
    fn who_only_waits_keeps_nobody_out() {
        let places = Places::new(4);
        let crowd: Vec<Place> = (0..20).filter_map(|_| places.take(address(1))).collect();
        assert_eq!(crowd.len(), 20, "each takes the place of the one before");
        assert_eq!(crowd.iter().filter(|place| is_sent_away(place)).count(), 16);
        let operator = places.take(address(2)).expect("a place");
        assert!(operator.let_in(false) && !is_sent_away(&operator));
        let more: Vec<Place> = (0..20).filter_map(|_| places.take(address(1))).collect();
        assert!(more.len() == 20 && !is_sent_away(&operator), "who was let in stays");
        drop((crowd, more, operator));
        let taken = places.taken();
        assert_eq!((taken.open, taken.waiting.len()), (0, 0));
    }

    #[test]
    fn one_address_takes_no_more_than_its_share_while_it_waits() {
        let places = Places::new(100);
        let other = places.take(address(2)).expect("a place");
        let crowd: Vec<Place> = (0..90).filter_map(|_| places.take(address(1))).collect();
        assert_eq!(crowd.iter().filter(|place| !is_sent_away(place)).count(), 25);
        assert!(!is_sent_away(&other));
    }

    #[test]
    fn workers_leave_places_for_operators() {
        let places = Places::new(16);
        let come = |number: u8, is_worker: bool| {
            let place = places.take(address(number)).expect("a place");
            let is_let_in = place.let_in(is_worker);
            (place, is_let_in)
        };
        let workers: Vec<(Place, bool)> = (0..16).map(|number| come(number, true)).collect();
        assert_eq!(workers.iter().filter(|(_, is_let_in)| *is_let_in).count(), 14, "an eighth is kept free");
        let operators: Vec<(Place, bool)> = (20..22).map(|number| come(number, false)).collect();
        assert!(operators.iter().all(|(_, is_let_in)| *is_let_in));
        assert!(workers[0].0.let_in(true), "whoever was let in stays");
        assert!(places.take(address(30)).is_none(), "all are taken by connections that were let in");
    }
}
