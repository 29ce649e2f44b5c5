//! Live memory, measured: the number behind `peak_memory_bytes`. On the CPU backend it is the heap's; GPU backends
//! report what their allocator has in use.
//!
//! Install [`CountingAllocator`] as the global allocator of a program; then [`live`] and [`peak`] count every heap
//! allocation of the process, tensors included. Without it both stay 0.

#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; every call is forwarded unchanged to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static DEVICE_PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system allocator, with a count of live bytes and of their peak.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

fn grew(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

fn shrank(bytes: usize) {
    LIVE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: each method passes its arguments to `System` unchanged and returns what `System` returned; counting touches
// atomics only and never allocates.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds `GlobalAlloc::alloc`'s contract, which is `System`'s.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            grew(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if !pointer.is_null() {
            grew(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from this allocator, that is from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) };
        shrank(layout.size());
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`; `size` is the caller's responsibility as in `System`.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        if !moved.is_null() {
            if size > layout.size() { grew(size - layout.size()) } else { shrank(layout.size() - size) }
        }
        moved
    }
}

/// Makes the C library keep freed memory for the next allocation instead of giving it back to the system and asking for
/// it again, page by page, in every training step. Does nothing where the C library is another one.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` changes settings of the allocator and touches no memory of ours; it is called once, at start.
    unsafe {
        // 32 MiB is the largest threshold that glibc takes.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

/// Makes the C library serve all threads from one heap: in a process that allocates much and computes little, one for
/// each thread would only spread small pieces over more memory. Does nothing where the C library is another one.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as for `keep_freed_memory`.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Bytes that are allocated now.
pub fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Most bytes that were allocated at once since the last [`reset_peak`].
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Most bytes of a GPU's memory that were seen in use since the last [`reset_peak`].
pub fn device_peak() -> usize {
    DEVICE_PEAK.load(Ordering::Relaxed)
}

/// Takes note of the GPU memory in use. A process computes on one GPU, so there is one count.
pub fn saw_device(bytes: usize) {
    DEVICE_PEAK.fetch_max(bytes, Ordering::Relaxed);
}

/// Starts a new measurement of the peaks.
pub fn reset_peak() {
    PEAK.store(live(), Ordering::Relaxed);
    DEVICE_PEAK.store(0, Ordering::Relaxed);
}
