//! Child processes, one a node: starts them, shows their lines, notices when they end, and stops them.
//!
//! A child stops by itself at the end of its standard input, whose other end only this process holds. So no child can
//! outlive it, not even when it is killed.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::printer::NodeLines;

/// The children, in the order they were started. Dropping it lets them all stop, without waiting for it.
pub struct Supervisor {
    children: Vec<Supervised>,
}

struct Supervised {
    label: String,
    child: Child,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Supervisor {
    /// Starts a child for every command.
    ///
    /// # Errors
    /// When one cannot be started; those before it stop.
    pub fn start(
        commands: impl IntoIterator<Item = (String, Command)>,
        lines: &Arc<NodeLines>,
    ) -> io::Result<Supervisor> {
        let mut supervisor = Supervisor { children: Vec::new() };
        for (number, (label, command)) in commands.into_iter().enumerate() {
            supervisor.children.push(Supervised::start(label, command, number, lines)?);
        }
        Ok(supervisor)
    }

    /// Notices which children have ended since the last call: their labels, and how. All their lines have been shown.
    pub fn reap(&mut self) -> Vec<(String, ExitStatus)> {
        self.children.iter_mut().filter_map(Supervised::reap).collect()
    }

    /// The labels of those that run.
    pub fn running(&self) -> Vec<&str> {
        self.children.iter().filter(|node| node.status.is_none()).map(|node| node.label.as_str()).collect()
    }

    /// Lets all children stop cleanly.
    pub fn close(&mut self) {
        for node in &mut self.children {
            drop(node.child.stdin.take());
        }
    }

    /// Kills those that still run.
    pub fn kill(&mut self) {
        for node in self.children.iter_mut().filter(|node| node.status.is_none()) {
            // It fails only for one that has ended.
            let _ = node.child.kill();
        }
    }
}

impl Supervised {
    fn start(label: String, mut command: Command, number: usize, lines: &Arc<NodeLines>) -> io::Result<Supervised> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C goes to the group of this process: only this process may take it as a wish to stop.
            .process_group(0)
            .spawn()?;
        let outputs = [
            child.stdout.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
            child.stderr.take().map(|output| Box::new(output) as Box<dyn Read + Send>),
        ];
        let mut readers = Vec::new();
        for output in outputs.into_iter().flatten() {
            let (name, lines) = (format!("lines of {label}"), lines.clone());
            readers.push(thread::Builder::new().name(name).spawn(move || show_lines(output, number, &lines))?);
        }
        Ok(Supervised { label, child, readers, status: None })
    }

    fn reap(&mut self) -> Option<(String, ExitStatus)> {
        if self.status.is_some() {
            return None;
        }
        // An error would mean that there is no such child, which cannot be: we have not waited for it yet.
        self.status = self.child.try_wait().ok().flatten();
        let status = self.status?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Some((self.label.clone(), status))
    }
}

/// Shows everything that a child prints, until it closes that.
fn show_lines(output: impl Read, number: usize, lines: &NodeLines) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
        lines.show(number, String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}
