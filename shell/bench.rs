//! `raft-shell bench`: flags to a load, progress while it runs, and what came of it.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use raft::bench::{self, Mix, Options, Progress, Protocol};
use raft::client::Client;
use raft::figures;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The exit code of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// `raft-shell bench`.
#[derive(Args)]
#[command(
    about = "Measure how many requests a second are served, and how long each takes",
    long_about = "Measures how many requests a second are served, and how long each takes: of the cluster that -c names, or of \
        any server that speaks the Redis protocol, or etcd's.\n\n\
        Each client sends its next request when its last is answered. Clients share connections, over which requests are \
        pipelined. Without a TARGET all connections go to the leader; one that is lost goes on to the next node.\n\n\
        Puts are SET and gets are GET of keys bench-00000000 and so on, each as likely; with --queue, RPUSH to and LPOP from the \
        list bench-queue. Of etcd they are Put and Range of the same keys, linearizable; it has no lists. \
        They stay there afterwards: do not run it where those names matter. If there are gets, every key is \
        set first. Then a second of warming up, which does not count. What counts is what was sent in the time measured, \
        however late it was answered.\n\n\
        A request that is answered with an error is counted by the error's first word (of etcd: its gRPC status, such as \
        UNAVAILABLE), and its client waits 10 ms. A connection that \
        breaks is made anew after 100 ms, and its requests count as LOST; as TIMEOUT, if one of them was not answered within \
        --timeout; as PROTOCOL, if an answer made no sense.\n\n\
        Ctrl-C ends it early, with what was measured. Exit code 0: there were answers and no request failed; 1: none, or one did; \
        2: the command line makes no sense.",
    after_help = "Examples:\n  \
        raft-shell bench                                       64 clients, half puts and half gets, for 10 s\n  \
        raft-shell -c raft.ini bench --clients 256 --mix put=1 --seconds 30\n  \
        raft-shell bench --queue --clients 64\n  \
        raft-shell bench redis://127.0.0.1:6379 --svg redis.svg\n  \
        raft-shell bench etcd://127.0.0.1:2379 --mix put=1 --svg etcd.svg\n  \
        raft-shell bench --json | jq .all.latency_ms.p99\n\n\
        benches/compare.sh starts a cluster of ours, and one of etcd, and compares them."
)]
pub struct BenchArgs {
    /// A server: redis://HOST:PORT, or etcd://HOST:PORT [default: the nodes of raft.ini]
    #[arg(value_name = "TARGET", value_parser = target)]
    target: Option<Target>,

    /// How many clients, each with one request at a time
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,

    /// How many connections they share, but no more than there are clients
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,

    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = figures::seconds)]
    seconds: Duration,

    /// What is asked, in what proportion
    #[arg(long, value_name = "put=N,get=N", default_value = "put=50,get=50")]
    mix: Mix,

    /// Bytes of a value or message, up to 16 MiB
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = clap::value_parser!(u32).range(..=16 << 20))]
    value_size: u32,

    /// How many keys
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: u64,

    /// Append to a list and take from it, instead of setting and getting keys
    #[arg(long)]
    queue: bool,

    /// Decides the order of puts and gets, and their keys
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// Where to plot latency and rate over time
    #[arg(long, value_name = "FILE", default_value = "raft-bench.svg")]
    svg: PathBuf,
}

/// A server.
#[derive(Clone)]
struct Target {
    url: String,
    protocol: Protocol,
    host: String,
    port: u16,
}

