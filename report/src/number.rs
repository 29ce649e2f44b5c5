//! Figures as people read them.

use bloctrain_shared::math::double as math;
use bytesize::ByteSize;

/// A fraction in percent.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

/// Bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

/// A count with thin groups of three digits.
pub(crate) fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Channels of an image.
pub(crate) fn channels(channels: usize) -> String {
    if channels == 1 { "1 channel".into() } else { format!("{channels} channels") }
}

/// A factor.
pub(crate) fn times(factor: f64) -> String {
    format!("{factor:.2}x")
}

/// Energy in picojoules, in the unit that fits.
pub(crate) fn joules(picojoules: f64) -> String {
    let units = [(1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")];
    match units.iter().find(|(size, _)| picojoules >= *size) {
        Some((size, unit)) => format!("{:.3} {unit}", picojoules / size),
        None => format!("{picojoules:.1} pJ"),
    }
}

/// A number on an axis, with no more digits than its step needs.
pub(crate) fn tick(value: f64, step: f64) -> String {
    let digits = if step > 0.0 && step < 1.0 { (-math::log10(step)).ceil().clamp(0.0, 6.0) as usize } else { 0 };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_words() {
        assert_eq!([count(0.0), count(999.6), count(1234567.0)], ["0", "1,000", "1,234,567"]);
        assert_eq!([joules(12.0), joules(581_819.0 * 0.9), joules(2e12)], ["12.0 pJ", "523.637 nJ", "2.000 J"]);
        assert_eq!(
            (percent(0.86371), times(3.3391), bytes(11_639_193)),
            ("86.37 %".into(), "3.34x".into(), "11.1 MiB".into())
        );
        assert_eq!((tick(0.05, 0.05), tick(20.0, 5.0)), ("0.05".into(), "20".into()));
    }
}
