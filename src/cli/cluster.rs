//! `raft cluster`: all nodes of raft.ini as processes of their own, and a shell.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{self, ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use raft::client::{Client, DEFAULT_TIMEOUT};
use raft::config::{Config, NodeConfig};
use raft::shell;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Error;
use super::args::{ClusterArgs, CommonArgs};
use super::printer::{self, NodeLines, Printer, TerminalPrinter};
use super::stop;
use super::supervisor::Supervisor;

/// After so long without news, say what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Nodes stop within two seconds; one that has not stopped by then is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A child has ended: perhaps several.
    ChildEnded,
    /// Ctrl-C or SIGTERM.
    Signal(i32),
    /// The shell was left, with this exit code.
    ShellEnded(u8),
}

pub fn run(args: &ClusterArgs) -> Result<ExitCode, Error> {
    let config = args.common.load()?;
    let _settings = TerminalSettings::remember();
    let printer = Arc::new(TerminalPrinter::default());
    let (sender, events) = crossbeam_channel::unbounded();
    watch_signals(sender.clone()).map_err(|error| Error::failed("cannot wait for signals", error))?;
    let executable = env::current_exe().map_err(|error| Error::failed("cannot find the raft binary", error))?;
    let commands = config.nodes.iter().map(|node| (node.label.clone(), command(&executable, &args.common, node)));
    let labels = config.nodes.iter().map(|node| node.label.as_str());
    let lines = Arc::new(NodeLines::new(printer.clone(), labels, printer::wants_colour()));
    let mut nodes =
        Supervisor::start(commands, &lines).map_err(|error| Error::failed("cannot start the nodes", error))?;
    let has_shell = !args.no_shell && !nobody_types();
    if has_shell {
        let printer = printer.clone();
        thread::spawn(move || sender.send(Event::ShellEnded(run_shell(&config, &printer))));
    }
    let code = watch(&mut nodes, &events, &*printer, has_shell);
    let code = stop(&mut nodes, &events, &*printer, STOP_LIMIT).unwrap_or(code);
    Ok(ExitCode::from(code))
}

/// Whether standard input is `/dev/null`, as services and scripts have it: they want the cluster to run, not to end with
/// the commands that never come.
fn nobody_types() -> bool {
    let file = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((file("/dev/stdin"), file("/dev/null")), (Ok(input), Ok(null)) if input == null)
}

/// Runs the shell until it is left, and returns its exit code. While there is a prompt, lines of nodes go through it.
fn run_shell(config: &Config, printer: &TerminalPrinter) -> u8 {
    let mut client = Client::from_config(config, DEFAULT_TIMEOUT);
    shell::run(&mut client, false, |prompt| printer.use_prompt(prompt))
}

/// Remembers how the terminal was set, and sets it so again at the end: a prompt that is still up when the process ends
/// would leave it in raw mode.
struct TerminalSettings(Option<Termios>);

impl TerminalSettings {
    fn remember() -> Self {
        TerminalSettings(tcgetattr(io::stdin()).ok())
    }
}

impl Drop for TerminalSettings {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, settings);
        }
    }
}

/// How a node is started: as this process was, and to stop when this process does.
fn command(executable: &Path, args: &CommonArgs, node: &NodeConfig) -> process::Command {
    let mut command = process::Command::new(executable);
    command.arg("-c").arg(args.path()).arg("-n").arg(node.id.to_string()).arg("--stop-with-stdin");
    if let Some(runtime) = args.runtime {
        command.arg("-r").arg(runtime.to_string());
    }
    command.args(args.insecure.then_some("--insecure"));
    command.args(args.debug.then_some("--debug"));
    command
}

fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT && shell::interrupt() {
                continue;
            }
            let _ = events.send(if signal == SIGCHLD { Event::ChildEnded } else { Event::Signal(signal) });
        }
    })?;
    Ok(())
}

/// Watches the nodes until there is a reason to stop; returns the exit code.
fn watch(nodes: &mut Supervisor, events: &Receiver<Event>, printer: &dyn Printer, has_shell: bool) -> u8 {
    for event in events {
        match event {
            Event::ChildEnded => {
                let mut none_left = false;
                for (label, status) in nodes.reap() {
                    printer.print(&format!("node {label} has ended unexpectedly: {status}"));
                    none_left = nodes.running().is_empty();
                }
                if none_left {
                    printer.print("no node runs any more");
                }
                if none_left && !has_shell {
                    return 1;
                }
            }
            Event::Signal(_) => return 0,
            Event::ShellEnded(code) => return code,
        }
    }
    1
}

