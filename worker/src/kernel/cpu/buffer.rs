//! f32 buffers that begin at a cache line, so that no vector of a padded row crosses one.

#![expect(unsafe_code, reason = "buffers are cleared in parallel, where they are used first")]

use rayon::prelude::*;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// Values that are cleared, or worked on together, at a time.
const AT_ONCE: usize = 1 << 15;

/// Zeros at first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(super) fn zeros(len: usize) -> Self {
        Self::made(len, AT_ONCE, |_, _| ())
    }

    /// Chunks of zeros that `work` then adds to, in parallel: a chunk is still in the cache when it comes to it.
    pub(super) fn made(len: usize, chunk: usize, work: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let mut values: Vec<f32> = Vec::with_capacity(len + LINE / size_of::<f32>());
        let start = values.as_ptr().align_offset(LINE).min(values.capacity() - len);
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
