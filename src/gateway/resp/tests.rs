//! Whole conversations: a session, and a node made of nothing but its inboxes and a state machine.

mod transactions;
mod types;
mod waiting;

use std::sync::{Condvar, Mutex};
use std::thread;

use proptest::prelude::*;

use super::slots::{MAX_QUEUED_BYTES, MAX_UNREAD_BYTES, MAX_WAITING, MAX_WAITING_BYTES};
use super::*;
use crate::consensus::{Index, LogTime, Payload, Role, SessionSequence};
use crate::machine::command::{Answer, MAX_ANSWER_BYTES};
use crate::machine::session::{SESSION_ANSWERS, SESSION_MS};
use crate::machine::{Applied, Asked, Composite, Machine};
use crate::runtime::{Inboxes, LogLine, NodeStatus, Outcome, Response};

/// What a client would see.
#[derive(Default)]
struct Screen {
    bytes: Mutex<(Vec<u8>, Vec<u8>)>,
    flushed: Condvar,
    queued: Mutex<usize>,
}

impl Output for Screen {
    fn write(&self, bytes: &[u8]) {
        self.bytes.lock().unwrap().0.extend_from_slice(bytes);
    }

    fn flush(&self) {
        let (written, sent) = &mut *self.bytes.lock().unwrap();
        sent.append(written);
        self.flushed.notify_all();
    }

    fn queued(&self) -> usize {
        *self.queued.lock().unwrap()
    }
}

impl Screen {
    /// Everything sent since the last call, line ends shown as `|`.
    fn take(&self) -> String {
        let (written, sent) = &mut *self.bytes.lock().unwrap();
        assert!(written.is_empty(), "answers were written and not flushed");
        String::from_utf8(std::mem::take(sent)).unwrap().replace("\r\n", "|")
    }

    /// Waits until what was sent ends so, then takes it all.
    fn wait_for(&self, end: &str) -> String {
        let arrived = |(_, sent): &mut (Vec<u8>, Vec<u8>)| !sent.ends_with(end.as_bytes());
        let guard = self.bytes.lock().unwrap();
        drop(self.flushed.wait_timeout_while(guard, Duration::from_secs(10), arrived).unwrap());
        self.take()
    }
}

/// A node of one thread: it works when it is told to.
struct FakeNode {
    inboxes: Inboxes,
    machine: Composite,
    index: u64,
    time: LogTime,
    leader: Option<NodeId>,
}

impl FakeNode {
    fn apply(&mut self, session: Option<SessionSequence>, payload: &Payload) -> Response {
        self.index += 1;
        let (index, time) = (Index(self.index), self.time);
        Response::Answer(self.machine.apply(Applied { index, time, session, command: &payload.0, is_awaited: true }))
    }

    fn outcome(&mut self, request: &ClientRequest) -> Outcome {
        if !request.forward && self.leader != Some(NodeId(2)) {
            return Err(Failure::NotReady("this node is not the leader".into()));
        }
        Ok(match &request.operation {
            Operation::Write(payload) => self.apply(None, payload),
            Operation::SessionWrite(stamp, payload) => self.apply(Some(*stamp), payload),
            Operation::Read(payload) | Operation::LocalRead(payload) => {
                Response::Answer(self.machine.query(Asked { time: self.time, query: payload }))
            }
            Operation::Status => Response::Status(Box::new(self.status())),
            Operation::Log { from, count } => {
                let text = self.machine.describe(b"");
                let (index, term) = (from.unwrap_or(1), *count);
                Response::Log(vec![LogLine { index, term, time_ms: 0, kind: "noop".into(), text, committed: true }])
            }
            Operation::Debug => Response::Done,
            Operation::Transfer { to: Some(NodeId(3)) } => Response::Done,
            Operation::Transfer { .. } => return Err(Failure::Refused("no node can take over".into())),
        })
    }

    fn status(&self) -> NodeStatus {
        let (id, label, role, leader) = (NodeId(2), "B".into(), Role::Follower, self.leader);
        NodeStatus { id, label, role, term: 7, leader, last: 9, commit: 9, applied: 8, abstains: false, peers: vec![] }
    }

    fn work(&mut self) {
        while let Ok(request) = self.inboxes.clients.try_recv() {
            let outcome = self.outcome(&request);
            request.reply.send(outcome).flush();
        }
    }

    fn requests(&self) -> Vec<ClientRequest> {
        self.inboxes.clients.try_iter().collect()
    }
}

struct Conversation {
    session: RespSession,
    input: BytesMut,
    screen: Arc<Screen>,
    node: FakeNode,
    handle: NodeHandle,
    options: Arc<RespOptions>,
}

const MAX_REQUEST_BYTES: u64 = 10_000;

fn conversation_with(patience: Duration, max_request_bytes: u64) -> Conversation {
    let limits = Limits { max_request_bytes, ..Limits::default() };
    let nodes = vec![(NodeId(2), "B".to_owned()), (NodeId(3), "C".to_owned())];
    let (handle, inboxes) = NodeHandle::new();
    let screen = Arc::new(Screen::default());
    let waiters = Waiters::default();
    handle.tell_of_woken(Box::new(waiters.clone()));
    let options = Arc::new(RespOptions { limits, nodes, patience, waiters });
    let session = RespSession::new(options.clone(), handle.clone(), 42, screen.clone());
    let node = FakeNode { inboxes, machine: Composite::default(), index: 0, time: LogTime(0), leader: Some(NodeId(3)) };
    Conversation { session, input: BytesMut::new(), screen, node, handle, options }
}

fn conversation() -> Conversation {
    conversation_with(Duration::from_secs(3600), MAX_REQUEST_BYTES)
}

