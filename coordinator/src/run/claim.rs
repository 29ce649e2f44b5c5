//! What may be claimed of a number or a name, whatever it is about.

/// Longest name of anything, in bytes.
pub(crate) const MAX_NAME: usize = 128;

/// Longest path, in bytes.
pub(super) const MAX_PATH: usize = 4_096;

/// Most bytes, parameters or samples that a report may claim of one thing, and most seconds.
const MOST: u64 = 1 << 50;

/// Whether a text may be a name.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

/// Refuses what is no measurement.
pub(crate) fn measure(what: &str, value: f64) -> Result<(), String> {
    let possible = (0.0..=MOST as f64).contains(&value);
    possible.then_some(()).ok_or_else(|| format!("{what} is {value}"))
}

/// Refuses what is no count.
pub(crate) fn count(what: &str, value: u64) -> Result<(), String> {
    (value <= MOST).then_some(()).ok_or_else(|| format!("{what} is {value}"))
}

/// Refuses what is not in [0, 1].
pub(super) fn fraction(what: &str, value: f64) -> Result<(), String> {
    (0.0..=1.0).contains(&value).then_some(()).ok_or_else(|| format!("{what} is {value}, no fraction"))
}
