//! Where the nodes' lines are shown, and how they look.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use raft::shell::ExternalPrinter;

/// Shows lines while a prompt may be on the same terminal. A line editor has its own way to do so without disturbing the
/// line being typed.
pub trait Printer: Send + Sync {
    /// Shows one line, given without its end.
    fn print(&self, line: &str);
}

/// Lines on standard error, where they do not mix with answers on standard output; above the prompt while there is one.
#[derive(Default)]
pub struct TerminalPrinter {
    prompt: Mutex<Option<Box<dyn ExternalPrinter + Send>>>,
}

impl TerminalPrinter {
    /// From now on a prompt is on the terminal.
    pub fn use_prompt(&self, prompt: Box<dyn ExternalPrinter + Send>) {
        *self.prompt.lock().unwrap_or_else(PoisonError::into_inner) = Some(prompt);
    }
}

impl Printer for TerminalPrinter {
    fn print(&self, line: &str) {
        let mut prompt = self.prompt.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(printer) = prompt.as_mut() {
            if printer.print(format!("{line}\n")).is_ok() {
                return;
            }
            // The prompt is gone.
            *prompt = None;
        }
        // When nobody is left to read it, there is nothing to be done about it.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Whether standard error should have colours: on a terminal that has them, unless the user does not want any
/// (<https://no-color.org>).
pub fn wants_colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stderr().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Shows what nodes log, each line behind its node's label, and points out new leaders.
pub struct NodeLines {
    printer: Arc<dyn Printer>,
    labels: Vec<String>,
    prefixes: Vec<String>,
    /// Latest term whose leader was pointed out.
    term: AtomicU64,
}

const COLOURS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Red];

impl NodeLines {
    /// For nodes with these labels.
    pub fn new<'a>(printer: Arc<dyn Printer>, labels: impl Iterator<Item = &'a str> + Clone, colour: bool) -> Self {
        let width = labels.clone().map(str::len).max().unwrap_or(0);
        let names = labels.clone().map(str::to_owned).collect();
        let styles = COLOURS.iter().cycle().map(|colour| Style::new().fg_color(Some((*colour).into())));
        let prefix = |(label, style): (&str, Style)| match colour {
            true => format!("{style}{label:<width$} |{style:#} "),
            false => format!("{label:<width$} | "),
        };
        let prefixes = labels.zip(styles).map(prefix).collect();
        NodeLines { printer, labels: names, prefixes, term: AtomicU64::new(0) }
    }

    /// Shows a line of a node, counted from 0.
    pub fn show(&self, node: usize, line: &str) {
        let prefix = self.prefixes.get(node).map_or("", String::as_str);
        self.printer.print(&format!("{prefix}{line}"));
        if let Some((leader, term)) = new_leader(line)
            && self.term.fetch_max(term, Ordering::Relaxed) < term
        {
            let label = self.labels.get(node).map_or("", String::as_str);
            self.printer.print(&format!("leader: node {leader} ({label}), term {term}"));
        }
    }
}

/// The leader's id and its term, if it has just said so: `... node 2 is leader of term 3`.
fn new_leader(line: &str) -> Option<(&str, u64)> {
    let (before, after) = line.rsplit_once(" is leader of term ")?;
    let (_, leader) = before.rsplit_once("node ")?;
    let digits = after.split(|char: char| !char.is_ascii_digit()).next()?;
    Some((leader, digits.parse().ok()?))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Keeps the lines for a test to look at.
    #[derive(Default)]
    pub struct KeptLines(Mutex<Vec<String>>);

    impl KeptLines {
        pub fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Printer for KeptLines {
        fn print(&self, line: &str) {
            self.0.lock().unwrap().push(line.into());
        }
    }

    #[test]
    fn lines_have_their_labels_in_front_below_each_other() {
        let kept = Arc::new(KeptLines::default());
        let lines = NodeLines::new(kept.clone(), ["A", "Long"].into_iter(), false);
        lines.show(0, "one");
        lines.show(1, "two");
        assert_eq!(kept.take(), ["A    | one", "Long | two"]);
    }

    #[test]
    fn only_the_label_is_coloured() {
        let kept = Arc::new(KeptLines::default());
        NodeLines::new(kept.clone(), ["A"].into_iter(), true).show(0, "one");
        assert_eq!(kept.take(), ["\u{1b}[36mA |\u{1b}[0m one"]);
    }

    #[test]
    fn a_leader_is_pointed_out_once_a_term() {
        let kept = Arc::new(KeptLines::default());
        let lines = NodeLines::new(kept.clone(), ["A", "B"].into_iter(), false);
        for (node, line) in [
            (1, "12:00 INFO  node 2 is leader of term 3"),
            (1, "node 2 is leader of term 3, it says"),
            (0, "node 1 is leader of term 2"),
        ] {
            lines.show(node, line);
        }
        let pointed_out: Vec<_> = kept.take().into_iter().filter(|line| line.starts_with("leader:")).collect();
        assert_eq!(pointed_out, ["leader: node 2 (B), term 3"]);
        for line in ["", "node 2 is leader of term ", "is leader of term 3", "node  is leader of term x"] {
            assert_eq!(new_leader(line), None, "{line}");
        }
    }
}