impl Conversation {
    fn receive(&mut self, bytes: impl AsRef<[u8]>) -> Result<Flow, Close> {
        self.input.extend_from_slice(bytes.as_ref());
        self.session.receive(&mut self.input)
    }

    /// Says one line, lets the node work, and gives what came back.
    fn say(&mut self, line: &str) -> String {
        let flow = self.receive(format!("{line}\r\n"));
        assert!(matches!(flow, Ok(Flow::Continue | Flow::Until(_))), "{line}: {flow:?}");
        self.node.work();
        self.screen.take()
    }

    fn check(&mut self, golden: &str) {
        for line in golden.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (request, expected) = line.split_once(" => ").unwrap_or((line, ""));
            let reply = self.say(request.trim());
            assert_eq!(reply, expected.trim(), "the reply to {request}");
            let bytes = reply.replace('|', "\r\n");
            assert!(redis::parse_redis_value(bytes.as_bytes()).is_ok(), "a client understands {reply}");
        }
    }
}

#[test]
fn golden_conversation_about_keys() {
    conversation().check(
        r#"
        GET a              => $-1|
        SET a 1            => +OK|
        get a              => $1|1|
        SET a 2 NX         => $-1|
        SET b 2 nx get     => $-1|
        SET b 3 XX GET     => $1|2|
        SET b 4 GET IFEQ 9 => $1|3|
        SET b 4 IFEQ 3     => +OK|
        SET b 4 IFEQ 3     => $-1|
        SET c 1 XX         => $-1|
        SET b 4 NX XX      => -ERR syntax error|
        SET b 4 IFEQ 1 NX  => -ERR syntax error|
        SET b 5 IFEQ 4 IFEQ 9 => $-1|
        SET b 4 IFEQ       => -ERR syntax error|
        SET b 4 FOO        => -ERR syntax error|
        SET b 4 EXAT 10    => -ERR not supported: EXAT; a key expires by the cluster's own time: say how long it lasts, with EX or PX|
        SET b 4 EX 0       => -ERR invalid expire time in 'set' command|
        SET b 4 PX -1      => -ERR invalid expire time in 'set' command|
        SET b 4 EX 9223372036854775807 => -ERR invalid expire time in 'set' command|
        SET b 4 EX 9223372036854775808 => -ERR value is not an integer or out of range|
        SET b 4 EX 10 PX 5 => -ERR syntax error|
        SET b 4 EX 10 KEEPTTL => -ERR syntax error|
        SET b 4 EX         => -ERR syntax error|
        SET b 4 EX x FOO   => -ERR syntax error|
        SET b 4 PX 0 EX 10 => -ERR syntax error|
        SET b 4 PX 9223372036854775807 => -ERR invalid expire time in 'set' command|
        SET b 4 EX 9223372036854775 => -ERR invalid expire time in 'set' command|
        SET b 4 EX x EX 10 => +OK|
        TTL b              => :10|
        SET b 4            => +OK|
        SET b              => -ERR wrong number of arguments for 'set' command|
        SET "" ""          => +OK|
        GET ""             => $0||
        EXISTS a a b x     => :3|
        DBSIZE             => :3|
        KEYS *             => *3|$0||$1|a|$1|b|
        KEYS [b-z]         => *1|$1|b|
        SCAN 0 COUNT 100 MATCH a* => *2|$1|0|*1|$1|a|
        SCAN x             => -ERR invalid cursor|
        SCAN 0 COUNT -1    => -ERR syntax error|
        SCAN 0 COUNT 0     => -ERR syntax error|
        SCAN 0 COUNT       => -ERR syntax error|
        SCAN 0 COUNT x     => -ERR value is not an integer or out of range|
        DEL a a b x        => :2|
        DBSIZE             => :1|
        GET                => -ERR wrong number of arguments for 'get' command|
        Get a b            => -ERR wrong number of arguments for 'get' command|
        LPUSH a "b\r\nc"   => -ERR unknown command 'LPUSH', with args beginning with: 'a' 'b  c' |
        "#,
    );
}

#[test]
fn golden_conversation_about_the_connection() {
    conversation().check(
        r#"
        PING               => +PONG|
        PING hi            => $2|hi|
        PING a b           => -ERR wrong number of arguments for 'ping' command|
        ECHO hi            => $2|hi|
        SELECT 0           => +OK|
        SELECT 1           => -ERR DB index is out of range|
        SELECT -1          => -ERR DB index is out of range|
        SELECT x           => -ERR value is not an integer or out of range|
        AUTH secret        => -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?|
        AUTH default any   => +OK|
        AUTH root any      => -WRONGPASS invalid username-password pair or user is disabled.|
        AUTH a b c         => -ERR syntax error|
        CLIENT ID          => :42|
        CLIENT GETNAME     => $-1|
        CLIENT SETNAME me  => +OK|
        CLIENT GETNAME     => $2|me|
        CLIENT SETNAME "a b" => -ERR Client names cannot contain spaces, newlines or special characters.|
        CLIENT SETINFO LIB-NAME x => +OK|
        CLIENT SETINFO lib-ver 1  => +OK|
        CLIENT SETINFO color red  => -ERR Unrecognized option 'COLOR'|
        CLIENT SETINFO     => -ERR wrong number of arguments for 'client|setinfo' command|
        CLIENT NO-EVICT on => +OK|
        CLIENT REPLY ON    => +OK|
        CLIENT REPLY OFF   => -ERR not supported: every request is answered|
        CLIENT KILL x      => -ERR unknown subcommand 'KILL' of 'client'|
        CLIENT             => -ERR wrong number of arguments for 'client' command|
        HELLO 4            => -NOPROTO unsupported protocol version|
        HELLO x            => -ERR Protocol version is not an integer or out of range|
        HELLO 3 AUTH root x => -WRONGPASS invalid username-password pair or user is disabled.|
        HELLO 3 SETNAME    => -ERR Syntax error in HELLO option 'SETNAME'|
        HELLO              => *14|$6|server|$5|redis|$7|version|$5|7.4.0|$5|proto|:2|$2|id|:42|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|
        "#,
    );
}

