//! Where log lines go: standard error, one line an event: node, time of day (UTC), level, message.

use std::io::Write;

use env_logger::{Builder, Env};

/// Starts logging. `RUST_LOG` says what is logged; without it everything from `info` up, or from `debug` up. Every line
/// has the node's label, unless that is empty.
pub fn start(debug: bool, label: &str) {
    let level = if debug { "debug" } else { "info" };
    let label = if label.is_empty() { String::new() } else { format!("{label} | ") };
    Builder::from_env(Env::default().default_filter_or(level))
        .format(move |line, record| {
            let time = line.timestamp_millis().to_string();
            // 2026-11-20T14:03:07.123Z: the day is of no use in a terminal.
            let time = time.get(11..23).unwrap_or(&time);
            let style = line.default_level_style(record.level());
            writeln!(line, "{label}{time} {style}{:<5}{style:#} {}", record.level(), record.args())
        })
        .init();
}
