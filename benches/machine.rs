//! What the state machine costs: a command into bytes, the bytes through the machine, and its answer out of bytes. `cargo bench
//! --bench machine` prints it for the usual commands; with `-- --test` each runs for a blink.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::consensus::{Index, LogTime};
use raft::machine::command::{Answer, Change, Command, Condition, Query};
use raft::machine::queue::command::QueueChange;
use raft::machine::{Applied, Asked, Composite, Machine};

const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 256;
/// So many commands at a time: few enough for a processor's cache to have them still when their answers are read.
const BATCH: u64 = 256;

/// A machine with all keys, and the entries that it was given.
struct Bench {
    machine: Composite,
    applied: u64,
    value: Bytes,
    time: Duration,
}

/// What a kind of command took so far.
struct Taken {
    encode: Duration,
    run: Duration,
    decode: Duration,
    commands: u64,
}

impl Bench {
    fn new(time: Duration) -> Self {
        let mut bench = Bench { machine: Composite::default(), applied: 0, value: vec![7; VALUE_BYTES].into(), time };
        (0..KEYS).for_each(|number| drop(bench.apply(&bench.set(number).encode())));
        bench
    }

    fn set(&self, number: u64) -> Command {
        let (key, value) = (key(number), self.value.clone());
        Change::Set { key, value, condition: Condition::Always, want_old: false }.into()
    }

    fn push(&self) -> Command {
        Change::Push { topic: "list".into(), messages: vec![self.value.clone()] }.into()
    }

    fn apply(&mut self, command: &Bytes) -> Bytes {
        self.applied += 1;
        let (index, time) = (Index(self.applied), LogTime(self.applied / 64));
        self.machine.apply(Applied { index, time, session: None, command, is_awaited: true })
    }

    fn query(&mut self, query: &Bytes) -> Bytes {
        self.machine.query(Asked { time: LogTime(self.applied / 64), query })
    }

    /// Encodes a batch, runs it, and decodes its answers.
    fn batch<T>(
        &mut self,
        taken: &mut Taken,
        requests: Vec<T>,
        encode: impl Fn(&T) -> Bytes,
        run: impl Fn(&mut Self, &Bytes) -> Bytes,
    ) {
        let began = Instant::now();
        let encoded: Vec<Bytes> = requests.iter().map(encode).collect();
        taken.encode += began.elapsed();
        let began = Instant::now();
        let answers: Vec<Bytes> = encoded.iter().map(|request| run(self, request)).collect();
        taken.run += began.elapsed();
        let began = Instant::now();
        for answer in answers {
            let answer = Answer::decode(black_box(&answer)).expect("an answer");
            assert!(!matches!(answer, Answer::Malformed(_) | Answer::WrongType), "{answer:?}");
        }
        taken.decode += began.elapsed();
        taken.commands += requests.len() as u64;
    }

    fn measure(&mut self) {
        let [mut set, mut get, mut push, mut pop] = [const { Taken::NOTHING }; 4];
        let began = Instant::now();
        let mut number = 0;
        while began.elapsed() < self.time {
            // A step that has no factor in common with the number of keys: all of them, and neighbours never in turn.
            let numbers: Vec<u64> = (0..BATCH).map(|at| (number + at) * 7919 % KEYS).collect();
            number += BATCH;
            let sets = numbers.iter().map(|number| self.set(*number)).collect();
            self.batch(&mut set, sets, Command::encode, Self::apply);
            let gets = numbers.iter().map(|number| Query::Get { key: key(*number) }).collect();
            self.batch(&mut get, gets, Query::encode, Self::query);
            let pushes = (0..BATCH).map(|_| self.push()).collect();
            self.batch(&mut push, pushes, Command::encode, Self::apply);
            let take = || Change::Queue { topic: "list".into(), change: QueueChange::Take { max: 1 } }.into();
            let pops = (0..BATCH).map(|_| take()).collect();
            self.batch(&mut pop, pops, Command::encode, Self::apply);
        }
        println!("| command | encode, ns | run, ns | decode the answer, ns | commands / s |");
        println!("| --- | ---: | ---: | ---: | ---: |");
        [("SET", set), ("GET", get), ("RPUSH", push), ("LPOP", pop)].into_iter().for_each(|(name, of)| of.print(name));
    }
}

impl Taken {
    const NOTHING: Taken = Taken { encode: Duration::ZERO, run: Duration::ZERO, decode: Duration::ZERO, commands: 0 };

    fn print(&self, name: &str) {
        let Taken { encode, run, decode, commands } = self;
        let each = |time: &Duration| time.as_secs_f64() * 1e9 / *commands as f64;
        let rate = *commands as f64 / (*encode + *run + *decode).as_secs_f64();
        println!("| {name} | {:.0} | {:.0} | {:.0} | {rate:.0} |", each(encode), each(run), each(decode));
    }
}

fn key(number: u64) -> Bytes {
    format!("key:{number:08}").into()
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    Bench::new(if is_test { Duration::from_millis(1) } else { Duration::from_secs(4) }).measure();
}