#[test]
fn golden_conversation_in_resp3() {
    conversation().check(
        r#"
        HELLO 3 AUTH default any SETNAME me => %7|$6|server|$5|redis|$7|version|$5|7.4.0|$5|proto|:3|$2|id|:42|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|
        CLIENT GETNAME     => $2|me|
        GET a              => _|
        SET a 1 XX         => _|
        RAFT GET a         => _|
        CONFIG GET save*   => %1|$4|save|$0||
        HELLO 2            => *14|$6|server|$5|redis|$7|version|$5|7.4.0|$5|proto|:2|$2|id|:42|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|
        GET a              => $-1|
        "#,
    );
}

#[test]
fn golden_conversation_about_the_server() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        CONFIG GET SAVE append*only => *4|$10|appendonly|$3|yes|$4|save|$0||
        CONFIG GET nothing => *0|
        CONFIG GET         => -ERR wrong number of arguments for 'config|get' command|
        CONFIG SET a b     => -ERR unknown subcommand 'SET' of 'config'|
        COMMAND INFO get x => *2|*10|$3|get|:2|*2|+readonly|+fast|:1|:1|:1|*0|*0|*0|*0|*-1|
        COMMAND DOCS get x => *2|$3|get|*4|$7|summary|$18|The value of a key|$5|arity|:2|
        COMMAND NOTHING    => -ERR unknown subcommand 'NOTHING' of 'command'|
        "#,
    );
    let count = command::COMMANDS.len();
    assert_eq!(conversation.say("COMMAND COUNT"), format!(":{count}|"));
    assert!(conversation.say("COMMAND").starts_with(&format!("*{count}|*10|$3|get|")));
    assert!(conversation.say("COMMAND DOCS").starts_with(&format!("*{}|$3|get|", 2 * count)));
    assert!(conversation.say("COMMAND LIST").starts_with(&format!("*{count}|$3|get|")));
    let info = conversation.say("INFO");
    for line in [
        "# Server|redis_version:7.4.0|redis_mode:standalone|",
        "||# Replication|role:master|",
        "|raft_term:7|raft_leader:3|",
    ] {
        assert!(info.contains(line), "{line} in {info}");
    }
    let info = conversation.say("info RAFT");
    assert!(info.contains("|# Raft|raft_id:2|raft_label:B|raft_role:follower|") && !info.contains("redis_version"));
    assert_eq!(conversation.say("CLIENT INFO"), "$43|id=42 name= db=0 resp=2 lib-name= lib-ver=\n|");
}

#[test]
fn golden_conversation_about_raft() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        RAFT CAS k 1 2     => -MISSING no such key|
        SET k 1            => +OK|
        RAFT CAS k 2 3     => -DIFFERENT the value is 1|
        raft cas k 1 "\r\n" => +OK|
        RAFT CAS k 1 2     => -DIFFERENT the value is \r\n|
        RAFT GET k         => *2|$2|||:4|
        RAFT GET x         => *-1|
        SET k:1 1          => +OK|
        SET k:2 2          => +OK|
        RAFT LIST k:       => *2|*3|$3|k:1|$1|1|:6|*3|$3|k:2|$1|2|:7|
        RAFT LIST k: k:1   => *1|*3|$3|k:2|$1|2|:7|
        RAFT LIST k: "" 1  => *1|*3|$3|k:1|$1|1|:6|
        RAFT LIST k: "" x  => -ERR value is not an integer or out of range|
        RAFT LEADER        => *3|:3|$1|C|:7|
        RAFT DEBUG         => +OK|
        RAFT TRANSFER 3    => +OK|
        RAFT TRANSFER C    => +OK|
        RAFT TRANSFER      => -ERR no node can take over|
        RAFT TRANSFER 9    => -ERR no such node; there are 2 (B), 3 (C)|
        RAFT               => -ERR wrong number of arguments for 'raft' command|
        RAFT GET           => -ERR wrong number of arguments for 'raft|get' command|
        RAFT ONLY          => -ERR wrong number of arguments for 'raft|only' command|
        RAFT MAGIC         => -ERR unknown subcommand 'MAGIC' of 'raft'|
        RAFT ONLY GET k:1  => -NOTREADY this node is not the leader|
        RAFT ONLY RAFT ONLY RAFT CAS k:1 1 2 => -NOTREADY this node is not the leader|
        RAFT ONLY PING     => +PONG|
        RAFT ONLY          => -ERR wrong number of arguments for 'raft|only' command|
        "#,
    );
    let json = |reply: String| -> serde_json::Value {
        let mut lines = reply.splitn(3, '|');
        assert!(lines.next().unwrap().starts_with('$'));
        serde_json::from_str(lines.next().unwrap()).unwrap()
    };
    let status = json(conversation.say("RAFT STATUS"));
    assert_eq!((&status["label"], &status["term"], &status["leader"]), (&"B".into(), &7.into(), &3.into()));
    let log = json(conversation.say("RAFT LOG 5 10"));
    assert_eq!((&log[0]["index"], &log[0]["term"]), (&5.into(), &10.into()));
    let log = json(conversation.say("RAFT LOG 5 5000"));
    assert_eq!(log[0]["term"], 1000, "the number of lines is limited");
    conversation.say(r#"SET "\xff" "\xfe""#);
    let state = json(conversation.say("RAFT STATE"));
    let kv = serde_json::json!({ "k": "\r\n", "k:1": "1", "k:2": "2", r"\xff": { "base64": "/g==" } });
    assert_eq!((&state["keys"], &state["applied"], &state["more"]), (&4.into(), &8.into(), &false.into()));
    assert_eq!(state["kv"], kv);
    assert_eq!(state["digest"], format!("{:016x}", conversation.node.machine.digest()));
    conversation.node.leader = None;
    assert_eq!(conversation.say("RAFT LEADER"), "-NOTREADY no leader known|");
}

