//! A run as a page: one HTML file that needs nothing else.

mod latency;
mod timeline;

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::history::{Operation, Outcome};
use super::options::Options;
use super::report;
use super::run::Run;
use crate::drawing::{Time, escaped};
use crate::figures::{duration, excerpt};

const STYLE: &str = include_str!("page.css");
/// Longest part of a request or an answer that is shown, in characters.
const EXCERPT_CHARS: usize = 160;

/// The page of a run. `again` is the command that does the same again.
pub fn page(options: &Options, run: &Run, again: &str) -> String {
    let mut html = String::new();
    // Nothing can go wrong with writing to a string.
    let _ = write(&mut html, options, run, again);
    html
}

fn write(html: &mut String, options: &Options, run: &Run, again: &str) -> fmt::Result {
    let title = format!("{}: {}", options.workload, report::verdict_word(run));
    let time = time(run);
    writeln!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{0}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>",
        escaped(&title)
    )?;
    writeln!(html, "<pre>{}</pre>", escaped(&report::table(options, run)))?;
    writeln!(html, "<p>Run again: <code>{}</code></p>", escaped(again))?;
    faults(html, run)?;
    html.push_str(&timeline::section(options, run, time));
    html.push_str(&latency::section(run, time));
    html.push_str("</body>\n</html>\n");
    Ok(())
}

fn faults(html: &mut String, run: &Run) -> fmt::Result {
    if run.faults.is_empty() {
        return Ok(());
    }
    let count = run.faults.len();
    writeln!(html, "<details><summary>{count} faults</summary>\n<table>")?;
    writeln!(html, "<tr><th>from, s</th><th>to, s</th><th>what</th></tr>")?;
    for fault in &run.faults {
        let (began, ended) = (fault.began.as_secs_f64(), fault.ended.as_secs_f64());
        let words = escaped(&report::fault_words(fault));
        writeln!(html, "<tr><td>{began:.2}</td><td>{ended:.2}</td><td>{words}</td></tr>")?;
    }
    writeln!(html, "</table></details>")
}

/// The whole of a run.
fn time(run: &Run) -> Time {
    let last = run.history.iter().map(|operation| operation.ended).max().unwrap_or_default();
    Time { end: last.max(run.load.1).max(Duration::from_millis(1)) }
}

/// The class of an operation, by what came of it.
fn class(operation: &Operation) -> &'static str {
    match &operation.outcome {
        _ if operation.outcome.is_served() => "ok",
        Outcome::Unknown(_) => "unknown",
        _ => "refused",
    }
}

/// An operation in words, for whoever points at it.
fn words(number: usize, operation: &Operation) -> String {
    let outcome = match &operation.outcome {
        Outcome::Answered(answer) => answer.to_string(),
        Outcome::Refused { code, text } => format!("refused, {code}: {text}"),
        Outcome::Unknown(why) => format!("unknown: {why}"),
    };
    let (began, took) = (operation.began, operation.ended.saturating_sub(operation.began));
    format!(
        "{number}: process {} at n{}, {:.3} s, {}\n{}\n{}",
        operation.process,
        operation.node,
        began.as_secs_f64(),
        duration(took),
        excerpt(&operation.request.to_string(), EXCERPT_CHARS),
        excerpt(&outcome, EXCERPT_CHARS)
    )
}

/// Which of so many are shown, so that no more than `most` are: all those for which `always` is true, and of the others one in so many.
fn sample(count: usize, most: usize, always: impl Fn(usize) -> bool) -> (Vec<usize>, usize) {
    let step = count.div_ceil(most.max(1)).max(1);
    ((0..count).filter(|number| number % step == 0 || always(*number)).collect(), step)
}

#[cfg(test)]
mod tests;
