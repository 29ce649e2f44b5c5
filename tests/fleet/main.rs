//! A fleet of real processes, killed, stopped, cut off and replaced for real. Every test compares the final weights,
//! bit for bit, with those of an undisturbed run in one process, and asserts that its fault fired.

#[path = "../common/mod.rs"]
mod common;
mod fault;
mod liar;
mod matrix;
mod operate;
mod process;
mod proxy;
mod security;
mod storage;
mod sweep;
mod trace;
mod upgrade;
