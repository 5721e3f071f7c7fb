//! A bar on standard error for what takes long.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use raft::storage::inspect::OnRead;

/// What is not larger is read before anybody would look at a bar.
const LONG_BYTES: u64 = 64 << 20;

/// A bar for so many steps of something, hidden unless standard error is a terminal.
pub fn steps(count: u64, of: &str) -> ProgressBar {
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new(count),
        false => ProgressBar::hidden(),
    };
    let template = format!("{{wide_bar}} {{pos}} of {{len}} {of}, {{eta}} left{{msg}}");
    bar.with_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar for reading so many bytes, hidden where it would be of no use; and what moves it.
pub fn bar(size_bytes: u64) -> (ProgressBar, OnRead) {
    let bar = match size_bytes > LONG_BYTES && io::stderr().is_terminal() {
        true => ProgressBar::new(size_bytes),
        false => ProgressBar::hidden(),
    };
    let template = "{wide_bar} {bytes} of {total_bytes}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let moved = bar.clone();
    // A record at the end of what is read at a time is read twice: that must not lead beyond the end.
    let on_read = move |bytes: u64| moved.set_position((moved.position() + bytes).min(size_bytes));
    (bar, Arc::new(on_read))
}
