//! Damaged input for every parser of outside bytes: an error or a value, never a panic, and no more memory than the
//! size of the input allows.
//!
//! `BLOCTRAIN_DAMAGED=1000000 cargo test --release --workspace damaged` tries as many of each; without it, some
//! thousand. Tests of the crates that parse call [`each`]; whoever links this crate has its allocator.

mod allocator;

use bloctrain_shared::seed;
use rand::{Rng, RngExt};

/// Inputs of each kind.
fn count() -> u64 {
    std::env::var("BLOCTRAIN_DAMAGED").ok().and_then(|count| count.parse().ok()).unwrap_or(3_000)
}

/// A few bytes changed, taken out or doubled, or the end cut off.
fn damaged(rng: &mut impl Rng, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes.insert(at, bytes[at]),
            3 if at < bytes.len() => bytes[at] = [0, 0xff, 0x7f, 0x80][rng.random_range(0..4)],
            4 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            _ if at < bytes.len() => bytes[at] = rng.random(),
            _ => {}
        }
    }
    bytes
}

/// What a parser may take.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Bytes, however small the input.
    pub least: usize,
    /// Bytes for each byte of the input.
    pub each: usize,
}

/// Parses many damaged copies of some inputs, and these themselves. `parse` says whether it took one.
///
/// # Panics
/// When a parser takes all of them or not even what is whole, or takes more memory than allowed.
pub fn each(name: &str, whole: &[Vec<u8>], allowance: Allowance, parse: impl Fn(&[u8]) -> bool) {
    let mut read = 0_u64;
    for number in 0..count() {
        let mut rng = seed::rng(number, name, &[]);
        let chosen = &whole[rng.random_range(0..whole.len())];
        let bytes = damaged(&mut rng, chosen);
        let (taken, peak) = allocator::peak(|| parse(&bytes));
        let allowed = allowance.least + allowance.each * bytes.len();
        let about = || {
            format!(
                "{name}: input {number}, {} bytes that begin with {:x?}",
                bytes.len(),
                &bytes[..bytes.len().min(16)]
            )
        };
        assert!(peak <= allowed, "{}, took {peak} bytes of memory, not {allowed}", about());
        read += u64::from(taken);
    }
    assert!(read < count(), "{name}: damage goes unnoticed in all of {read}");
    whole.iter().for_each(|whole| assert!(parse(whole), "{name}: undamaged"));
}

/// [`each`] for parsers of text: what is no UTF-8 after the damage is replaced.
///
/// # Panics
/// As [`each`].
pub fn each_text(name: &str, whole: &[&str], allowance: Allowance, parse: impl Fn(&str) -> bool) {
    let whole: Vec<_> = whole.iter().map(|text| text.as_bytes().to_vec()).collect();
    each(name, &whole, allowance, |bytes| parse(&String::from_utf8_lossy(bytes)));
}
