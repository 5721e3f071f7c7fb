//! What it costs to make a frame of an `AppendEntries`, and an `AppendEntries` of the frame: checksums both ways, head and
//! payloads. `cargo bench --bench codec` prints it for several numbers of entries; with `-- --test` each runs for a blink.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raft::codec::{frame, peer};
use raft::consensus::{AppendEntries, EntryHeader, EntryKind, Index, LogTime, Message, MessageBody, Payload, Term};
use raft::transport::PeerMessage;

const PAYLOAD_BYTES: usize = 256;
const LIMIT: usize = 1 << 20;

/// A request with so many entries.
fn message(count: u64) -> PeerMessage {
    let header = |number| EntryHeader {
        index: Index(1_000_000 + number),
        term: Term(7),
        kind: EntryKind::Command,
        time: LogTime(1_000_000_000 + number),
        session: None,
        size: PAYLOAD_BYTES as u32,
    };
    let append = AppendEntries {
        prev_index: Index(1_000_000),
        prev_term: Term(7),
        commit: Index(999_000),
        round: 12,
        entries: (1..=count).map(header).collect(),
    };
    let payload: Payload = vec![7; PAYLOAD_BYTES].into();
    let message = Message { term: Term(7), body: MessageBody::AppendEntries(append) };
    PeerMessage::Raft { message, payloads: (0..count).map(|_| payload.clone()).collect() }
}

/// How long one of these takes, on average over so long a time.
fn nanos_each(time: Duration, mut work: impl FnMut()) -> f64 {
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        (0..16).for_each(|_| work());
        count += 16;
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

/// Prints a line of the table for so many entries.
fn measure(entries: u64, time: Duration) {
    let message = message(entries);
    let mut out = Vec::new();
    let encode = |out: &mut Vec<u8>| {
        out.clear();
        peer::encode(black_box(&message), LIMIT, out).expect("it fits");
    };
    encode(&mut out);
    let bytes = out.clone();
    // The copy stands for the one out of the socket.
    let decode = || {
        let mut input = BytesMut::from(black_box(&bytes[..]));
        let frame = frame::decode(&mut input, LIMIT).expect("a frame").expect("all of it");
        peer::decode(frame).expect("a message")
    };
    assert_eq!(decode(), message);
    let encoding = nanos_each(time, || encode(&mut out));
    let decoding = nanos_each(time, || drop(black_box(decode())));
    let both = (encoding + decoding) / entries as f64;
    println!("| {entries} | {} | {encoding:.0} | {decoding:.0} | {both:.0} |", bytes.len());
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let time = if is_test { Duration::from_millis(1) } else { Duration::from_secs(1) };
    println!("| entries | bytes | encode, ns | decode, ns | both, ns / entry |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    [1, 64, 256].into_iter().for_each(|entries| measure(entries, time));
}
