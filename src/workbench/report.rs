//! What a run came to: figures, and a table of them for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::history::{Operation, Outcome};
use super::nemesis::{Fault, Happened};
use super::options::{Nemesis, Options};
use super::run::{Rest, Run};
use crate::figures::{duration, grouped};
use crate::latencies::Latencies;

/// The figures of a run, of what clients asked as often as they were told to: not of what was asked at the end.
pub struct Figures {
    /// Requests.
    pub asked: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that were refused for what the node knows about the data: no such key, a precondition.
    pub declined: u64,
    /// Those that were refused for another reason.
    pub refused: u64,
    /// Those whose outcome is unknown.
    pub unknown: u64,
    /// How long clients asked.
    pub time: Duration,
    /// How long requests took that were answered or declined, all together.
    pub latency: Latencies,
    /// Likewise, by type of request.
    pub by_kind: BTreeMap<String, Latencies>,
}

impl Figures {
    /// The figures of this run.
    pub fn of(run: &Run) -> Figures {
        let mut figures = Figures {
            asked: 0,
            answered: 0,
            declined: 0,
            refused: 0,
            unknown: 0,
            time: run.load.1.saturating_sub(run.load.0),
            latency: Latencies::default(),
            by_kind: BTreeMap::new(),
        };
        for operation in run.history.iter().filter(|operation| is_load(operation, run)) {
            figures.asked += 1;
            let count = match &operation.outcome {
                Outcome::Answered(_) => &mut figures.answered,
                Outcome::Refused { .. } if operation.outcome.is_served() => &mut figures.declined,
                Outcome::Refused { .. } => &mut figures.refused,
                Outcome::Unknown(_) => &mut figures.unknown,
            };
            *count += 1;
            if operation.outcome.is_served() {
                let took = operation.ended.saturating_sub(operation.began);
                figures.latency.add(took);
                let kind = operation.request["type"].as_str().unwrap_or_default();
                figures.by_kind.entry(kind.to_owned()).or_default().add(took);
            }
        }
        figures
    }

    /// Requests that were answered or declined.
    pub fn served(&self) -> u64 {
        self.answered + self.declined
    }

    /// The share of requests that were, from 0 to 1.
    pub fn availability(&self) -> f64 {
        self.served() as f64 / self.asked.max(1) as f64
    }

    /// Requests that were, a second.
    pub fn throughput(&self) -> f64 {
        self.served() as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

fn is_load(operation: &Operation, run: &Run) -> bool {
    !operation.at_rest && operation.began >= run.load.0 && operation.began <= run.load.1
}

/// A table of all there is to say, with a line for each thing.
pub fn table(options: &Options, run: &Run) -> String {
    let figures = Figures::of(run);
    let mut rows = vec![
        ("workload".to_owned(), workload(options)),
        ("verdict".to_owned(), verdict(run)),
        ("requests".to_owned(), requests(&figures)),
        ("availability".to_owned(), format!("{:.2} % of them were served", 100.0 * figures.availability())),
        ("throughput".to_owned(), format!("{:.1} served a second", figures.throughput())),
    ];
    if figures.served() > 0 {
        rows.push(("latency".to_owned(), took(&figures.latency)));
    }
    if figures.by_kind.len() > 1 {
        let kinds = figures.by_kind.iter();
        rows.extend(
            kinds.map(|(kind, times)| {
                (format!("  {kind}"), format!("{}, {} served", took(times), grouped(times.count())))
            }),
        );
    }
    if options.nodes > 1 {
        rows.push(("messages".to_owned(), messages(run, &figures)));
        rows.extend(run.rest.as_ref().map(|rest| ("at rest".to_owned(), at_rest(rest))));
    }
    rows.push(("faults".to_owned(), faults(options, &run.faults)));
    rows.extend(run.verdict.facts.iter().cloned());
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut table = String::new();
    for (name, value) in rows {
        let _ = writeln!(table, "{name:<width$}  {value}");
    }
    table + &findings(run)
}

fn took(times: &Latencies) -> String {
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|part| duration(times.quantile(part)));
    format!("p50 {p50}, p95 {p95}, p99 {p99}, max {}", duration(times.max()))
}

fn workload(options: &Options) -> String {
    let Options { workload, nodes, clients, rate, latency, seed, .. } = options;
    format!(
        "{workload}: {}, {}, {rate} requests a second, {} ms from node to node, seed {seed}",
        counted(*nodes as u64, "node"),
        counted(*clients as u64, "client"),
        latency.mean.as_millis()
    )
}

/// The verdict in a word or two.
pub fn verdict_word(run: &Run) -> &'static str {
    match (&run.trouble, run.was_stopped, &run.verdict) {
        (.., verdict) if !verdict.anomalies.is_empty() => "INVALID",
        (Some(_), ..) => "the run came to no end",
        (None, true, _) => "stopped before its end",
        (None, false, verdict) if verdict.undecided.is_some() => "undecided",
        (None, false, _) => "valid",
    }
}

