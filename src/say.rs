//! Lines for people and programs. A stream that somebody closes ends nothing: what nobody reads is not written.

use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};

/// A line on standard error, for people.
macro_rules! say {
    ($($text:tt)*) => { $crate::say::error_line(format_args!($($text)*)) };
}

/// A line on standard output, which is what a command was asked for.
macro_rules! tell {
    ($($text:tt)*) => { $crate::say::output_line(format_args!($($text)*)) };
}

/// Whether standard error is a terminal on which something can be drawn; one that calls itself dumb only takes lines.
pub(crate) fn is_drawn_on() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a line on standard error.
pub(crate) fn error_line(text: Arguments<'_>) {
    // Whoever reads it may be gone, and there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a line on standard output; ends the process where it cannot be written though somebody reads.
pub(crate) fn output_line(text: Arguments<'_>) {
    let written = writeln!(std::io::stdout(), "{text}").and_then(|()| std::io::stdout().flush());
    if let Err(error) = written.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    {
        error_line(format_args!("error: cannot write to standard output: {error}"));
        std::process::exit(1);
    }
}
