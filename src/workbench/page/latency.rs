//! How long requests took, and how many were served, over time.

use std::time::Duration;

use super::super::history::Operation;
use super::super::run::Run;
use super::{class, sample, words};
use crate::drawing::{Drawing, Time};

const HEIGHT: f64 = 260.0;
const RATE_HEIGHT: f64 = 120.0;
const DOTS_MAX: usize = 6_000;
/// The line of the median has so many points at most, and so has that of the rate.
const PARTS: usize = 110;
/// Shortest and longest time that is told apart, in seconds.
const SHORTEST: f64 = 100e-6;
const LONGEST: f64 = 100.0;

/// Latency and rate over time.
pub fn section(run: &Run, time: Time) -> String {
    let (shown, step) = sample(run.history.len(), DOTS_MAX, |_| false);
    let mut drawing = Drawing::new(HEIGHT);
    drawing.seconds(time);
    for (seconds, words) in
        [(1e-4, "0.1 ms"), (1e-3, "1 ms"), (1e-2, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s")]
    {
        drawing.left(y(seconds), words);
    }
    for fault in &run.faults {
        let (x, end) = (time.x(fault.began), time.x(fault.ended));
        drawing.rectangle("partition", (x, 0.0), (end - x, HEIGHT), "");
    }
    for number in shown {
        let Some(operation) = run.history.get(number) else { continue };
        let place = (time.x(operation.ended), y(took(operation).as_secs_f64()));
        drawing.dot(class(operation), place, 1.8, &words(number, operation));
    }
    let medians = parts(run, time).into_iter().filter_map(|(x, mut part)| {
        part.sort_unstable();
        Some((x, y(part.get(part.len() / 2)?.as_secs_f64())))
    });
    drawing.line("median", medians);
    let note = match step {
        1 => String::new(),
        step => format!(" One request in {step} is shown."),
    };
    format!(
        "<h2>Latency</h2>\n<p>Each dot is a request, when it ended; the line is the median of those that were served.{note}</p>\n{}{}",
        drawing.svg("Latency over time"),
        rate(run, time)
    )
}

fn rate(run: &Run, time: Time) -> String {
    let each = time.end.as_secs_f64() / PARTS as f64;
    let rates: Vec<_> = parts(run, time).into_iter().map(|(x, part)| (x, part.len() as f64 / each)).collect();
    let most = rates.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let mut drawing = Drawing::new(RATE_HEIGHT);
    drawing.seconds(time);
    drawing.left(14.0, &format!("{most:.0}/s"));
    drawing.left(RATE_HEIGHT, "0");
    drawing.line("rate", rates.into_iter().map(|(x, rate)| (x, RATE_HEIGHT - (RATE_HEIGHT - 10.0) * rate / most)));
    format!("<h2>Requests served a second</h2>\n{}", drawing.svg("Requests served a second, over time"))
}

/// How long those requests took that were served, by when that was, in parts of the time, each with its middle.
fn parts(run: &Run, time: Time) -> Vec<(f64, Vec<Duration>)> {
    let width = Time::WIDTH / PARTS as f64;
    let mut parts: Vec<_> = (0..PARTS).map(|part| (width * (part as f64 + 0.5), Vec::new())).collect();
    for operation in run.history.iter().filter(|operation| operation.outcome.is_served()) {
        let part = (time.x(operation.ended) / width) as usize;
        if let Some((_, part)) = parts.get_mut(part.min(PARTS - 1)) {
            part.push(took(operation));
        }
    }
    parts
}

fn took(operation: &Operation) -> Duration {
    operation.ended.saturating_sub(operation.began)
}

/// The height of so many seconds, from top to bottom.
fn y(seconds: f64) -> f64 {
    let share = (seconds.clamp(SHORTEST, LONGEST) / SHORTEST).log10() / (LONGEST / SHORTEST).log10();
    HEIGHT * (1.0 - share)
}