#[test]
fn golden_conversation_about_the_queue() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        RAFT PUT jobs a    => -NOTOPIC there is no such topic|
        RAFT TOPIC CREATE jobs => +OK|
        RAFT TOPIC CREATE jobs => -EXISTS there is such a topic; it stays as it is|
        raft topic create small maxmessages 2 MAXBYTES 5 MAXDELIVERIES 1 => +OK|
        RAFT TOPIC CREATE x MAXBYTES => -ERR syntax error|
        RAFT TOPIC CREATE x MAXBYTES y => -ERR value is not an integer or out of range|
        RAFT TOPIC CREATE x MAXDELIVERIES 4294967296 => -ERR MAXDELIVERIES is out of range|
        RAFT TOPIC CREATE x COLOR 5 => -ERR syntax error|
        RAFT TOPIC LIST    => *2|*2|:2|$4|jobs|*2|:4|$5|small|
        RAFT TOPIC LIST 2  => *1|*2|:4|$5|small|
        RAFT TOPIC LIST 0 1 => *1|*2|:2|$4|jobs|
        RAFT TOPIC LIST 4  => *0|
        RAFT TOPIC LIST x  => -ERR value is not an integer or out of range|
        RAFT TOPIC MOVE jobs => -ERR unknown subcommand 'MOVE' of 'raft|topic'|
        RAFT TOPIC         => -ERR wrong number of arguments for 'raft|topic' command|
        RAFT TOPIC DELETE  => -ERR wrong number of arguments for 'raft|topic|delete' command|
        RAFT PUT small ab  => :1|
        RAFT PUT small abcd => -FULL the topic takes at most 2 messages of 5 bytes together: take some, or try later|
        RAFT PUT small ""  => :2|
        RAFT PUT small ""  => -FULL the topic takes at most 2 messages of 5 bytes together: take some, or try later|
        RAFT LENGTH small  => :2|
        RAFT TOPIC PURGE small => :2|
        RAFT TOPIC INFO small => *14|$8|messages|:0|$6|leased|:0|$5|bytes|:0|$9|oldest_ms|$-1|$11|maxmessages|:2|$8|maxbytes|:5|$13|maxdeliveries|:1|
        RAFT TAKE jobs     => $-1|
        RAFT TAKE jobs 3   => *0|
        RAFT RECEIVE jobs  => *0|
        RAFT PUT jobs a    => :1|
        RAFT PUT jobs b    => :2|
        RAFT PUT jobs c    => :3|
        RAFT PUT jobs d    => :4|
        RAFT PEEK jobs     => *2|:2|*1|*2|:1|$1|a|
        RAFT PEEK jobs AFTER 2 MAX 5 => *2|:2|*2|*2|:3|$1|c|*2|:4|$1|d|
        RAFT PEEK jobs after 4 => *2|:2|*0|
        RAFT PEEK jobs MAX => -ERR syntax error|
        RAFT PEEK nothing  => -NOTOPIC there is no such topic|
        RAFT PUT jobs      => -ERR wrong number of arguments for 'raft|put' command|
        RAFT TAKE jobs     => $1|a|
        RAFT TAKE jobs x   => -ERR value is not an integer or out of range|
        RAFT TAKE nothing  => -NOTOPIC there is no such topic|
        RAFT TOPIC DELETE nothing => -NOTOPIC there is no such topic|
        RAFT TOPIC INFO nothing => -NOTOPIC there is no such topic|
        RAFT LENGTH nothing => -NOTOPIC there is no such topic|
        "#,
    );
    // Named by the log index of the command that receives.
    let lease = conversation.node.index + 1;
    conversation.check(&format!(
        r#"
        RAFT RECEIVE jobs MAX 2 LEASE 1000 => *2|*4|:2|$1|b|:1|:{lease}|*4|:3|$1|c|:1|:{lease}|
        RAFT RECEIVE jobs MAX => -ERR syntax error|
        RAFT RECEIVE jobs WAIT 1 => -ERR syntax error|
        RAFT RECEIVE jobs LEASE 0 => -ERR a lease lasts 1 to 43200000 ms, not 0|
        RAFT LENGTH jobs   => :3|
        RAFT ACK jobs 2 {lease} => +OK|
        RAFT ACK jobs 2 {lease} => -STALE there is no such lease: it has expired or was settled, and others may have the message|
        RAFT EXTEND jobs 3 {lease} 5000 => +OK|
        RAFT EXTEND jobs 3 {lease} => -ERR wrong number of arguments for 'raft|extend' command|
        RAFT ACK jobs x {lease} => -ERR value is not an integer or out of range|
        RAFT TAKE jobs 9   => *1|$1|d|
        "#
    ));
    conversation.node.time = LogTime(4_999);
    conversation.check("RAFT TAKE jobs => $-1|");
    conversation.node.time = LogTime(5_000);
    conversation.check(&format!(
        r#"
        RAFT NACK jobs 3 {lease} => -STALE there is no such lease: it has expired or was settled, and others may have the message|
        RAFT TAKE jobs     => $1|c|
        RAFT TOPIC DELETE jobs => +OK|
        RAFT TOPIC LIST    => *1|*2|:4|$5|small|
        HELLO 3            => %7|$6|server|$5|redis|$7|version|$5|7.4.0|$5|proto|:3|$2|id|:42|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|
        RAFT TOPIC INFO small => %7|$8|messages|:0|$6|leased|:0|$5|bytes|:0|$9|oldest_ms|_|$11|maxmessages|:2|$8|maxbytes|:5|$13|maxdeliveries|:1|
        "#
    ));
}