/// Stops the nodes cleanly, and kills those that take longer than `limit`, or all at a second signal: then it returns
/// the exit code of a process ended by that.
fn stop(nodes: &mut Supervisor, events: &Receiver<Event>, printer: &dyn Printer, limit: Duration) -> Option<u8> {
    let mut code = None;
    let mut next = Instant::now() + PATIENCE.min(limit);
    let end = Instant::now() + limit;
    nodes.close();
    // Those that ended just before.
    report(nodes.reap(), printer);
    while !nodes.running().is_empty() {
        match events.recv_deadline(next) {
            Ok(Event::ChildEnded) => report(nodes.reap(), printer),
            Ok(Event::ShellEnded(_)) => {}
            Ok(Event::Signal(signal)) => {
                code = Some(stop::exit_code(signal));
                nodes.kill();
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                printer.print(&format!("killing {}: not stopped within {limit:?}", nodes.running().join(", ")));
                nodes.kill();
                next += PATIENCE;
            }
            Err(RecvTimeoutError::Timeout) => {
                printer.print(&format!("waiting for {} to stop", nodes.running().join(", ")));
                next = (next + PATIENCE).min(end);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    code
}

/// Says which nodes did not stop as they should.
fn report(ended: Vec<(String, ExitStatus)>, printer: &dyn Printer) {
    for (label, status) in ended.into_iter().filter(|(_, status)| !status.success()) {
        printer.print(&format!("node {label} has stopped with an error: {status}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::printer::tests::KeptLines;
    use super::*;

    /// Nodes that run shell scripts, one each.
    struct Fixture {
        nodes: Supervisor,
        kept: Arc<KeptLines>,
        sender: Sender<Event>,
        events: Receiver<Event>,
    }

    impl Fixture {
        fn start(scripts: &[&str]) -> Fixture {
            let kept = Arc::new(KeptLines::default());
            let (sender, events) = crossbeam_channel::unbounded();
            watch_signals(sender.clone()).unwrap();
            let labels = ["A", "B", "C"];
            let lines = Arc::new(NodeLines::new(kept.clone(), labels.into_iter(), false));
            let commands = labels.iter().zip(scripts).map(|(label, script)| {
                let mut command = process::Command::new("/bin/sh");
                command.arg("-c").arg(script);
                (label.to_string(), command)
            });
            Fixture { nodes: Supervisor::start(commands, &lines).unwrap(), kept, sender, events }
        }

        fn stop(&mut self, limit: Duration) -> Option<u8> {
            stop(&mut self.nodes, &self.events, &*self.kept, limit)
        }
    }

    /// As a node does: runs until its standard input ends.
    const GOOD: &str = "echo up; cat; echo down >&2";

    #[test]
    fn nodes_stop_when_their_input_ends_and_all_their_lines_are_shown() {
        let mut fixture = Fixture::start(&[GOOD, GOOD]);
        assert_eq!(fixture.nodes.running(), ["A", "B"]);
        fixture.sender.send(Event::ShellEnded(7)).unwrap();
        assert_eq!(watch(&mut fixture.nodes, &fixture.events, &*fixture.kept, true), 7);
        assert_eq!(fixture.stop(STOP_LIMIT), None);
        let mut lines = fixture.kept.take();
        lines.sort();
        assert_eq!(lines, ["A | down", "A | up", "B | down", "B | up"]);
    }

    #[test]
    fn a_node_that_ends_is_reported_and_the_others_go_on() {
        let mut fixture = Fixture::start(&["echo 'port in use' >&2; exit 3", GOOD]);
        while fixture.nodes.running().len() == 2 {
            let event = fixture.events.recv().unwrap();
            let (once, events) = crossbeam_channel::unbounded();
            once.send(event).unwrap();
            drop(once);
            watch(&mut fixture.nodes, &events, &*fixture.kept, true);
        }
        assert_eq!(fixture.nodes.running(), ["B"]);
        let lines: Vec<_> = fixture.kept.take().into_iter().filter(|line| !line.starts_with("B |")).collect();
        assert_eq!(lines, ["A | port in use", "node A has ended unexpectedly: exit status: 3"]);
        assert_eq!(fixture.stop(STOP_LIMIT), None);
    }

    #[test]
    fn without_a_shell_the_end_of_the_last_node_is_a_failure() {
        let mut fixture = Fixture::start(&["exit 1", "kill -9 $$"]);
        assert_eq!(watch(&mut fixture.nodes, &fixture.events, &*fixture.kept, false), 1);
        let lines = fixture.kept.take();
        assert!(lines.contains(&"node B has ended unexpectedly: signal: 9 (SIGKILL)".into()), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "no node runs any more");
    }

    #[test]
    fn a_node_that_does_not_stop_is_killed() {
        let mut fixture = Fixture::start(&["exec sleep 1000", GOOD]);
        assert_eq!(fixture.stop(Duration::from_millis(100)), None);
        assert!(fixture.nodes.running().is_empty());
        let lines = fixture.kept.take();
        assert!(lines.contains(&"killing A: not stopped within 100ms".into()), "{lines:?}");
    }

    #[test]
    fn a_second_signal_kills_at_once() {
        let mut fixture = Fixture::start(&["exec sleep 1000"]);
        fixture.sender.send(Event::Signal(SIGTERM)).unwrap();
        assert_eq!(watch(&mut fixture.nodes, &fixture.events, &*fixture.kept, true), 0);
        fixture.sender.send(Event::Signal(SIGINT)).unwrap();
        assert_eq!(fixture.stop(STOP_LIMIT), Some(130));
        assert_eq!(fixture.kept.take(), ["node A has stopped with an error: signal: 9 (SIGKILL)"]);
    }

    #[test]
    fn a_child_gets_what_the_cluster_was_started_with() {
        use clap::Parser;
        let line = ["raft", "cluster", "-c", "x.ini", "--insecure", "-v", "-r", "ThreadedRuntime"];
        let Some(super::super::args::Command::Cluster(args)) = super::super::args::Cli::parse_from(line).command else {
            panic!("not the cluster command");
        };
        let config = Config::local(2, "data");
        let command = command(Path::new("raft"), &args.common, &config.nodes[1]);
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let expected = "-c x.ini -n 2 --stop-with-stdin -r ThreadedRuntime --insecure --debug";
        assert_eq!(arguments.join(" "), expected);
    }
}
