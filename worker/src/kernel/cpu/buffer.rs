//! f32 buffers that begin at a cache line, so that no vector of a padded row crosses one.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// Zeros at first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    pub(super) fn zeros(len: usize) -> Self {
        let values = vec![0.0; len + LINE / size_of::<f32>()];
        let start = values.as_ptr().align_offset(LINE).min(values.len() - len);
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