#[test]
fn golden_conversation_in_a_session() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        RAFT SESSION       => :1|
        RAFT DO 1 1 SET a 1 => +OK|
        RAFT DO 1 2 DEL a  => :1|
        raft do 1 1 set a 1 => +OK|
        RAFT DO 1 2 DEL a  => :1|
        GET a              => $-1|
        RAFT DO 1 3 GET a  => $-1|
        SET a 2            => +OK|
        RAFT DO 1 3 GET a  => $-1|
        RAFT DO 1 4 GET a  => $1|2|
        RAFT DO 1 5 RAFT GET a => *2|$1|2|:7|
        RAFT DO 1 6 RAFT CAS a 1 2 => -DIFFERENT the value is 2|
        RAFT DO 1 7 SET a 3 GET => $1|2|
        RAFT DO 1 7 SET a 3 GET => $1|2|
        RAFT DO 1 8 EXISTS a b => :1|
        RAFT DO 1 9 RAFT LIST "" => *1|*3|$1|a|$1|3|:12|
        RAFT DO 1 10 DBSIZE => :1|
        RAFT DO 1 10 GET a => -ERR the session has used this number for another command; this one had no effect|
        RAFT DO 1 1 DEL a  => -ERR the session has used this number for another command; this one had no effect|
        RAFT DO 1 11 RAFT TOPIC CREATE t => +OK|
        RAFT DO 1 12 RAFT PUT t m => :1|
        RAFT DO 1 12 RAFT PUT t m => :1|
        RAFT DO 1 13 RAFT LENGTH t => :1|
        RAFT DO 1 14 RAFT RECEIVE t => *1|*4|:1|$1|m|:1|:23|
        RAFT DO 1 14 RAFT RECEIVE t => *1|*4|:1|$1|m|:1|:23|
        RAFT DO 1 15 RAFT NACK t 1 23 => +OK|
        RAFT DO 1 15 RAFT NACK t 1 23 => +OK|
        RAFT DO 1 16 RAFT TAKE t => $1|m|
        RAFT DO 1 17 RAFT TAKE t => $-1|
        RAFT DO 1 16 RAFT TAKE t => $1|m|
        RAFT DO 1 18 RAFT TAKE x => -NOTOPIC there is no such topic|
        RAFT DO 1 19 RAFT TOPIC LIST => *1|*2|:19|$1|t|
        RAFT ONLY RAFT DO 1 20 SET a 1 => -NOTREADY this node is not the leader|
        RAFT DO            => -ERR wrong number of arguments for 'raft|do' command|
        RAFT DO 1 20       => -ERR wrong number of arguments for 'raft|do' command|
        RAFT SESSION 1     => -ERR wrong number of arguments for 'raft|session' command|
        RAFT DO x 20 SET a 1 => -ERR value is not an integer or out of range|
        RAFT DO 1 0 SET a 1 => -ERR sequence numbers of a session begin with 1|
        RAFT DO 1 20 SET a => -ERR wrong number of arguments for 'set' command|
        RAFT DO 1 20 KEYS * => -ERR KEYS and SCAN cannot be run in a session: use RAFT LIST, or ask outside of it|
        "#,
    );
    let index = conversation.node.index;
    for command in [
        "PING",
        "QUIT",
        "HELLO 3",
        "CLIENT SETNAME x",
        "INFO",
        "NOTHING",
        "RAFT STATUS",
        "RAFT STATE",
        "RAFT SESSION",
        "RAFT TRANSFER 3",
        "RAFT ONLY SET a 1",
        "RAFT DO 1 21 SET a 1",
    ] {
        conversation.check(&format!(
            "RAFT DO 1 20 {command} => -ERR only commands on keys, topics and messages can be run in a session|"
        ));
    }
    assert_eq!(conversation.node.index, index, "none of these reached the log");
    conversation.check("CLIENT GETNAME => $-1|");
}

#[test]
fn a_session_that_has_ended_and_a_number_that_is_too_old_say_that_nobody_knows() {
    let mut conversation = conversation();
    conversation.check("RAFT SESSION => :1|");
    for sequence in 1..=SESSION_ANSWERS + 1 {
        conversation.check(&format!("RAFT DO 1 {sequence} RAFT CAS a 1 2 => -MISSING no such key|"));
    }
    let outdated = "-OUTDATED the session's answers to such low numbers are gone. The command had no effect now; whether \
                    an earlier attempt had is unknown: look, and go on with a higher number|";
    let ended = "-NOSESSION there is no such session (any more). The command had no effect now; whether an earlier \
                 attempt had is unknown: look, and open another session|";
    conversation.check(&format!("RAFT DO 1 1 SET a 1 => {outdated}"));
    conversation.check(
        "RAFT DO 1 2 SET a 1 => -ERR the session has used this number for another command; this one had no effect|",
    );
    conversation.check(&format!("RAFT DO 2 1 SET a 1 => {ended}"));
    conversation.node.time = LogTime(SESSION_MS);
    conversation.check(&format!("RAFT DO 1 300 SET a 1 => {ended}"));
    conversation.check("GET a => $-1|");
}

