//! A node with a bug of your choice, to see the workbench find it.
//!
//! ```sh
//! cargo build --release --bin raft --example faulty_node
//! faulty=target/release/examples/faulty_node
//! raft workbench -w lin-kv          --bin $faulty -- no-replication
//! raft workbench -w txn-list-append --bin $faulty -- lost-update
//! raft workbench -w kafka           --bin $faulty -- skipped-offset
//! ```
//!
//! The last two take faults: `docs/MAELSTROM.md` has the commands for `stale-reads` and `truncate-then-append`.
//! Without the bug each would do well: with `none` the last two have none.

mod replica;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use replica::Replica;
use serde_json::{Map, Value, json};

/// What is wrong with a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// Every node has a map of its own, as in chapter 2 of Maelstrom's guide. For `lin-kv`.
    NoReplication,
    /// Transactions read, wait, and write without looking whether what they read is still there. For `txn-list-append` and
    /// `txn-rw-register`.
    LostUpdate,
    /// A poll takes the offset it is to begin with for the last one that is known already. For `kafka`.
    SkippedOffset,
    /// A leader answers reads from what it has, without asking anybody whether it still leads. For `lin-kv`.
    StaleReads,
    /// The guide's handler of requests to append, see [`Replica`]. For `lin-kv`.
    TruncateThenAppend,
    /// Nothing, in what the last two do. For `lin-kv`.
    None,
}

/// How long a transaction thinks between reading and writing.
const THINKING: Duration = Duration::from_millis(20);

/// An answer that waits for its transaction, and what that is going to write.
struct Pending {
    due: Instant,
    to: String,
    answer: Value,
    writes: BTreeMap<String, Value>,
}

