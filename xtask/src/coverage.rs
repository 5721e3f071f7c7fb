//! Which lines simulations reach: a table by folder.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

/// What is looked at.
const FOLDERS: [&str; 3] = ["src/consensus/", "src/storage/", "src/machine/"];
/// Faults, and how many seeds.
const SIMULATIONS: [(&str, &str); 3] = [("swarm", "0..150"), ("damage", "0..50"), ("calm", "0..10")];
/// Where all of it is built and noted: removed in the end, for it is large.
const TARGET: &str = "target/coverage";

pub fn run() -> ExitCode {
    match measure() {
        Ok(files) => {
            print(&files);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lines that there are, and that were reached.
#[derive(Clone, Copy, Default)]
struct Lines {
    all: u64,
    reached: u64,
}

fn measure() -> io::Result<BTreeMap<String, Lines>> {
    // First, for the rest takes minutes.
    let llvm = llvm_version()?;
    let [profdata, cov] = [("LLVM_PROFDATA", "llvm-profdata"), ("LLVM_COV", "llvm-cov")].map(|tool| find(tool, &llvm));
    let (profdata, cov) = (profdata?, cov?);
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--profile", "checked", "--bin", "raft", "--target-dir", TARGET]);
    // Tests inside of modules are not in the program: only the code itself is counted.
    build
        .env("RUSTFLAGS", "-C instrument-coverage")
        .env("CARGO_PROFILE_CHECKED_DEBUG", "0")
        .env("CARGO_INCREMENTAL", "0");
    // Programs that run during the build are measured, too, for nothing.
    build.env("LLVM_PROFILE_FILE", "/dev/null");
    output(&mut build)?;
    let program = Path::new(TARGET).join("checked/raft");
    for (profile, seeds) in SIMULATIONS {
        let mut simulate = Command::new(&program);
        simulate.args(["simulate", "--profile", profile, "--seeds", seeds]);
        // What failed counts as well: its lines were reached.
        simulate.env("LLVM_PROFILE_FILE", Path::new(TARGET).join(format!("{profile}.profraw"))).status()?;
    }
    let notes = SIMULATIONS.map(|(profile, _)| PathBuf::from(TARGET).join(format!("{profile}.profraw")));
    let all = Path::new(TARGET).join("all.profdata");
    output(Command::new(profdata).args(["merge", "-sparse", "-o"]).arg(&all).args(notes))?;
    let mut export = Command::new(cov);
    export.args(["export", "-format=lcov", "-summary-only", "-instr-profile"]).arg(&all).arg(&program);
    let found = files(&output(&mut export)?);
    fs::remove_dir_all(TARGET)?;
    Ok(found)
}

/// The first number of the version of LLVM that rustc is made with: others do not understand what it notes.
fn llvm_version() -> io::Result<String> {
    let about = output(Command::new("rustc").arg("-vV"))?;
    let version = about.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next());
    major.map(str::to_owned).ok_or_else(|| io::Error::other("`rustc -vV` does not say what LLVM it has"))
}

/// A tool of that LLVM: the one that a variable names, or by its name with the version, as Debian has it, or without.
fn find((variable, name): (&str, &str), llvm: &str) -> io::Result<OsString> {
    let named =
        env::var_os(variable).map_or_else(|| vec![format!("{name}-{llvm}").into(), name.into()], |tool| vec![tool]);
    let fits = |tool: &OsString| {
        let version = Command::new(tool).arg("--version").output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("LLVM version {llvm}.")))
    };
    named.into_iter().find(fits).ok_or_else(|| {
        io::Error::other(format!(
            "there is no {name} of LLVM {llvm}, which rustc has: install it, or name it with {variable}"
        ))
    })
}

/// What a program prints, unless it fails.
fn output(command: &mut Command) -> io::Result<String> {
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let name = command.get_program().to_string_lossy().into_owned();
    let output = output.map_err(|error| io::Error::other(format!("cannot run {name}: {error}")))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!("{name} failed ({})", output.status))),
    }
}

/// Reads the lines of lcov: of each file its name, then how many lines there are and how many were reached.
fn files(lcov: &str) -> BTreeMap<String, Lines> {
    let mut files: BTreeMap<String, Lines> = BTreeMap::new();
    let mut file = None;
    for line in lcov.lines() {
        let (what, value) = line.split_once(':').unwrap_or((line, ""));
        let number = value.parse().unwrap_or_default();
        match (what, &file) {
            ("SF", _) => file = FOLDERS.iter().find_map(|folder| value.find(folder)).map(|at| value[at..].to_owned()),
            ("LF", Some(file)) => files.entry(file.clone()).or_default().all = number,
            ("LH", Some(file)) => files.entry(file.clone()).or_default().reached = number,
            _ => {}
        }
    }
    files
}

fn print(files: &BTreeMap<String, Lines>) {
    let row = |name: &str, Lines { all, reached }: Lines| {
        println!("{name:<40} {all:>7} {reached:>7} {:>6.1} %", 100.0 * reached as f64 / all.max(1) as f64);
    };
    println!("{:<40} {:>7} {:>7}", "", "lines", "reached");
    for folder in FOLDERS {
        let of_folder = files.iter().filter(|(name, _)| name.starts_with(folder));
        let sum = of_folder.clone().fold(Lines::default(), |sum, (_, lines)| Lines {
            all: sum.all + lines.all,
            reached: sum.reached + lines.reached,
        });
        row(folder, sum);
        of_folder.for_each(|(name, lines)| row(&format!("  {name}"), *lines));
    }
}