/// Runs what was asked for.
///
/// # Errors
/// In words for people, when there is nobody to ask or the plot cannot be written.
pub fn run(args: &BenchArgs, config: &Path, timeout: Duration, json: bool) -> Result<ExitCode, String> {
    let (target, protocol, addresses) = match &args.target {
        Some(target) => (target.url.clone(), target.protocol, target.addresses(timeout)?),
        None => (config.display().to_string(), Protocol::Redis, nodes(config, timeout)?),
    };
    let options = args.options(protocol, addresses, timeout);
    let stop = stop_flag().map_err(|error| format!("cannot catch Ctrl-C: {error}"))?;
    let bar = progress_bar(options.time);
    let mut tell = |now: Progress| {
        show(&bar, now);
        !stop.load(Ordering::Relaxed)
    };
    let summary = bench::run(&options, &mut tell).map_err(|error| format!("cannot wait for sockets: {error}"))?;
    bar.finish_and_clear();
    fs::write(&args.svg, bench::plot(&options, &summary))
        .map_err(|error| format!("{}: {error}", args.svg.display()))?;
    let out = match json {
        true => {
            let mut object = bench::json(&options, &summary);
            object["target"] = target.into();
            object["svg"] = args.svg.display().to_string().into();
            format!("{object}\n")
        }
        false => format!("{target}: {}plot: {}\n", bench::text(&options, &summary), args.svg.display()),
    };
    // Whoever reads it may stop before the end: the exit code says what there is to say.
    let _ = io::stdout().write_all(out.as_bytes());
    let is_well = summary.answered_count() > 0 && summary.failed_count() == 0;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl BenchArgs {
    /// Whether the target has no lists, but is to be asked for one.
    pub fn has_no_queue(&self) -> bool {
        self.queue && self.target.as_ref().is_some_and(|target| target.protocol == Protocol::Etcd)
    }

    fn options(&self, protocol: Protocol, addresses: Vec<SocketAddr>, timeout: Duration) -> Options {
        Options {
            addresses,
            protocol,
            clients: self.clients as usize,
            connections: self.connections as usize,
            time: self.seconds,
            mix: self.mix,
            value_size: self.value_size as usize,
            keys: self.keys,
            queue: self.queue,
            timeout,
            seed: self.seed,
        }
    }
}

impl Target {
    /// The addresses of its name that answer.
    fn addresses(&self, timeout: Duration) -> Result<Vec<SocketAddr>, String> {
        let unreachable = |error: &io::Error| format!("{} cannot be reached: {error}", self.url);
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| unreachable(&error))?;
        let mut reachable = Vec::new();
        let mut why = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(_) => reachable.push(address),
                Err(error) => why = error,
            }
        }
        if reachable.is_empty() { Err(unreachable(&why)) } else { Ok(reachable) }
    }
}

/// The nodes of raft.ini, from the leader on.
fn nodes(config: &Path, timeout: Duration) -> Result<Vec<SocketAddr>, String> {
    let config = super::load(config)?;
    let mut client = Client::from_config(&config, timeout);
    let leader = client.leader().map_err(|error| error.to_string())?.id;
    let mut nodes: Vec<_> = client.nodes().collect();
    let first = nodes.iter().position(|node| node.id == leader).unwrap_or_default();
    nodes.rotate_left(first);
    let addresses = |host: &str, port| (host, port).to_socket_addrs().map(|mut addresses| addresses.next());
    let known = nodes.iter().filter_map(|node| addresses(&node.host, node.client_port).ok().flatten());
    Ok(known.collect())
}

/// Set by Ctrl-C; the second one ends the process.
fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    flag::register_conditional_shutdown(SIGINT, INTERRUPTED, Arc::clone(&stop))?;
    flag::register(SIGINT, Arc::clone(&stop))?;
    Ok(stop)
}

fn progress_bar(time: Duration) -> ProgressBar {
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new(time.as_millis() as u64),
        false => ProgressBar::hidden(),
    };
    bar.with_style(ProgressStyle::with_template("{wide_bar} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, now: Progress) {
    bar.set_position(now.measured.as_millis() as u64);
    let failed = if now.failed > 0 { format!(", {} failed", now.failed) } else { String::new() };
    bar.set_message(format!("{}: {:.0} a second{failed}", now.phase, now.rate));
}

fn target(text: &str) -> Result<Target, String> {
    let expected = || {
        "expected redis://HOST:PORT or etcd://HOST:PORT, without a user, a password or a number of a database"
            .to_owned()
    };
    let (protocol, address) = match text.split_once("://") {
        Some(("redis", address)) => (Protocol::Redis, address),
        Some(("etcd", address)) => (Protocol::Etcd, address),
        _ => return Err(expected()),
    };
    let (host, port) = address.strip_suffix('/').unwrap_or(address).rsplit_once(':').ok_or_else(expected)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(expected)?;
    match host.is_empty() || host.contains(['/', '@']) {
        true => Err(expected()),
        false => Ok(Target { url: text.to_owned(), protocol, host: host.to_owned(), port }),
    }
}