#[test]
fn sessions_within_sessions_without_end_are_refused() {
    let mut conversation = conversation_with(Duration::from_secs(3600), 64 << 20);
    let depth = 200_000;
    let words: Vec<&str> = ["RAFT", "DO", "1", "1"].into_iter().cycle().take(4 * depth).chain(["PING"]).collect();
    let mut request = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    assert_eq!(conversation.receive(request), Ok(Flow::Continue));
    assert!(conversation.screen.take().starts_with("-ERR only commands on keys"));
}

#[test]
fn a_failure_is_told_in_words_that_no_client_retries_by_itself() {
    let mut conversation = conversation();
    let failures = [
        (Failure::NotReady("no leader".into()), "-NOTREADY no leader|"),
        (Failure::Overloaded("too much".into()), "-OVERLOADED too much|"),
        (Failure::Refused("no\r\n+OK".into()), "-ERR no  +OK|"),
        (
            Failure::Unknown("outcome unknown: the leader changed".into()),
            "-UNKNOWN outcome unknown: the leader changed|",
        ),
    ];
    for (failure, expected) in failures {
        assert_eq!(conversation.receive("SET a 1\r\n"), Ok(Flow::Continue), "the connection stays open");
        for request in conversation.node.requests() {
            request.reply.send(Err(failure.clone())).flush();
        }
        assert_eq!(conversation.screen.take(), expected);
    }
    for garbage in [Response::Done, Response::Answer("x".into()), Response::Answer(Answer::Missing.encode())] {
        assert_eq!(conversation.receive("SET a 1\r\n"), Ok(Flow::Continue));
        for request in conversation.node.requests() {
            request.reply.send(Ok(garbage.clone())).flush();
        }
        assert!(conversation.screen.take().starts_with("-UNKNOWN outcome unknown: the answer cannot be read"));
    }
}

#[test]
fn answers_leave_in_order_though_they_come_backwards_from_another_thread() {
    let mut conversation = conversation();
    let mut expected = String::new();
    let mut input = String::new();
    for n in 0..200 {
        input.push_str(&format!("EXISTS {n}\r\nPING {n}\r\n"));
        expected.push_str(&format!(":{n}|${}|{n}|", n.to_string().len()));
    }
    assert_eq!(conversation.receive(input), Ok(Flow::Continue));
    assert_eq!(conversation.screen.take(), "", "nothing overtakes the first request");
    let requests = conversation.node.requests();
    thread::scope(|scope| {
        scope.spawn(|| {
            for (n, request) in requests.into_iter().enumerate().rev() {
                request.reply.send(Ok(Response::Answer(Answer::Count(n as u64).encode()))).flush();
            }
        });
    });
    assert_eq!(conversation.screen.take(), expected);
}

#[test]
fn answers_are_in_the_protocol_in_force_when_the_request_was_sent() {
    let mut conversation = conversation();
    let flow = conversation.receive("GET a\r\nHELLO 3\r\nGET a\r\nHELLO 2\r\nGET a\r\n");
    assert_eq!(flow, Ok(Flow::Continue));
    conversation.node.work();
    let reply = conversation.screen.take();
    assert!(reply.starts_with("$-1|%7|") && reply.contains("|_|*14|") && reply.ends_with("|$-1|"), "{reply}");
}

#[test]
fn a_pipeline_through_a_node_of_its_own_thread_keeps_its_order() {
    let Conversation { mut session, screen, mut node, handle, .. } = conversation();
    let worker = thread::spawn(move || {
        while let Ok(request) = node.inboxes.clients.recv() {
            let outcome = node.outcome(&request);
            request.reply.send(outcome).flush();
        }
    });
    let (mut input, mut expected) = (BytesMut::new(), String::new());
    for n in 0..3000 {
        input.extend_from_slice(format!("SET k {n}\r\nGET k\r\nECHO {n}\r\n").as_bytes());
        let bulk = format!("${}|{n}|", n.to_string().len());
        expected.push_str(&format!("+OK|{bulk}{bulk}"));
    }
    input.extend_from_slice(b"PING\r\n");
    expected.push_str("+PONG|");
    while session.receive(&mut input) == Ok(Flow::Pause) {
        thread::yield_now();
    }
    assert_eq!(screen.wait_for("+PONG\r\n"), expected);
    drop((session, handle));
    worker.join().unwrap();
}

#[test]
fn however_the_bytes_arrive_the_answers_are_the_same() {
    let pipeline = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\n1\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\nPING\r\n\r\nHELLO 3\r\nget b\n";
    let answers = |pieces: &[&[u8]]| {
        let mut conversation = conversation();
        for piece in pieces {
            assert_eq!(conversation.receive(piece), Ok(Flow::Continue));
            conversation.node.work();
        }
        assert!(conversation.input.is_empty());
        conversation.screen.take()
    };
    let expected = answers(&[pipeline]);
    assert!(expected.starts_with("+OK|$3|1||+PONG|%7|") && expected.ends_with("|_|"), "{expected}");
    assert_eq!(answers(&pipeline.chunks(1).collect::<Vec<_>>()), expected);
    for split in 0..pipeline.len() {
        let (front, back) = pipeline.split_at(split);
        assert_eq!(answers(&[front, back]), expected, "split at {split}");
    }
}

#[test]
fn a_request_that_is_too_large_is_refused_and_the_next_one_served() {
    let mut conversation = conversation();
    let head = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n";
    let fits = MAX_REQUEST_BYTES as usize - head.len() - "$9999\r\n\r\n".len();
    for (length, expected) in [
        (fits, "+OK|+PONG|"),
        (fits + 1, "-ERR this request has 10001 bytes, more than MaxRequestBytes = 10000|+PONG|"),
    ] {
        let request = format!("{head}${length}\r\n{}\r\nPING\r\n", "x".repeat(length));
        assert_eq!(conversation.receive(request), Ok(Flow::Continue));
        conversation.node.work();
        assert_eq!(conversation.screen.take(), expected);
    }
}

