//! What goes wrong on a device's own thread.
//!
//! CubeCL works for us on threads of its own. Where one of them panics, as it does when memory is not to be had, it
//! says so on standard error, leaves out what it was asked for, and goes on: results are then whatever was in memory.
//! So panics of these threads are noted, and whoever computes on a device asks for them before believing a result.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// How CubeCL's threads are named.
const THREADS: &str = "DSD-";

static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Notes panics of CubeCL's threads from now on, and leaves those of others as they were, but for what follows from
/// one.
pub fn watch() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name().is_some_and(|name| name.starts_with(THREADS)) {
                note(panic);
            } else if first().is_none() {
                others(panic);
            }
        }));
    });
}

/// What went wrong first since the last call, and what to do.
pub fn take() -> Option<String> {
    first().take()
}

/// The result of some work on a device, unless the device failed meanwhile.
///
/// # Errors
/// What the device failed of, or what the work says.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let result = catch_unwind(AssertUnwindSafe(work));
    match (take(), result) {
        (Some(message), _) => Err(message),
        (None, Ok(result)) => result,
        (None, Err(panic)) => resume_unwind(panic),
    }
}

fn first() -> MutexGuard<'static, Option<String>> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("a panic without a message");
    // What follows is of the first.
    first().get_or_insert_with(|| explained(text));
    tracing::debug!(text, "the device's thread panicked");
}

/// The beginning of a message of CubeCL, which may hold the source of a kernel.
pub fn brief(text: &str) -> String {
    text.lines().filter(|line| !line.trim().is_empty()).take(12).collect::<Vec<_>>().join("\n")
}

/// The message for a panic of CubeCL.
fn explained(text: &str) -> String {
    let refused = text.split_once("can't allocate buffer of size: ").map(|(_, rest)| rest);
    let bytes = refused.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    match bytes.and_then(|bytes| bytes.parse::<u64>().ok()) {
        Some(bytes) => format!(
            "the device has too little memory: {} MiB more could not be had; set train.micro_batch to a part of \
             train.batch, or use a smaller train.batch or network",
            bytes.div_ceil(1 << 20)
        ),
        None => {
            let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or(text);
            format!("the device failed: {first}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_devices_thread_is_noted_once_and_those_of_others_are_not() {
        watch();
        let on = |name: &str, text: &'static str| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || panic!("{text}"));
            assert!(thread.expect("a thread").join().is_err());
        };
        on(
            "DSD-0-0",
            "called `Result::unwrap()` on an `Err` value: can't allocate buffer of size: 3145729\nNo backtrace",
        );
        on("DSD-0-0", "couldn't find resource for that handle");
        on("other", "something else");
        let found = take().expect("it was noted");
        assert!(found.contains("too little memory: 4 MiB more") && found.contains("train.micro_batch"), "{found}");
        assert_eq!(take(), None);
    }
}
