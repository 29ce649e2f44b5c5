//! f32 buffers that begin at a cache line, so that no vector of a padded row crosses one.

#![expect(unsafe_code, reason = "buffers are cleared in parallel, where they are used first")]

use rayon::prelude::*;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// Values that are cleared, or worked on together, at a time.
const AT_ONCE: usize = 1 << 15;

/// Zeros at first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Shorter than it should be where nothing was written yet.
    values: Vec<f32>,
    start: usize,
    len: usize,
}

/// A part of a buffer that is cleared as far as it is asked for.
pub(super) struct Part<'a> {
    values: &'a mut [MaybeUninit<f32>],
    cleared: usize,
}

impl Part<'_> {
    /// The values in a range. Ranges come in about the order of their ends, so that what is cleared is still in the
    /// cache.
    pub(super) fn get(&mut self, range: Range<usize>) -> &mut [f32] {
        self.clear(range.end);
        // SAFETY: everything up to the range's end was written.
        unsafe { &mut *(std::ptr::from_mut(&mut self.values[range]) as *mut [f32]) }
    }

    fn clear(&mut self, end: usize) {
        if end > self.cleared {
            self.values[self.cleared..end].fill(MaybeUninit::new(0.0));
            self.cleared = end;
        }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.clear(self.values.len());
    }
}

impl Buffer {
    pub(super) fn zeros(len: usize) -> Self {
        Self::made(len, AT_ONCE, |_, _| ())
    }

    /// Zeros that [`parts`](Self::parts) writes when they are wanted first.
    pub(super) fn later(len: usize) -> Self {
        let values: Vec<f32> = Vec::with_capacity(len + LINE / size_of::<f32>());
        let start = values.as_ptr().align_offset(LINE).min(values.capacity() - len);
        Self { values, start, len }
    }

    /// The buffer in parts of `len` values.
    pub(super) fn parts(&mut self, len: usize) -> Vec<Part<'_>> {
        let cleared = if self.values.is_empty() { 0 } else { len };
        let (start, end) = (self.start, self.start + self.len);
        if self.values.is_empty() {
            self.values.spare_capacity_mut()[..start].fill(MaybeUninit::new(0.0));
            // SAFETY: the capacity is there, and parts have written all of it when their borrow ends.
            unsafe { self.values.set_len(end) };
        }
        // SAFETY: what may be written may be seen as not written yet; parts write nothing but numbers.
        let values = unsafe { &mut *(std::ptr::from_mut(&mut self.values[start..]) as *mut [MaybeUninit<f32>]) };
        values.chunks_mut(len.max(1)).map(|values| Part { cleared: cleared.min(values.len()), values }).collect()
    }

    /// Chunks of zeros that `work` then adds to, in parallel: a chunk is still in the cache when it comes to it.
    pub(super) fn made(len: usize, chunk: usize, work: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let Self { mut values, start, .. } = Self::later(len);
        let spare = &mut values.spare_capacity_mut()[..start + len];
        spare[..start].fill(MaybeUninit::new(0.0));
        let clear_and_work = |(index, chunk): (usize, &mut [MaybeUninit<f32>])| {
            chunk.fill(MaybeUninit::new(0.0));
            // SAFETY: every value was just written.
            work(index, unsafe { &mut *(std::ptr::from_mut(chunk) as *mut [f32]) });
        };
        if len <= chunk {
            spare[start..].chunks_mut(chunk.max(1)).enumerate().for_each(clear_and_work);
        } else {
            spare[start..].par_chunks_mut(chunk.max(1)).enumerate().for_each(clear_and_work);
        }
        // SAFETY: the values before `start` and all chunks after it were written.
        unsafe { values.set_len(start + len) };
        Self { values, start, len }
    }
}

thread_local! {
    static SCRATCH: Cell<Buffer> = const { Cell::new(Buffer { values: Vec::new(), start: 0, len: 0 }) };
}

/// Runs with `len` values of scratch that the thread keeps from call to call: they are whatever was there before.
pub(super) fn with_scratch<R>(len: usize, run: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SCRATCH.take();
    if buffer.len < len {
        buffer = Buffer::zeros(len);
    }
    let result = run(&mut buffer[..len]);
    SCRATCH.set(buffer);
    result
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.len]
    }
}