#[test]
fn quit_and_broken_input_close_once_all_is_answered() {
    let cases = [
        ("QUIT\r\nSET b 2\r\n", "+OK|", Close::Requested),
        (
            "*1\r\n$-5\r\n",
            "-ERR Protocol error: invalid bulk length|",
            Close::Broken("protocol error: invalid bulk length".into()),
        ),
    ];
    for (input, last, close) in cases {
        let mut conversation = conversation();
        assert_eq!(conversation.receive(format!("SET a 1\r\n{input}")), Ok(Flow::Pause));
        assert_eq!(conversation.receive("GET a\r\n"), Ok(Flow::Pause), "what follows is not looked at");
        assert_eq!(conversation.screen.take(), "");
        conversation.node.work();
        assert_eq!(conversation.screen.take(), format!("+OK|{last}"));
        assert_eq!(conversation.receive(""), Err(close));
        assert_eq!(conversation.node.index, 1, "nothing after the end took effect");
    }
}

#[test]
fn too_many_unanswered_requests_pause_the_connection() {
    let mut conversation = conversation();
    assert_eq!(conversation.receive("EXISTS a\r\n".repeat(MAX_WAITING + 1)), Ok(Flow::Pause));
    assert_eq!(conversation.node.inboxes.clients.len(), MAX_WAITING);
    conversation.node.work();
    assert_eq!(conversation.receive(""), Ok(Flow::Continue));
    conversation.node.work();
    assert_eq!(conversation.screen.take(), ":0|".repeat(MAX_WAITING + 1));
    let lists = MAX_WAITING_BYTES / MAX_ANSWER_BYTES;
    assert_eq!(conversation.receive("KEYS *\r\n".repeat(lists + 1)), Ok(Flow::Pause));
    assert_eq!(conversation.node.inboxes.clients.len(), lists);
}

#[test]
fn only_a_pipeline_of_writes_is_acknowledged_before_it_is_answered() {
    let mut conversation = conversation();
    for (requests, acknowledged) in
        [("GET a\r\nGET a\r\nGET a\r\n", false), ("SET a 1\r\n", false), ("SET a 2\r\n", true)]
    {
        conversation.receive(requests).unwrap();
        assert_eq!(conversation.session.wants_acknowledgement(), acknowledged, "after {requests}");
    }
    conversation.node.work();
    assert!(!conversation.session.wants_acknowledgement(), "after the answers");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut conversation = conversation();
    *conversation.screen.queued.lock().unwrap() = MAX_QUEUED_BYTES;
    assert_eq!(conversation.receive("PING\r\n"), Ok(Flow::Pause));
    *conversation.screen.queued.lock().unwrap() = 0;
    assert_eq!(conversation.receive(""), Ok(Flow::Continue));
    assert_eq!(conversation.screen.take(), "+PONG|");
    // Answers that can leave make room by leaving.
    let long = "x".repeat(9000);
    let echoes = MAX_QUEUED_BYTES / long.len() + 10;
    assert_eq!(conversation.receive(format!("ECHO {long}\r\n").repeat(echoes)), Ok(Flow::Continue));
    assert_eq!(conversation.screen.take().len(), (long.len() + "$9000||".len()) * echoes);
    // Those that cannot, do not.
    assert_eq!(conversation.receive("GET a\r\n"), Ok(Flow::Continue));
    assert_eq!(conversation.receive(format!("ECHO {long}\r\n").repeat(echoes)), Ok(Flow::Pause));
}

#[test]
fn as_many_values_are_asked_for_as_there_is_room_if_they_are_as_large_as_those_before() {
    let most = 1 << 20;
    let mut conversation = conversation_with(Duration::from_secs(3600), most as u64);
    assert_eq!(conversation.receive("GET a\r\n".repeat(3 * MAX_WAITING)), Ok(Flow::Pause));
    let asked = conversation.node.inboxes.clients.len();
    assert!(
        (MAX_WAITING_BYTES / most..MAX_WAITING_BYTES / most + 2).contains(&asked),
        "the largest there may be: {asked}"
    );
    let mut rounds = 0;
    while conversation.receive("") == Ok(Flow::Pause) {
        conversation.node.work();
        rounds += 1;
    }
    conversation.node.work();
    assert!(rounds < 12, "small values let it go faster and faster: {rounds}");
    assert_eq!(conversation.screen.take(), "$-1|".repeat(3 * MAX_WAITING));
}

#[test]
fn values_that_turn_out_larger_than_expected_are_not_piled_up() {
    let mut conversation = conversation();
    let large = "x".repeat(9_000);
    conversation.say(&format!("SET large {large}"));
    for _ in 0..200 {
        conversation.say("GET small");
    }
    assert_eq!(
        conversation.receive("GET large\r\n".repeat(200) + "SET small 1 GET\r\nGET small\r\n"),
        Ok(Flow::Continue)
    );
    *conversation.screen.queued.lock().unwrap() = MAX_UNREAD_BYTES - large.len();
    conversation.node.work();
    let answers = conversation.screen.take();
    assert_eq!(answers.matches("-OVERLOADED 48 MiB of answers wait").count(), 200);
    assert!(answers.ends_with("|$-1|$1|1|"), "what is small, or has changed something, is answered as ever");
}

struct Nobody;

impl ReplySink for Nobody {
    fn reply(&self, _: u64, _: Outcome) {}
}

