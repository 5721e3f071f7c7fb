//! `cargo xtask mutants`: puts known bugs into the product, one at a time, and sees which tests find them, and how fast.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub const HELP: &str = "\
cargo xtask mutants [--layer LAYER] [--seconds N] [MUTANT...]

  --layer LAYER   only this one: core (stories and walks of the protocol), unit (tests beside the code), storage (tests
                  of the disk), scenarios (chosen faults in simulated clusters), simulator (seeds), or process (real
                  clusters; they take minutes). Without it, the first layer of these that finds the bug is told, and in any
                  case what the simulator alone finds
  --seconds N     how long the simulator hunts, at most (default 30)

Exits with 1 if a mutant survives everything.";

/// What the product's tests are built with: fast, with assertions, and with all mutants.
const BUILD: [&str; 4] = ["--profile", "checked", "--features", "mutants"];

/// A layer of tests: which executable, told by its source, and with which arguments.
#[derive(Clone, Copy)]
struct Layer {
    name: &'static str,
    source: &'static str,
    arguments: &'static [&'static str],
}

/// In the order of asking: what is fast and tells most exactly what is wrong comes first.
const LAYERS: [Layer; 6] = [
    Layer { name: "core", source: "tests/core/main.rs", arguments: &[] },
    Layer { name: "unit", source: "src/lib.rs", arguments: &["--skip", "storage::"] },
    Layer { name: "storage", source: "src/lib.rs", arguments: &["storage::"] },
    Layer { name: "scenarios", source: "tests/simulation/main.rs", arguments: &[] },
    Layer { name: SIMULATOR, source: HUNTER, arguments: &["hunt"] },
    Layer { name: "process", source: "tests/process/main.rs", arguments: &["--test-threads", "1"] },
];
const SIMULATOR: &str = "simulator";
const HUNTER: &str = "tests/mutants.rs";

struct Wishes {
    layers: Vec<Layer>,
    /// How long the simulator hunts.
    seconds: String,
    names: Vec<String>,
}

/// Where the tests were built: source and executable.
struct Executables(Vec<(String, PathBuf)>);

/// What a layer has found, and how soon.
struct Kill {
    by: String,
    seconds: f64,
}

/// Hunts what `options` say.
pub fn mutants(options: &[String]) -> ExitCode {
    let outcome = Wishes::parse(options).and_then(|wishes| {
        refuse_release()?;
        hunt_all(&wishes, &Executables::build()?)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

impl Wishes {
    fn parse(options: &[String]) -> Result<Self, String> {
        let mut wishes = Wishes { layers: LAYERS.to_vec(), seconds: "30".into(), names: Vec::new() };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let mut value = || options.next().ok_or_else(|| format!("{option} takes a value\n\n{HELP}"));
            match option.as_str() {
                "--layer" => {
                    let value = value()?;
                    wishes.layers.retain(|layer| layer.name == value);
                    if wishes.layers.is_empty() {
                        return Err(format!("no layer is called {value:?}\n\n{HELP}"));
                    }
                }
                "--seconds" => {
                    let value = value()?;
                    value.parse::<u32>().map_err(|_| format!("{value:?} is no number of seconds\n\n{HELP}"))?;
                    wishes.seconds.clone_from(value);
                }
                name if name.starts_with('-') => return Err(format!("unknown option {name}\n\n{HELP}")),
                name => wishes.names.push(name.to_owned()),
            }
        }
        Ok(wishes)
    }
}

/// A release with mutants must not exist.
fn refuse_release() -> Result<(), String> {
    eprintln!("a release with mutants must not compile");
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["check", "--quiet", "--release", "--lib", "--features", "mutants"]).output();
    let output = output.map_err(|error| format!("cannot run cargo: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        false if errors.contains("the feature `mutants` breaks the product") => Ok(()),
        false => Err(format!("a release with mutants does not compile, but for another reason:\n{errors}")),
        true => Err("a release with mutants compiles: see src/mutants.rs".into()),
    }
}

impl Executables {
    fn build() -> Result<Self, String> {
        eprintln!("building the tests with all mutants");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--no-run", "--lib"]);
        cargo.args(["core", "mutants", "process", "simulation"].iter().flat_map(|name| ["--test", name]));
        let output = cargo.args(BUILD).output().map_err(|error| format!("cannot run cargo: {error}"))?;
        let words = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("the tests cannot be built:\n{words}"));
        }
        // Lines like `Executable tests/core/main.rs (target/checked/deps/core-0123456789abcdef)`.
        let built = words.lines().filter_map(|line| {
            let (source, path) = line.trim().strip_prefix("Executable ")?.strip_suffix(')')?.split_once(" (")?;
            Some((source.trim_start_matches("unittests ").to_owned(), PathBuf::from(path)))
        });
        Ok(Executables(built.collect()))
    }

    fn of(&self, source: &str) -> Result<Command, String> {
        let built = self.0.iter().find(|(built, _)| built == source);
        built.map(|(_, path)| Command::new(path)).ok_or_else(|| format!("cargo does not say where it has put {source}"))
    }

    /// All mutants: name, and what is broken.
    fn list(&self) -> Result<Vec<(String, String)>, String> {
        let output = self.of(HUNTER)?.arg("list").output().map_err(|error| format!("cannot run {HUNTER}: {error}"))?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(lines.lines().filter_map(|line| line.split_once('\t')).map(|(a, b)| (a.into(), b.into())).collect())
    }

    /// Runs this layer's tests until one of them fails.
    fn hunt(&self, layer: Layer, mutant: Option<&str>, seconds: &str) -> Result<Option<Kill>, String> {
        let mut command = self.of(layer.source)?;
        command.args(layer.arguments).env_remove("RAFT_MUTANT").envs(mutant.map(|mutant| ("RAFT_MUTANT", mutant)));
        if layer.name == SIMULATOR {
            command.arg(seconds);
        }
        let began = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let child = child.as_mut().map_err(|error| format!("cannot run the tests: {error}"))?;
        let (sender, lines) = mpsc::channel();
        let output = child.stdout.take();
        thread::spawn(move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        let by = loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => match noticed(&line) {
                    Some(words) => break Some(words),
                    None => continue,
                },
                Err(RecvTimeoutError::Timeout) => break Some("the tests do not end".into()),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = child.wait().map_err(|error| format!("cannot wait for the tests: {error}"))?;
                    break (!status.success()).then(|| format!("the tests end with {status}"));
                }
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        let _ = child.kill();
        child.wait().map_err(|error| format!("cannot wait for the tests: {error}"))?;
        Ok(by.map(|by| Kill { by, seconds }))
    }
}

