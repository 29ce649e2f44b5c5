//! The `bloctrain` command.
fn main() {}
