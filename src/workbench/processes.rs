//! The nodes' processes: started, killed, paused, and never left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::inbox::Inbox;
use super::options::DATA_PLACEHOLDER;

/// A node that has closed its output may take so long to end by itself.
const END_PATIENCE: Duration = Duration::from_millis(500);
/// How much of the end of a log is shown.
const TAIL_BYTES: u64 = 2_000;
const TAIL_LINES: usize = 5;

/// How a node is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; [`DATA_PLACEHOLDER`] stands for `data`.
    pub arguments: Vec<String>,
    /// The node's own folder, made before its first start.
    pub data: PathBuf,
    /// Where its standard error goes, of all its lives.
    pub log: PathBuf,
}

/// A node, life after life.
pub struct Process {
    launch: Launch,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    /// Which it is, from 1.
    number: u64,
    child: Option<Child>,
    inbox: Option<Arc<Inbox>>,
    /// It has been sent its `init`.
    initialised: bool,
}

/// The process groups that run, so that none is left behind when there is no time to stop in order.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills all nodes of all runs in this process.
pub fn kill_all() {
    for group in &*RUNNING.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

impl Process {
    /// A node that does not run yet.
    pub fn new(launch: Launch) -> Self {
        Process { launch, life: Mutex::default() }
    }

    /// Starts a life of the node: its number, and what it writes.
    ///
    /// # Errors
    /// When it runs already, or cannot be started; for people.
    pub fn start(&self) -> Result<(u64, ChildStdout), String> {
        let mut life = self.lock();
        if life.child.is_some() {
            return Err("runs already".into());
        }
        let Launch { program, .. } = &self.launch;
        let failed = |error: io::Error| format!("cannot start {}: {error}", program.display());
        let mut child = self.command().map_err(failed)?.spawn().map_err(failed)?;
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(group(&child));
        let pipes = (child.stdin.take(), child.stdout.take());
        let number = life.number + 1;
        *life = Life { number, child: Some(child), inbox: None, initialised: false };
        let (Some(input), Some(output)) = pipes else { return Err("has no standard input and output".into()) };
        life.inbox = Some(Inbox::open(input).map_err(failed)?);
        Ok((number, output))
    }

    fn command(&self) -> io::Result<Command> {
        let Launch { program, arguments, data, log } = &self.launch;
        fs::create_dir_all(data)?;
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let folder = data.to_string_lossy();
        let mut command = Command::new(program);
        command
            .args(arguments.iter().map(|argument| argument.replace(DATA_PLACEHOLDER, &folder)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C goes to the group of this process: only this process may take it as a wish to stop.
            .process_group(0);
        Ok(command)
    }

    /// Brings the node's `init`, before which it may say nothing.
    pub fn initialise(&self, line: &[u8]) {
        let mut life = self.lock();
        life.initialised = true;
        if let Some(inbox) = &life.inbox {
            inbox.push(line);
        }
    }

    /// Whether this life has been sent its `init`.
    pub fn is_initialised(&self, number: u64) -> bool {
        let life = self.lock();
        life.initialised || life.number != number
    }

    /// Brings whole lines; one that does not run, or was not sent its `init`, does not get them. False: it does not read, too many
    /// are waiting already, and these are lost.
    pub fn deliver(&self, lines: &[u8]) -> bool {
        let inbox = {
            let life = self.lock();
            life.inbox.clone().filter(|_| life.initialised)
        };
        inbox.is_none_or(|inbox| inbox.push(lines))
    }

    /// Kills the node, without warning. False: it does not run.
    pub fn kill(&self) -> bool {
        let (child, inbox) = {
            let mut life = self.lock();
            (life.child.take(), life.inbox.take())
        };
        if let Some(inbox) = inbox {
            inbox.close();
        }
        child.is_some_and(|mut child| {
            end(&mut child);
            true
        })
    }

    /// Lets the node stand still. False: it does not run.
    pub fn pause(&self) -> bool {
        self.signal(Signal::STOP)
    }

    /// Lets the node go on. False: it does not run.
    pub fn resume(&self) -> bool {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> bool {
        self.lock().child.as_ref().is_some_and(|child| kill_process_group(group(child), signal).is_ok())
    }

    /// This life of the node has closed its output. If nobody wanted that: how it ended, with the last lines of its log.
    pub fn output_ended(&self, number: u64) -> Option<String> {
        let (mut child, inbox) = {
            let mut life = self.lock();
            if life.number != number {
                return None;
            }
            (life.child.take()?, life.inbox.take())
        };
        if let Some(inbox) = inbox {
            inbox.close();
        }
        let patience = Instant::now() + END_PATIENCE;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        let how = match child.try_wait() {
            Ok(Some(status)) => format!("has ended by itself ({status})"),
            _ => "has closed its standard output".to_owned(),
        };
        end(&mut child);
        Some(format!("{how}{}", last_lines(&self.launch.log)))
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The process group of a child, which it leads.
fn group(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Ends a child and all that it has started.
fn end(child: &mut Child) {
    // It fails only for one that has ended.
    let _ = kill_process_group(group(child), Signal::KILL);
    let _ = child.wait();
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|running| *running != group(child));
}

/// The last lines of a log, for people.
fn last_lines(log: &Path) -> String {
    let tail = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tail().unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    match lines.get(lines.len().saturating_sub(TAIL_LINES)..) {
        Some(last @ [_, ..]) => format!(" and wrote last, to standard error:\n  {}", last.join("\n  ")),
        _ => " without a word on standard error".into(),
    }
}
