//! `raft check`: verifies a data folder.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use raft::storage::inspect::{DataFolder, Findings};

use super::args::CheckArgs;
use super::{Error, progress};

pub fn run(args: &CheckArgs) -> Result<ExitCode, Error> {
    let folder = DataFolder::open(&args.folder).map_err(|error| Error::Failed(error.to_string()))?;
    let (bar, on_read) = progress::bar(folder.size_bytes());
    let findings = folder.inspect(on_read, &mut |_| ());
    bar.finish_and_clear();
    // Whoever reads it may stop before the end: the exit code says what there is to say.
    let _ = io::stdout().write_all(verified(&args.folder, &findings).as_bytes());
    Ok(conclude(&findings))
}

fn verified(folder: &Path, findings: &Findings) -> String {
    let Findings { segments, batches, records, entries, snapshots, .. } = findings;
    let verdict = if findings.problems.is_empty() { "fine" } else { "damaged" };
    format!(
        "{}: {verdict}; intact: segments {segments}, batches {batches}, records {records} ({entries} of them entries), \
         snapshots {snapshots}\n",
        folder.display()
    )
}

/// Says on standard error whatever is not as it was left, and returns the exit code.
pub fn conclude(findings: &Findings) -> ExitCode {
    let mut stderr = io::stderr().lock();
    let mut say = |kind: &str, what: &dyn std::fmt::Display| {
        let _ = writeln!(stderr, "{kind}: {what}");
    };
    findings.notices.iter().for_each(|notice| say("note", notice));
    findings.warnings.iter().for_each(|warning| say("warning", warning));
    findings.problems.iter().for_each(|problem| say("error", problem));
    if findings.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
