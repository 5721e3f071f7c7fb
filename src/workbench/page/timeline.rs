//! The timeline: a row for each client's place, with a bar for each operation; what went wrong behind them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::nemesis::{Fault, Happened};
use super::super::options::Options;
use super::super::report;
use super::super::run::Run;
use super::{class, sample, words};
use crate::drawing::{Drawing, Time};

const ROW: f64 = 12.0;
const GAP: f64 = 8.0;
const BARS_MAX: usize = 15_000;
/// Anomalies mark so many operations at most.
const MARKED_MAX: usize = 2_000;

/// The timeline of a run.
pub fn section(options: &Options, run: &Run, time: Time) -> String {
    let rows = Rows::of(options, run);
    let mut drawing = Drawing::new(rows.height());
    drawing.seconds(time);
    for fault in &run.faults {
        shade(&mut drawing, fault, &rows, time);
    }
    for node in 0..options.nodes {
        drawing.left(rows.top(node) + ROW, &format!("n{node}"));
    }
    let marked: BTreeSet<usize> =
        run.verdict.anomalies.iter().flat_map(|anomaly| anomaly.operations.iter().copied()).take(MARKED_MAX).collect();
    let (shown, step) = sample(run.history.len(), BARS_MAX, |number| marked.contains(&number));
    for number in shown {
        let (Some(operation), Some(row)) = (run.history.get(number), rows.row.get(number)) else { continue };
        let (x, end) = (time.x(operation.began), time.x(operation.ended));
        let mark = if marked.contains(&number) { " marked" } else { "" };
        let size = ((end - x).max(1.0), ROW - 3.0);
        let place = (x, rows.top(operation.node) + ROW * *row as f64);
        drawing.rectangle(&format!("{}{mark}", class(operation)), place, size, &words(number, operation));
    }
    let note = match step {
        1 => String::new(),
        step => format!(" One operation in {step} is shown, and all that anomalies are about."),
    };
    format!(
        "<h2>Timeline</h2>\n<p><span class=\"key ok\"></span> served <span class=\"key refused\"></span> refused \
         <span class=\"key unknown\"></span> unknown <span class=\"key marked\"></span> part of an anomaly \
         <span class=\"key partition\"></span> partition <span class=\"key kill\"></span> killed \
         <span class=\"key pause\"></span> paused. Point at something to read what it is.{note}</p>\n{}",
        drawing.svg("Operations by node and client, and faults")
    )
}

/// Which row each operation is in: of its node, the first one that is free, so that no two that overlap share one.
struct Rows {
    row: Vec<usize>,
    /// How many each node has.
    counts: Vec<usize>,
}

impl Rows {
    fn of(options: &Options, run: &Run) -> Rows {
        let mut busy: Vec<Vec<Duration>> = vec![Vec::new(); options.nodes];
        let row = run.history.iter().map(|operation| {
            let Some(rows) = busy.get_mut(operation.node) else { return 0 };
            let free = rows.iter().position(|until| *until <= operation.began).unwrap_or(rows.len());
            match rows.get_mut(free) {
                Some(until) => *until = operation.ended,
                None => rows.push(operation.ended),
            }
            free
        });
        let row = row.collect();
        Rows { row, counts: busy.iter().map(|rows| rows.len().max(1)).collect() }
    }

    fn top(&self, node: usize) -> f64 {
        let above: usize = self.counts.iter().take(node).sum();
        GAP * (node + 1) as f64 + ROW * above as f64
    }

    fn height(&self) -> f64 {
        self.top(self.counts.len())
    }
}

fn shade(drawing: &mut Drawing, fault: &Happened, rows: &Rows, time: Time) {
    let (x, end) = (time.x(fault.began), time.x(fault.ended));
    let words = report::fault_words(fault);
    let mut shade = |class, nodes: &[usize]| {
        for node in nodes {
            let (top, bottom) = (rows.top(*node), rows.top(*node + 1) - GAP);
            drawing.rectangle(class, (x, top - GAP / 4.0), (end - x, bottom - top + GAP / 2.0), &words);
        }
    };
    match &fault.fault {
        Fault::Partition { .. } => drawing.rectangle("partition", (x, 0.0), (end - x, rows.height()), &words),
        Fault::Kill(nodes) => shade("kill", nodes),
        Fault::Pause(nodes) => shade("pause", nodes),
    }
}