fn verdict(run: &Run) -> String {
    let found = match run.verdict.anomalies.len() as u64 {
        0 => String::new(),
        count => format!(": {}", counted(count, "anomaly")),
    };
    format!("{}{found}; checked in {}", verdict_word(run), duration(run.checked_in))
}

/// What is wrong, at length.
fn findings(run: &Run) -> String {
    let mut text = String::new();
    if let Some(trouble) = &run.trouble {
        let _ = writeln!(text, "\nThe run came to no end: {trouble}");
    }
    if let Some(why) = &run.verdict.undecided {
        let _ = writeln!(text, "\nUndecided: {why}");
    }
    for anomaly in &run.verdict.anomalies {
        let _ = writeln!(text, "\n{}\n  {}", anomaly.name, anomaly.explanation.trim_end().replace('\n', "\n  "));
    }
    text
}

fn requests(figures: &Figures) -> String {
    let Figures { asked, answered, declined, refused, unknown, .. } = figures;
    let [asked, answered, declined, refused, unknown] =
        [asked, answered, declined, refused, unknown].map(|n| grouped(*n));
    format!("{asked}: {answered} answered, {declined} declined, {refused} refused, {unknown} unknown")
}

fn messages(run: &Run, figures: &Figures) -> String {
    let traffic = &run.traffic;
    let each = |messages: f64| messages / figures.asked.max(1) as f64;
    let all = traffic.between_nodes as f64;
    let idle = run.rest.as_ref().map_or(0.0, |rest| rest.idle_rate * figures.time.as_secs_f64());
    let unread = match traffic.unread {
        0 => String::new(),
        unread => format!(", {} because a node did not read", grouped(unread)),
    };
    format!(
        "{} between nodes, {:.1} a request ({:.1} beyond those at rest); {} lost by cuts, {} by chance{unread}",
        grouped(traffic.between_nodes),
        each(all),
        each((all - idle).max(0.0)),
        grouped(traffic.cut),
        grouped(traffic.lost)
    )
}

fn at_rest(rest: &Rest) -> String {
    let each = |asked: u64, messages: f64| messages / asked.max(1) as f64;
    let singles: Vec<_> = rest
        .singles
        .iter()
        .enumerate()
        .map(|(node, (asked, messages))| format!("n{node} {:.1}", each(*asked, *messages)))
        .collect();
    let (asked, messages) =
        rest.singles.iter().fold((0, 0.0), |(all, sum), (asked, messages)| (all + asked, sum + messages));
    format!(
        "{:.0} messages a second without a request, {:.1} more for each of {asked} ({})",
        rest.idle_rate,
        each(asked, messages),
        singles.join(", ")
    )
}

fn faults(options: &Options, faults: &[Happened]) -> String {
    let kinds = options.nemeses.iter().map(|nemesis| {
        let of: Vec<_> = faults.iter().filter(|fault| fault.fault.nemesis() == *nemesis).collect();
        let (count, effect) = (of.len() as u64, of.iter().map(|fault| fault.effect).sum());
        match nemesis {
            Nemesis::Partition if options.nodes == 1 => "no partition: one node cannot be parted from any other".into(),
            Nemesis::Partition => {
                format!("{}, which lost {}", counted(count, "partition"), counted(effect, "message"))
            }
            Nemesis::Kill => format!("{}, of {}", counted(count, "kill"), counted(effect, "node")),
            Nemesis::Pause => format!("{}, of {}", counted(count, "pause"), counted(effect, "node")),
        }
    });
    let kinds: Vec<String> = kinds.collect();
    if kinds.is_empty() { "none".into() } else { kinds.join("; ") }
}

/// Whether each kind of fault that was asked for, and that there can be, did something.
pub fn every_fault_happened(options: &Options, faults: &[Happened]) -> bool {
    let happened = |nemesis| faults.iter().any(|fault| fault.fault.nemesis() == nemesis && fault.effect > 0);
    let possible = |nemesis: &&Nemesis| **nemesis != Nemesis::Partition || options.nodes > 1;
    options.nemeses.iter().filter(possible).all(|nemesis| happened(*nemesis))
}

/// A fault in words, with what it did.
pub fn fault_words(happened: &Happened) -> String {
    let effect = match happened.fault {
        Fault::Partition { .. } => format!("{} lost", counted(happened.effect, "message")),
        Fault::Kill(_) | Fault::Pause(_) => counted(happened.effect, "node"),
    };
    format!("{} ({effect})", happened.fault)
}

/// So many of something.
fn counted(count: u64, of: &str) -> String {
    let ending = match (count, of.strip_suffix('y')) {
        (1, _) => of.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        _ => format!("{of}s"),
    };
    format!("{} {ending}", grouped(count))
}