/// The fields of an answer, or a definite error.
type Outcome = Result<Value, (u64, &'static str)>;

/// The answer to a request; or where its client asked another node, what that node is to pass on.
fn envelope(request: &Value, client: &Value, outcome: Outcome) -> Value {
    let kind = request["type"].as_str().unwrap_or_default();
    let mut answer = match outcome {
        Ok(mut answer) => {
            answer["type"] = format!("{kind}_ok").into();
            answer
        }
        Err((code, text)) => json!({"type": "error", "code": code, "text": text}),
    };
    answer["in_reply_to"] = request["msg_id"].clone();
    if client.is_null() { answer } else { json!({"type": "tell", "client": client, "answer": answer}) }
}

struct Node {
    bug: Bug,
    name: String,
    /// Where the data is.
    store: String,
    /// Registers, lists and logs.
    values: BTreeMap<String, Value>,
    /// In the order in which they are due.
    pending: Vec<Pending>,
    /// The log, where the bug is about that.
    replica: Option<Replica>,
}

fn main() {
    let bug = match std::env::args().nth(1).as_deref() {
        Some("no-replication") => Bug::NoReplication,
        Some("lost-update") => Bug::LostUpdate,
        Some("skipped-offset") => Bug::SkippedOffset,
        Some("stale-reads") => Bug::StaleReads,
        Some("truncate-then-append") => Bug::TruncateThenAppend,
        Some("none") => Bug::None,
        _ => {
            eprintln!(
                "usage: faulty_node no-replication|lost-update|skipped-offset|stale-reads|truncate-then-append|none"
            );
            std::process::exit(2);
        }
    };
    let (name, store) = (String::new(), String::new());
    let mut node = Node { bug, name, store, values: BTreeMap::new(), pending: Vec::new(), replica: None };
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    loop {
        let due = node
            .pending
            .first()
            .map(|next| next.due)
            .into_iter()
            .chain(node.replica.as_ref().map(|log| log.deadline))
            .min();
        let patience = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        match lines.recv_timeout(patience) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(message) => node.receive(&message),
                Err(error) => eprintln!("this is no message: {line} ({error})"),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        node.finish(Instant::now());
    }
}

impl Node {
    fn send(&self, dest: &str, body: &Value) {
        let message = json!({"src": self.name, "dest": dest, "body": body});
        if writeln!(std::io::stdout().lock(), "{message}").is_err() {
            std::process::exit(0);
        }
    }

    fn receive(&mut self, message: &Value) {
        let (from, body) = (message["src"].as_str().unwrap_or_default(), &message["body"]);
        match body["type"].as_str() {
            Some("init") => {
                self.name = body["node_id"].as_str().unwrap_or_default().to_owned();
                let mut nodes: Vec<String> = body["node_ids"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|name| Some(name.as_str()?.to_owned()))
                    .collect();
                self.store = nodes.first().cloned().unwrap_or_default();
                nodes.retain(|name| *name != self.name);
                if matches!(self.bug, Bug::StaleReads | Bug::TruncateThenAppend | Bug::None) {
                    let truncates = self.bug == Bug::TruncateThenAppend;
                    self.replica = Some(Replica::new(truncates, &self.name, nodes, Instant::now()));
                }
                self.send(from, &json!({"type": "init_ok", "in_reply_to": body["msg_id"]}));
            }
            Some("vote" | "voted" | "append" | "appended") => {
                if let Some(replica) = &mut self.replica {
                    replica.receive(from, body, Instant::now());
                }
            }
            // One node decides. The others ask it, and pass its answers on.
            Some("tell") => self.send(body["client"].as_str().unwrap_or_default(), &body["answer"]),
            Some("ask") if self.replica.is_some() => self.replicate(from, &body["request"], &body["client"]),
            Some("ask") => self.answer(from, &body["request"], &body["client"]),
            Some(_) if self.replica.is_some() => self.replicate(from, body, &Value::Null),
            Some(_) if self.bug == Bug::NoReplication || self.name == self.store => {
                self.answer(from, body, &Value::Null)
            }
            Some(_) => self.send(&self.store, &json!({"type": "ask", "client": from, "request": body})),
            None => eprintln!("this has no type: {message}"),
        }
    }

    /// Has a request carried out by all nodes, if this one leads, or by the leader.
    fn replicate(&mut self, from: &str, request: &Value, client: &Value) {
        let Some(replica) = &mut self.replica else { return };
        if replica.is_leader() {
            if self.bug == Bug::StaleReads && request["type"] == "read" {
                // The bug: there may be another leader by now, and another value.
                return self.answer(from, request, client);
            }
            replica
                .propose(json!({"by": self.name, "from": from, "request": request, "client": client}), Instant::now());
            return;
        }
        match replica.leader.clone().filter(|leader| client.is_null() && *leader != self.name) {
            Some(leader) => self.send(&leader, &json!({"type": "ask", "client": from, "request": request})),
            None => self.reply(from, request, client, Err((11, "there is no leader"))),
        }
    }

    /// Carries a request out for a client, or for a client of the node that asks.
    fn answer(&mut self, from: &str, request: &Value, client: &Value) {
        let mut writes = BTreeMap::new();
        let kind = request["type"].as_str().unwrap_or_default();
        if kind == "txn" {
            let answer = envelope(request, client, Ok(self.transaction(request, &mut writes)));
            self.pending.push(Pending { due: Instant::now() + THINKING, to: from.to_owned(), answer, writes });
        } else {
            let outcome = self.single(kind, request);
            self.reply(from, request, client, outcome);
        }
    }

    fn reply(&self, from: &str, request: &Value, client: &Value, outcome: Outcome) {
        self.send(from, &envelope(request, client, outcome));
    }

    fn single(&mut self, kind: &str, request: &Value) -> Outcome {
        let key = request["key"].to_string();
        match kind {
            "read" => Ok(json!({"value": self.values.get(&key).ok_or((20, "no such key"))?})),
            "write" => {
                self.values.insert(key, request["value"].clone());
                Ok(json!({}))
            }
            "cas" => {
                let value = self.values.get_mut(&key).ok_or((20, "no such key"))?;
                if *value != request["from"] {
                    return Err((22, "the value is another one"));
                }
                *value = request["to"].clone();
                Ok(json!({}))
            }
            "send" => {
                let log = self.values.entry(key).or_insert_with(|| json!([]));
                let log = log.as_array_mut().ok_or((13, "this is no log"))?;
                log.push(request["msg"].clone());
                Ok(json!({"offset": log.len() - 1}))
            }
            "poll" => {
                let logs = request["offsets"].as_object().into_iter().flatten();
                let polled = logs.map(|(name, from)| (name.clone(), self.poll(name, from.as_u64().unwrap_or(0))));
                Ok(json!({"msgs": polled.collect::<Map<_, _>>()}))
            }
            // What readers commit is not what this is about, and stays where it belongs.
            "commit_offsets" => {
                for (name, offset) in request["offsets"].as_object().into_iter().flatten() {
                    let known = self.values.entry(format!("committed {name}")).or_insert_with(|| json!(0));
                    *known = json!(known.as_u64().max(offset.as_u64()));
                }
                Ok(json!({}))
            }
            "list_committed_offsets" => {
                let names = request["keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let known = names
                    .filter_map(|name| Some((name.to_owned(), self.values.get(&format!("committed {name}"))?.clone())));
                Ok(json!({"offsets": known.collect::<Map<_, _>>()}))
            }
            _ => Err((10, "this node does not do that")),
        }
    }

    fn poll(&self, name: &str, from: u64) -> Value {
        let log = self.values.get(&Value::from(name).to_string()).and_then(Value::as_array);
        let all = (0..).zip(log.into_iter().flatten());
        // The bug: it should be `>=`.
        let later = all.filter(|(offset, _)| *offset > from || self.bug != Bug::SkippedOffset && *offset == from);
        later.map(|(offset, message): (u64, _)| json!([offset, message])).collect()
    }

    /// Runs a transaction on what is there now; what it writes goes to `writes`.
    fn transaction(&self, request: &Value, writes: &mut BTreeMap<String, Value>) -> Value {
        let mut done = Vec::new();
        for step in request["txn"].as_array().into_iter().flatten() {
            let key = step[1].to_string();
            let now = writes.get(&key).or_else(|| self.values.get(&key)).cloned().unwrap_or_default();
            match step[0].as_str() {
                Some("append") => {
                    let mut list = now.as_array().cloned().unwrap_or_default();
                    list.push(step[2].clone());
                    writes.insert(key, list.into());
                }
                Some("w") => drop(writes.insert(key, step[2].clone())),
                _ => {
                    done.push(json!(["r", step[1], now]));
                    continue;
                }
            }
            done.push(step.clone());
        }
        json!({ "txn": done })
    }

    /// Does what is due: what is committed, what transactions want to have written by now, and what the log has to send.
    fn finish(&mut self, now: Instant) {
        if let Some(replica) = &mut self.replica {
            replica.tick(now);
            if std::mem::take(&mut replica.begins_again) {
                self.values.clear();
            }
        }
        while let Some(entry) = self.replica.as_mut().and_then(Replica::next_committed) {
            let request = &entry["request"];
            let outcome = self.single(request["type"].as_str().unwrap_or_default(), request);
            if entry["by"] == *self.name {
                self.reply(entry["from"].as_str().unwrap_or_default(), request, &entry["client"], outcome);
            }
        }
        for (to, body) in self.replica.as_mut().map(|replica| std::mem::take(&mut replica.out)).unwrap_or_default() {
            self.send(&to, &body);
        }
        let ready = self.pending.partition_point(|pending| pending.due <= now);
        for Pending { to, answer, writes, .. } in self.pending.drain(..ready).collect::<Vec<_>>() {
            // The bug: somebody else may have written since.
            self.values.extend(writes);
            self.send(&to, &answer);
        }
    }
}