/// Tests that print nothing for so long hang.
const SILENCE: Duration = Duration::from_secs(600);

/// The test or invariant that this line of output says has failed.
fn noticed(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("test ") {
        let failed = rest.strip_suffix(" ... FAILED").map(|test| format!("`{test}`"));
        return failed
            .or_else(|| Some(format!("`{}` hangs", rest.strip_suffix(" has been running for over 60 seconds")?)));
    }
    let [runs, profile, nodes, seconds, seed, violation] = words(line.strip_prefix("found ")?)?;
    let invariant = violation.split(": ").next().unwrap_or(violation);
    // What a node that stops by itself has noticed.
    let own = violation.split_once(" stops by itself: ").and_then(|(_, reason)| reason.split(": Watermarks").next());
    let own = own.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let replay = format!("`--profile {profile} --nodes {nodes} --time {seconds} --seed {seed}`");
    Some(format!("{invariant}{own}, run {runs}: {replay}"))
}

/// So many words, of which the last is all the rest.
fn words<const N: usize>(line: &str) -> Option<[&str; N]> {
    line.splitn(N, ' ').collect::<Vec<_>>().try_into().ok()
}

/// Hunts all that are wished for, and prints the table. False: one has survived.
fn hunt_all(wishes: &Wishes, executables: &Executables) -> Result<bool, String> {
    let mut all = executables.list()?;
    if let Some(unknown) = wishes.names.iter().find(|name| all.iter().all(|(known, _)| known != *name)) {
        return Err(format!("no mutant is called {unknown}"));
    }
    all.retain(|(name, _)| wishes.names.is_empty() || wishes.names.contains(name));
    println!("| mutant | what it breaks | found first by | s | the simulator alone | s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut survivors = Vec::new();
    // What is found without any mutant says nothing of one. For a few that are named, the tests' own runs have to do.
    let mut unproven: Vec<&str> = wishes.layers.iter().map(|layer| layer.name).collect();
    unproven.retain(|_| wishes.names.is_empty());
    for (name, breaks) in &all {
        let (mut first, mut simulator) = (None, None);
        for &layer in &wishes.layers {
            if first.is_some() && layer.name != SIMULATOR {
                continue;
            }
            if unproven.extract_if(.., |unproven| *unproven == layer.name).next().is_some() {
                eprintln!("without a mutant, {} must find nothing", layer.name);
                if let Some(kill) = executables.hunt(layer, None, &wishes.seconds)? {
                    return Err(format!("{} finds something without any mutant: {}", layer.name, kill.by));
                }
            }
            let kill = executables.hunt(layer, Some(name), &wishes.seconds)?;
            if first.is_none() {
                first = kill.as_ref().map(|kill| Kill { by: format!("{}: {}", layer.name, kill.by), ..*kill });
            }
            if layer.name == SIMULATOR {
                simulator = kill;
            }
        }
        println!("| {name} | {breaks} | {} | {} |", cells(first.as_ref()), cells(simulator.as_ref()));
        if first.is_none() {
            survivors.push(name.as_str());
        }
    }
    println!("\n{} mutants, {} survived{}", all.len(), survivors.len(), list(&survivors));
    Ok(survivors.is_empty())
}

fn cells(kill: Option<&Kill>) -> String {
    kill.map_or("— | ".into(), |kill| format!("{} | {:.1}", kill.by, kill.seconds))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}
