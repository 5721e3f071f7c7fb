//! `raft workbench`: Maelstrom's workloads against any program that speaks its protocol.

pub mod args;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::ProgressBar;
use raft::workbench::history::Operation;
use raft::workbench::page;
use raft::workbench::processes;
use raft::workbench::report;
use raft::workbench::run::{self, Progress};

use self::args::WorkbenchArgs;
use super::{Error, again, progress, stop};

/// Runs what was asked for.
pub(super) fn run(args: &WorkbenchArgs) -> Result<ExitCode, Error> {
    let options = args.options()?;
    let files = Files { page: args.page() };
    if files.page == files.history() {
        let page = files.page.display();
        return Err(Error::Usage(format!("the history is written to {page}, so --page must be another file")));
    }
    files.make_folder().map_err(|error| Error::failed(files.page.display(), error))?;
    let stops = stop::requests_until(false, processes::kill_all)
        .map_err(|error| Error::failed("cannot catch signals", error))?;
    let bar = progress::steps(options.time.as_secs(), "seconds");
    let mut show = |now: Progress| {
        tell(&bar, now);
        stops.is_empty()
    };
    let outcome = run::run(&options, |node| files.log(node), &mut show);
    bar.finish_and_clear();
    let run = outcome.map_err(Error::Failed)?;
    files.write_history(&run.history).map_err(|error| Error::failed(files.history().display(), error))?;
    let again = command(args, options.seed);
    let page = page::page(&options, &run, &again);
    fs::write(&files.page, page).map_err(|error| Error::failed(files.page.display(), error))?;
    // Whoever reads it may stop before the end: the exit code says what there is to say.
    let _ = write!(
        io::stdout(),
        "{}\npage     {}\nhistory  {}\nlogs     {}\nagain    {again}\n",
        report::table(&options, &run),
        files.page.display(),
        files.history().display(),
        files.log_names(options.nodes)
    );
    let is_well = run.verdict.is_valid() && run.trouble.is_none() && !run.was_stopped;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(bar: &ProgressBar, now: Progress) {
    bar.set_position(now.asking.as_secs());
    bar.set_message(format!(", {}: {} asked, {} answered", now.phase, now.asked, now.answered));
}

/// What a run leaves behind: a page, and files beside it.
struct Files {
    page: PathBuf,
}

impl Files {
    fn make_folder(&self) -> io::Result<()> {
        match self.page.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => fs::create_dir_all(folder),
            None => Ok(()),
        }
    }

    fn history(&self) -> PathBuf {
        self.page.with_extension("jsonl")
    }

    fn log(&self, node: usize) -> PathBuf {
        self.page.with_extension(format!("n{node}.log"))
    }

    fn log_names(&self, nodes: usize) -> String {
        match nodes {
            1 => self.log(0).display().to_string(),
            _ => format!("{} to n{}", self.log(0).display(), nodes - 1),
        }
    }

    /// Every operation, as a line of JSON.
    fn write_history(&self, history: &[Operation]) -> io::Result<()> {
        let mut file = BufWriter::new(fs::File::create(self.history())?);
        for operation in history {
            serde_json::to_writer(&mut file, &operation.to_json())?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}

/// The command that does the same again, as this one was given, with its seed.
fn command(args: &WorkbenchArgs, seed: u64) -> String {
    let mut words = again::given();
    if args.seed.is_none() {
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.insert(end, format!("--seed {seed}"));
    }
    words.join(" ")
}
