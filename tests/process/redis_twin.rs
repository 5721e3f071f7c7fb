//! A Redis and a cluster are told the same, word for word, and must answer the same, byte for byte. Left out is what
//! docs/REDIS.md says is different: a list's name belongs to a topic, and what makes no sense is refused when it is queued.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use crate::support::cluster::{Cluster, PATIENCE, rounds, wait_until};
use crate::support::random::Random;

/// Names that strings get, and names that lists get.
const TEXTS: [&str; 4] = ["t1", "t2", "t3", "t4"];
const LISTS: [&str; 3] = ["q1", "q2", "q3"];

/// A string and a list that stay what they are: for commands that want the other type.
const FIXED_TEXT: &str = "text";
const FIXED_LIST: &str = "list";

/// Stand for a time that has not been named before: which of two that are the same comes later is a matter of milliseconds.
const SECONDS: &str = "(seconds)";
const MILLISECONDS: &str = "(milliseconds)";

/// A Redis of version 7 or later on a socket of its own; it ends with the test.
struct Redis {
    process: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    /// `None`, and said so, where there is none.
    fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output().ok();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let major = version.split("v=").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            println!("skipped: no redis-server of version 7 or later (Debian: redis-server) {version}");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "no"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        Some(Redis { process, folder })
    }

    fn connect(&self) -> Line {
        let path = self.folder.path().join("socket");
        let stream = wait_until("Redis listens", || UnixStream::connect(&path).ok());
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Line { input: BufReader::new(Box::new(stream.try_clone().expect("a clone"))), output: Box::new(stream) }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection on which each answer is awaited.
struct Line {
    input: BufReader<Box<dyn Read>>,
    output: Box<dyn Write>,
}

impl Line {
    fn to_node(cluster: &Cluster, id: u64) -> Self {
        let stream = TcpStream::connect(cluster.client_address(id)).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Line { input: BufReader::new(Box::new(stream.try_clone().expect("a clone"))), output: Box::new(stream) }
    }

    /// The answer's bytes.
    fn ask(&mut self, words: &[String]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.output.write_all(request.as_bytes()).expect("the request is sent");
        let mut answer = Vec::new();
        self.read(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn read(&mut self, answer: &mut Vec<u8>) {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line).expect("an answer in time");
        let (kind, count) = line.split_first().expect("the connection stays open");
        let count = std::str::from_utf8(count).ok().and_then(|count| count.trim().parse::<i64>().ok()).unwrap_or(0);
        let (kind, count) = (*kind, usize::try_from(count).unwrap_or(0));
        let is_null = line.starts_with(b"$-") || line.starts_with(b"*-");
        answer.append(&mut line);
        match kind {
            b'$' if !is_null => {
                let mut bytes = vec![0; count + 2];
                self.input.read_exact(&mut bytes).expect("the whole answer");
                answer.append(&mut bytes);
            }
            b'*' | b'~' if !is_null => (0..count).for_each(|_| self.read(answer)),
            b'%' => (0..2 * count).for_each(|_| self.read(answer)),
            _ => {}
        }
    }
}

/// Whether these are the same answer.
fn agree(words: &[String], redis: &str, node: &str) -> bool {
    let number = |answer: &str| answer.strip_prefix(':').and_then(|number| number.trim().parse::<i64>().ok());
    match words.first().map(|name| name.to_uppercase()).as_deref() {
        // In any order.
        Some("KEYS") => {
            let sorted = |answer: &str| {
                let mut lines: Vec<String> = answer.split("\r\n").map(str::to_owned).collect();
                lines.sort();
                lines
            };
            sorted(redis) == sorted(node)
        }
        // Neither has asked at the same moment, and times are of a thousand seconds and more.
        Some(name @ ("TTL" | "PTTL")) => match (number(redis), number(node)) {
            (Some(redis), Some(node)) if redis > 0 && node > 0 => {
                redis.abs_diff(node) <= if name == "TTL" { 60 } else { 60_000 }
            }
            _ => redis == node,
        },
        _ => redis == node,
    }
}

/// Writes the commands.
struct Author(Random);

impl Author {
    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.0.below(choices.len() as u64) as usize]
    }

    fn rarely(&mut self) -> bool {
        self.0.below(20) == 0
    }

    fn text(&mut self) -> &'static str {
        self.pick(&TEXTS)
    }

    fn list(&mut self) -> &'static str {
        self.pick(&LISTS)
    }

    fn any(&mut self) -> &'static str {
        match self.0.below(10) {
            0 => self.pick(&[FIXED_TEXT, FIXED_LIST, "none", ""]),
            1..6 => self.text(),
            _ => self.list(),
        }
    }

    fn value(&mut self) -> &'static str {
        self.pick(&[
            "",
            "a",
            "hello",
            "1",
            "10",
            "-3",
            "3.5",
            "9223372036854775807",
            "-9223372036854775808",
            "\0\r\n$1",
        ])
    }

    fn number(&mut self) -> &'static str {
        const ODD: [&str; 12] = [
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "x",
            "1.5",
            "",
            " 1",
            "1 ",
            "01",
            "+1",
            "-0",
            "1e3",
        ];
        if self.rarely() {
            self.pick(&ODD)
        } else {
            self.pick(&["0", "1", "2", "3", "10", "-1", "-2", "-3", "-100", "100"])
        }
    }

    fn seconds(&mut self) -> &'static str {
        const ODD: [&str; 8] =
            ["0", "-1", "x", "", "1.5", "9223372036854775", "9223372036854775807", "10000000000000000"];
        if self.rarely() { self.pick(&ODD) } else { SECONDS }
    }

    fn milliseconds(&mut self) -> &'static str {
        const ODD: [&str; 6] = ["0", "-1", "x", "", "9223372036854775807", "-9223372036854775808"];
        if self.rarely() { self.pick(&ODD) } else { MILLISECONDS }
    }

    fn command(&mut self) -> Vec<String> {
        const NAMES: [&str; 40] = [
            "GET", "SET", "SET", "SET", "SETNX", "MSET", "MSETNX", "MGET", "GETDEL", "APPEND", "STRLEN", "INCR",
            "DECR", "INCRBY", "DECRBY", "EXPIRE", "EXPIRE", "PERSIST", "TTL", "PTTL", "TYPE", "RPUSH", "RPUSH", "LPOP",
            "LPOP", "BLPOP", "LLEN", "LRANGE", "DEL", "EXISTS", "KEYS", "DBSIZE", "PING", "ECHO", "SELECT", "MULTI",
            "EXEC", "DISCARD", "WATCH", "UNWATCH",
        ];
        let name = self.pick(&NAMES);
        let mut words = vec![name];
        let some = self.0.below(4);
        match name {
            "SET" => {
                words.extend([self.text(), self.value()]);
                for _ in 0..self.pick(&["", "", "1", "12"]).len() {
                    match self.pick(&["NX", "XX", "GET", "EX", "EX", "PX", "KEEPTTL", "nx", "px", "NO"]) {
                        option @ "EX" => words.extend([option, self.seconds()]),
                        option @ ("PX" | "px") => words.extend([option, self.milliseconds()]),
                        option => words.push(option),
                    }
                }
            }
            "GET" | "STRLEN" | "PERSIST" | "TTL" | "PTTL" | "TYPE" | "LLEN" => words.push(self.any()),
            "GETDEL" | "INCR" | "DECR" => words.push(if self.rarely() { FIXED_LIST } else { self.text() }),
            "APPEND" => words.extend([if self.rarely() { FIXED_LIST } else { self.text() }, self.value()]),
            "INCRBY" | "DECRBY" => words.extend([if self.rarely() { FIXED_LIST } else { self.text() }, self.number()]),
            "SETNX" => words.extend([self.text(), self.value()]),
            "MSET" | "MSETNX" => (0..some).for_each(|_| words.extend([self.text(), self.value()])),
            "MGET" | "EXISTS" => (0..some).for_each(|_| words.push(self.any())),
            // Not of lists that `DEL` names: emptied, they are missing to Redis, and their deletion is no change there.
            "WATCH" => (0..some).for_each(|_| words.push(self.pick(&["t1", "t2", "t3", "q3", FIXED_LIST, "none"]))),
            "DEL" => (0..some).for_each(|_| words.push(self.pick(&["t1", "t2", "q1", "q2", "none"]))),
            "EXPIRE" => {
                words.extend([self.text(), self.seconds()]);
                let options: [&[&str]; 11] = [
                    &[],
                    &[],
                    &[],
                    &["NX"],
                    &["XX"],
                    &["gt"],
                    &["LT"],
                    &["XX", "LT"],
                    &["GT", "xx"],
                    &["GT", "LT"],
                    &["XX", "NX"],
                ];
                words.extend(options[self.0.below(options.len() as u64) as usize]);
                if self.rarely() {
                    words.push("SOON");
                }
            }
            "RPUSH" => {
                words.push(if self.rarely() { FIXED_TEXT } else { self.list() });
                (0..some).for_each(|_| words.push(self.value()));
            }
            "LPOP" => {
                words.push(if self.rarely() { FIXED_TEXT } else { self.list() });
                if some == 0 {
                    words.push(self.pick(&["1", "2", "3", "10", "-1", "x", "9223372036854775808"]));
                }
            }
            "BLPOP" => {
                (0..some).for_each(|_| words.push(self.list()));
                words.push(self.pick(&["0.01", "0.02", "1e-2", "-1", "x", ""]));
            }
            "LRANGE" => words.extend([self.any(), self.number(), self.number()]),
            "KEYS" => {
                words.push(self.pick(&["*", "t?", "q[1-2]", "[^t]*", "q[^3]", "\\*", "", "[", "l*t", "*1", "[z-a]1"]))
            }
            "PING" => words.extend((0..some / 2).map(|_| "hi")),
            "ECHO" => words.push(self.value()),
            "SELECT" => words.push(self.pick(&["0", "0", "x", "-1"])),
            _ => {}
        }
        if self.rarely() && name != "EXEC" {
            match self.pick(&["less", "more"]) {
                "less" if words.len() > 1 => _ = words.pop(),
                _ => words.push("more"),
            }
        }
        let some_time = 1_000 + self.0.below(100_000_000);
        let spoken = |word| match word {
            SECONDS => some_time.to_string(),
            MILLISECONDS => (1_000 * some_time).to_string(),
            word => word.to_owned(),
        };
        let mut words: Vec<String> = words.into_iter().map(spoken).collect();
        if self.rarely()
            && let Some(name) = words.first_mut()
        {
            name.make_ascii_lowercase();
        }
        words
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_redis_and_every_node_answer_the_same() {
    let Some(redis) = Redis::start() else { return };
    let seed = std::env::var("RAFT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed}");
    // Nobody is to lose his place because the machine is busy: a Redis answers whatever happens.
    let cluster = Cluster::with(3, "ElectionTimeout = 2000\n");
    cluster.wait_for_leader();
    let mut pairs: Vec<(Line, Line)> =
        cluster.ids().into_iter().map(|id| (redis.connect(), Line::to_node(&cluster, id))).collect();
    let mut author = Author(Random::new(seed));
    let mut told: Vec<(usize, Vec<String>)> = Vec::new();
    let (mut ran, mut prevented, mut errors) = (0, 0, 0);

    let (on_redis, on_node) = &mut pairs[2];
    for line in [on_redis, on_node] {
        assert!(line.ask(&words("HELLO 3")).starts_with('%'), "the third connection speaks RESP3");
        line.ask(&words(&format!("SET {FIXED_TEXT} x")));
        line.ask(&words(&format!("RPUSH {FIXED_LIST} x y z")));
    }
    let mut is_in_transaction = [false; 3];
    for _ in 0..rounds(4_000, 60_000) {
        let pair = author.0.below(3) as usize;
        let ends = is_in_transaction[pair] && author.0.below(4) == 0;
        let command = if ends { words("EXEC") } else { author.command() };
        let name = command.first().map(|name| name.to_uppercase()).unwrap_or_default();
        if is_in_transaction[pair] && (name == "TTL" || name == "PTTL") {
            continue; // `agree` does not look for times within an answer to EXEC
        }
        told.push((pair, command.clone()));
        let (on_redis, on_node) = &mut pairs[pair];
        let (by_redis, by_node) = (on_redis.ask(&command), on_node.ask(&command));
        if by_redis.ends_with("+QUEUED\r\n") && by_node.starts_with('-') {
            // What makes no sense is refused at once.
            for line in [on_redis, on_node] {
                assert_eq!(line.ask(&words("DISCARD")), "+OK\r\n");
            }
            is_in_transaction[pair] = false;
            continue;
        }
        let last = told.len().saturating_sub(50);
        assert!(
            agree(&command, &by_redis, &by_node),
            "seed {seed}, command {}, connection {pair}: {command:?}\nRedis says    {by_redis:?}\nthe node says {by_node:?}\n\
             before it came\n{:?}",
            told.len(),
            &told[last..]
        );
        let is_error = by_redis.starts_with('-');
        errors += usize::from(is_error);
        match name.as_str() {
            "MULTI" if !is_error => is_in_transaction[pair] = true,
            "DISCARD" if !is_error => is_in_transaction[pair] = false,
            "EXEC" => {
                is_in_transaction[pair] = false;
                ran += usize::from(by_redis.starts_with('*') && !by_redis.starts_with("*-") && by_redis != "*0\r\n");
                prevented += usize::from(by_redis.starts_with("*-") || by_redis == "_\r\n");
            }
            _ => {}
        }
    }

    // What was asked for did happen: transactions that ran and that WATCH prevented, and errors of many kinds.
    println!("{} commands, {errors} errors, {ran} transactions, {prevented} prevented by WATCH", told.len());
    assert!(ran >= 20 && prevented >= 3 && errors >= 100, "{ran} ran, {prevented} were prevented, {errors} errors");
    for (on_redis, on_node) in &mut pairs {
        let end = words("RESET");
        assert_eq!(on_redis.ask(&end), on_node.ask(&end));
        for key in TEXTS.iter().chain(&LISTS).chain(&[FIXED_TEXT, FIXED_LIST]) {
            for look in [format!("TYPE {key}"), format!("GET {key}"), format!("LRANGE {key} 0 -1")] {
                assert_eq!(on_redis.ask(&words(&look)), on_node.ask(&words(&look)), "at last, {look}");
            }
        }
        let size = words("DBSIZE");
        assert_eq!(on_redis.ask(&size), on_node.ask(&size));
    }
    cluster.assert_all_run();
}
