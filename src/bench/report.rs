//! A run in words, and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::options::Options;
use super::summary::{Answers, Summary};
use crate::figures::{duration, grouped};

/// The quantiles that are told, with their names.
const QUANTILES: [(f64, &str); 5] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];

/// The run as a table.
pub fn text(options: &Options, summary: &Summary) -> String {
    let mut out = format!("{}\n\n", task(options));
    let name = |name: &str| format!("{name:>9}");
    let heads: String = QUANTILES.iter().map(|(_, head)| name(head)).collect();
    let _ = writeln!(out, "{:<5}{:>14}{:>11}{heads}", "", "answered", "a second");
    let mut row = |kind: &str, answers: &Answers| {
        let times: String = QUANTILES.iter().map(|(part, _)| name(&duration(answers.times.quantile(*part)))).collect();
        let count = answers.times.count();
        let rate = summary.rate(count).round() as u64;
        let _ = writeln!(out, "{kind:<5}{:>14}{:>11}{times}", grouped(count), grouped(rate));
    };
    let kinds = [("put", &summary.puts), ("get", &summary.gets)];
    kinds.iter().filter(|(_, answers)| answers.times.count() > 0).for_each(|(kind, answers)| row(kind, answers));
    row("all", &summary.all());
    out.push('\n');
    if summary.gets.nil > 0 {
        let nothing = if options.queue { "the list was empty" } else { "there was no such key" };
        let _ = writeln!(out, "{} of the gets were answered with nothing: {nothing}", grouped(summary.gets.nil));
    }
    if summary.lost_connections > 0 {
        let times = grouped(summary.lost_connections);
        let _ = writeln!(out, "connections were lost, or could not be made, {times} times");
    }
    match summary.failed_count() {
        0 => out.push_str("no request failed\n"),
        count => {
            let kinds: Vec<_> =
                summary.errors.iter().map(|(word, count)| format!("{word} {}", grouped(*count))).collect();
            let _ = writeln!(out, "{} requests failed: {}", grouped(count), kinds.join(", "));
        }
    }
    out
}

/// The run as one object.
pub fn json(options: &Options, summary: &Summary) -> Value {
    let answers = |answers: &Answers| {
        let mut value = latency(answers);
        value["answered"] = answers.times.count().into();
        value["nil"] = answers.nil.into();
        value["per_second"] = summary.rate(answers.times.count()).into();
        value
    };
    let (answered, failed) = (summary.answered_count(), summary.failed_count());
    json!({
        "clients": options.clients,
        "connections": options.connections.min(options.clients),
        "seconds": summary.time.as_secs_f64(),
        "mix": {"put": options.mix.put, "get": options.mix.get},
        "value_size": options.value_size,
        "keys": options.keys,
        "queue": options.queue,
        "seed": options.seed,
        "requests": answered + failed,
        "failed": failed,
        "errors": summary.errors,
        "lost_connections": summary.lost_connections,
        "all": answers(&summary.all()),
        "put": answers(&summary.puts),
        "get": answers(&summary.gets),
    })
}

fn latency(answers: &Answers) -> Value {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let mut times = json!({"mean": millis(answers.times.mean())});
    for (part, name) in QUANTILES {
        times[name.replace('.', "")] = millis(answers.times.quantile(part)).into();
    }
    json!({ "latency_ms": times })
}

/// What was asked for, in a line.
pub(super) fn task(options: &Options) -> String {
    let Options { clients, value_size, keys, mix, .. } = options;
    let what = match options.queue {
        true => "a queue".to_owned(),
        false => format!("{} keys", grouped(*keys)),
    };
    let connections = options.connections.min(*clients);
    format!(
        "{clients} clients over {connections} connections, put={},get={} of {value_size} bytes, {what}",
        mix.put, mix.get
    )
}