/// Fills the node's inbox to the last place.
fn fill(handle: &NodeHandle) {
    let sink: Arc<dyn ReplySink> = Arc::new(Nobody);
    let request = || ClientRequest {
        connection: 1,
        operation: Operation::Status,
        forward: true,
        reply: Reply::new(sink.clone(), 0),
    };
    while handle.request(request()).is_ok() {}
}

#[test]
fn a_full_inbox_pauses_the_connection_and_loses_nothing() {
    let mut conversation = conversation();
    fill(&conversation.handle);
    assert_eq!(conversation.receive("SET a 1\r\nPING\r\nGET a\r\n"), Ok(Flow::Pause));
    assert_eq!(conversation.receive(""), Ok(Flow::Pause));
    assert_eq!(conversation.screen.take(), "");
    conversation.node.work();
    assert_eq!(conversation.receive(""), Ok(Flow::Continue));
    conversation.node.work();
    assert_eq!(conversation.screen.take(), "+OK|+PONG|$1|1|");
}

#[test]
fn a_full_inbox_is_an_overload_in_the_end() {
    let mut conversation = conversation_with(Duration::ZERO, MAX_REQUEST_BYTES);
    fill(&conversation.handle);
    assert_eq!(conversation.receive("SET a 1\r\nPING\r\n"), Ok(Flow::Continue));
    let reply = conversation.screen.take();
    assert!(reply.starts_with("-OVERLOADED ") && reply.ends_with("|+PONG|"), "{reply}");
    conversation.node.work();
    assert_eq!(conversation.node.index, 0, "a definite error: it never took effect");
}

#[test]
fn a_node_that_has_stopped_says_so() {
    let Conversation { mut session, screen, node, .. } = conversation();
    drop(node);
    assert_eq!(session.receive(&mut BytesMut::from("GET a\r\n")), Ok(Flow::Continue));
    assert_eq!(screen.take(), "-NOTREADY this node has stopped|");
}

#[test]
fn answers_for_a_connection_that_is_gone_are_ignored() {
    let mut conversation = conversation();
    assert_eq!(conversation.receive("SET a 1\r\nGET a\r\n"), Ok(Flow::Continue));
    let Conversation { session, screen, mut node, .. } = conversation;
    drop(session);
    assert_eq!(Arc::strong_count(&screen), 1, "a waiting request does not keep the connection");
    node.work();
    assert_eq!(screen.take(), "");
}

#[test]
fn a_second_answer_to_a_request_is_ignored() {
    let mut conversation = conversation();
    assert_eq!(conversation.receive("GET a\r\nGET a\r\n"), Ok(Flow::Continue));
    let slots = conversation.session.slots.clone();
    let outcome = || Ok(Response::Answer(Answer::Value(None).encode()));
    for slot in [1, 1, 0, 0, 7, u64::MAX] {
        slots.reply(slot, outcome());
    }
    slots.flush();
    assert_eq!(conversation.screen.take(), "$-1|$-1|");
    assert!(slots.is_idle() && slots.has_room());
}

#[test]
fn what_a_connection_remembers_does_not_share_its_input() {
    let mut conversation = conversation();
    conversation.say("CLIENT SETNAME me");
    conversation
        .receive("*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$2\r\nme\r\n*2\r\n$4\r\nINFO\r\n$3\r\nall\r\n")
        .unwrap();
    assert!(conversation.input.is_empty());
    assert!(conversation.input.try_reclaim(32), "nothing holds on to the buffer");
}

#[test]
fn no_change_of_one_byte_makes_it_panic() {
    let pipeline = b"*4\r\n$4\r\nRAFT\r\n$4\r\nLIST\r\n$1\r\na\r\n$1\r\n1\r\n*4\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n\
        $2\r\nNX\r\nHELLO 3 AUTH default x SETNAME y\r\n";
    let Conversation { session, screen, mut node, handle, .. } = conversation();
    let options = Arc::new(session.client.options().clone());
    for position in 0..pipeline.len() {
        for other in 0..=u8::MAX {
            let mut input = BytesMut::from(&pipeline[..]);
            input[position] = other;
            let mut session = RespSession::new(options.clone(), handle.clone(), 1, screen.clone());
            let _ = session.receive(&mut input);
            node.work();
        }
    }
}

proptest! {
    #[test]
    fn no_words_make_it_panic(command in prop::sample::select(command::COMMANDS.iter().map(|spec| spec.name).collect::<Vec<_>>()),
        words in prop::collection::vec(prop::sample::select(vec![
            "ONLY", "GET", "NX", "IFEQ", "0", "COUNT", "MATCH", "-1", "99999999999999999999", "3", "AUTH", "SETINFO", "LIST",
            "LOG", "INFO", "DOCS", "STATE", "CAS", "TRANSFER", "*", "[", "\"\\xff\"", "''", "RAFT", "DO", "SESSION", "TOPIC",
            "CREATE", "PUT", "TAKE", "RECEIVE", "LEASE", "MAX", "ACK", "EXTEND", "LENGTH", "DELETE",
        ]), 0..7),
    ) {
        prop_assume!(command != "quit");
        let mut conversation = conversation();
        let reply = conversation.receive(format!("{command} {}\r\n", words.join(" ")));
        let may_wait = command == "blpop";
        prop_assert!(reply == Ok(Flow::Continue) || (may_wait && matches!(reply, Ok(Flow::Until(_)))), "{:?}", reply);
        conversation.node.work();
        let (_, sent) = &*conversation.screen.bytes.lock().unwrap();
        let is_answered = redis::parse_redis_value(sent).is_ok();
        prop_assert!(is_answered || (may_wait && sent.is_empty()), "{}", sent.escape_ascii());
    }
}
