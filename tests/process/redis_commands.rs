//! What programs written for Redis rely on, with the `redis` crate, with `redis-cli` and with `redis-benchmark`: numbers,
//! expiry, transactions, lists, and clients that wait.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Commands, Connection, RedisResult, Value};
use serde_json::json;

use crate::attack::descriptors;
use crate::support::cluster::{Cluster, PATIENCE, rounds, wait_until};
use crate::support::http::Http;

/// What a node answers; an error as its text.
fn run<T: redis::FromRedisValue>(node: &mut Connection, command: &str) -> Result<T, String> {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap_or_default());
    for word in words {
        cmd.arg(word);
    }
    cmd.query(node).map_err(|error| error.to_string())
}

fn ok<T: redis::FromRedisValue>(node: &mut Connection, command: &str) -> T {
    run(node, command).unwrap_or_else(|error| panic!("{command}: {error}"))
}

fn error(node: &mut Connection, command: &str) -> String {
    run::<Value>(node, command).expect_err(command)
}

#[test]
fn numbers_and_values_at_every_node() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let ids = cluster.ids();
    let mut nodes: Vec<Connection> = ids.iter().map(|id| cluster.redis(*id)).collect();
    for (turn, node) in nodes.iter_mut().enumerate() {
        let turn = turn as i64;
        assert_eq!(node.incr::<_, _, i64>("n", 5).expect("INCRBY"), 5 + 3 * turn);
        assert_eq!(ok::<i64>(node, "INCR n"), 6 + 3 * turn);
        assert_eq!(ok::<i64>(node, "DECRBY n 3"), 3 + 3 * turn);
        assert_eq!(node.append::<_, _, u64>("text", "ab").expect("APPEND"), 2 * (turn as u64 + 1));
        let pairs = [(format!("a{turn}"), "1"), (format!("b{turn}"), "2")];
        let _: () = node.mset(&pairs).expect("MSET");
        assert!(!node.mset_nx::<_, _, bool>(&pairs).expect("MSETNX"));
        let values: Vec<Option<String>> = node.mget(&[&pairs[0].0, "none", &pairs[1].0]).expect("MGET");
        assert_eq!(values, [Some("1".into()), None, Some("2".into())]);
        assert!(!node.set_nx::<_, _, bool>("n", 1).expect("SETNX"));
        assert_eq!(node.get_del::<_, Option<String>>(&pairs[0].0).expect("GETDEL").as_deref(), Some("1"));
        assert!(error(node, "INCR text").contains("value is not an integer or out of range"));
        assert_eq!(ok::<String>(node, "TYPE text"), "string");
        assert_eq!(node.strlen::<_, u64>("text").expect("STRLEN"), 2 * (turn as u64 + 1));
    }
    let node = &mut nodes[0];
    let _: () = node.set("n", i64::MAX).expect("SET");
    assert!(error(node, "INCR n").contains("increment or decrement would overflow"));
    assert!(error(node, "EXPIRE n 9223372036854775807").contains("invalid expire time in 'expire' command"));
    assert!(error(node, "SET n 1 PX 9223372036854775808").contains("not an integer or out of range"));
    assert_eq!(node.get::<_, i64>("n").expect("GET"), i64::MAX);
}

#[test]
fn keys_expire_by_the_clusters_time_though_leaders_end() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let mut node = cluster.redis(follower);
    let began = Instant::now();
    ok::<String>(&mut node, "SET short v PX 1500");
    ok::<String>(&mut node, "SET long v EX 1000");
    ok::<String>(&mut node, "SET lasting v");
    assert!((1..=1500).contains(&node.pttl::<_, i64>("short").expect("PTTL")));
    assert!((998..=1000).contains(&node.ttl::<_, i64>("long").expect("TTL")));
    assert_eq!(node.ttl::<_, i64>("lasting").expect("TTL"), -1);
    assert_eq!(node.ttl::<_, i64>("none").expect("TTL"), -2);
    assert!(node.expire::<_, bool>("lasting", 500).expect("EXPIRE"));
    assert!(node.persist::<_, bool>("lasting").expect("PERSIST"));
    // The time goes on under the next leader, which writes what makes it go on though no client does.
    cluster.kill(leader);
    cluster.wait_for_leader();
    wait_until("the key expires", || (!node.exists::<_, bool>("short").ok()?).then_some(()));
    assert!(began.elapsed() >= Duration::from_millis(1400), "not before its time: {:?}", began.elapsed());
    assert_eq!(ok::<u64>(&mut node, "DBSIZE"), 2);
    cluster.spawn(leader);
    cluster.wait_until_caught_up();
    let digests: Vec<Value> = cluster.ids().iter().map(|id| digest(&mut cluster.redis(*id))).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// What a node says of its own state.
fn digest(node: &mut Connection) -> Value {
    let state: String = redis::cmd("RAFT").arg("STATE").query(node).expect("RAFT STATE");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    Value::SimpleString(state["digest"].to_string())
}

#[test]
fn a_transaction_is_seen_whole_and_what_it_watches_has_not_changed() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (mut node, mut other) = (cluster.redis(followers[0]), cluster.redis(followers[1]));

    let (sum, list): (i64, Vec<String>) = redis::pipe()
        .atomic()
        .set("k", 1)
        .ignore()
        .incr("k", 41)
        .rpush("q", &["a", "b"])
        .ignore()
        .lrange("q", 0, -1)
        .query(&mut node)
        .expect("MULTI");
    assert_eq!((sum, list), (42, vec!["a".to_owned(), "b".to_owned()]));

    // Somebody at another node changes what is watched.
    let mut exec = |node: &mut Connection, between: &dyn Fn(&mut Connection)| -> Option<Vec<i64>> {
        ok::<String>(node, "WATCH k none q");
        between(&mut other);
        ok::<String>(node, "MULTI");
        ok::<String>(node, "INCR k");
        ok(node, "EXEC")
    };
    assert_eq!(exec(&mut node, &|_| ()), Some(vec![43]));
    assert_eq!(exec(&mut node, &|other| other.incr("k", 0).expect("INCRBY")), None);
    let absent_again = |other: &mut Connection| {
        ok::<String>(other, "SET none 1");
        assert_eq!(ok::<u64>(other, "DEL none"), 1);
    };
    assert_eq!(exec(&mut node, &absent_again), None);
    assert_eq!(exec(&mut node, &|other| other.rpush("q", "c").expect("RPUSH")), None);
    assert_eq!(exec(&mut node, &|other| other.lpop("q", None).map(|_: String| ()).expect("LPOP")), None);
    assert_eq!(exec(&mut node, &|other| other.expire("k", 100).map(|_: bool| ()).expect("EXPIRE")), None);
    assert_eq!(exec(&mut node, &|other| ok(other, "SET unrelated 1")), Some(vec![44]));
    assert!(error(&mut node, "EXEC").contains("EXEC without MULTI"));
}

/// Adds one so often, reading and writing under `WATCH`; how often that had to be done again.
fn count_up(mut node: Connection, times: usize) -> usize {
    let mut again = 0;
    for _ in 0..times {
        loop {
            ok::<String>(&mut node, "WATCH counter");
            let count: Option<u64> = node.get("counter").expect("GET");
            ok::<String>(&mut node, "MULTI");
            ok::<String>(&mut node, &format!("SET counter {}", count.unwrap_or(0) + 1));
            if ok::<Option<Vec<String>>>(&mut node, "EXEC").is_some() {
                break;
            }
            again += 1;
        }
    }
    again
}

#[test]
fn counters_under_watch_lose_nothing_at_three_nodes_at_once() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let times = rounds(30, 2_000);
    // One alone never has to do it again: not even through a follower, which may be behind.
    for id in cluster.ids() {
        assert_eq!(count_up(cluster.redis(id), 20), 0, "at node {id}");
    }
    let again: usize = thread::scope(|scope| {
        let clients: Vec<_> = cluster.ids().into_iter().map(|id| cluster.redis(id)).collect();
        let clients = clients.into_iter().map(|client| scope.spawn(move || count_up(client, times)));
        clients.collect::<Vec<_>>().into_iter().map(|client| client.join().expect("it counts")).sum()
    });
    assert_eq!(cluster.redis(1).get::<_, usize>("counter").expect("GET"), 60 + 3 * times);
    assert!(again > 0, "they met each other");
}

#[test]
fn what_was_watched_under_one_leader_is_compared_under_the_next() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (mut same, mut changed) = (cluster.redis(followers[0]), cluster.redis(followers[1]));
    ok::<String>(&mut same, "SET k 1");
    for node in [&mut same, &mut changed] {
        ok::<String>(node, "WATCH none k");
    }
    let mut third = cluster.redis(followers[0]);
    cluster.kill(leader);
    cluster.wait_for_leader();
    for node in [&mut same, &mut changed] {
        ok::<String>(node, "MULTI");
        ok::<String>(node, "RPUSH done x");
    }
    assert_eq!(ok::<Option<Vec<u64>>>(&mut same, "EXEC"), Some(vec![1]));
    ok::<String>(&mut third, "SET none 1");
    assert_eq!(ok::<u64>(&mut third, "DEL none"), 1);
    assert_eq!(ok::<Option<Vec<u64>>>(&mut changed, "EXEC"), None);
    assert_eq!(third.llen::<_, u64>("done").expect("LLEN"), 1);
}

#[test]
fn a_list_is_a_topic() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let (mut node, mut other) = (cluster.redis(1), cluster.redis(2));
    assert_eq!(node.rpush::<_, _, u64>("q", &["a", "b", "c"]).expect("RPUSH"), 3);
    assert_eq!(other.llen::<_, u64>("q").expect("LLEN"), 3);
    let id: u64 = redis::cmd("RAFT").arg(&["PUT", "q", "d"]).query(&mut other).expect("RAFT PUT");
    assert_eq!(id, 4);
    let leased: Value = redis::cmd("RAFT").arg(&["RECEIVE", "q"]).query(&mut node).expect("RAFT RECEIVE");
    assert!(matches!(leased, Value::Array(leased) if leased.len() == 1));
    assert_eq!(other.lrange::<_, Vec<String>>("q", 0, -1).expect("LRANGE"), ["b", "c", "d"]);
    assert_eq!(node.lpop::<_, Option<String>>("q", None).expect("LPOP").as_deref(), Some("b"));
    let count = std::num::NonZeroUsize::new(5);
    assert_eq!(other.lpop::<_, Vec<String>>("q", count).expect("LPOP"), ["c", "d"]);
    assert_eq!(ok::<String>(&mut node, "TYPE q"), "none", "what is leased is not in the list");
    let topics: Vec<(u64, String)> =
        redis::cmd("RAFT").arg(&["TOPIC", "LIST"]).query(&mut node).expect("RAFT TOPIC LIST");
    assert_eq!(topics.len(), 1);
    for command in ["SET q v", "SETNX q v", "INCR q", "APPEND q v", "MSET q v"] {
        let error = run::<Value>(&mut node, command).expect_err(command);
        assert!(error.contains("WRONGTYPE") || error.contains("wrong kind of value"), "{command}: {error}");
    }
    // To REST the topic is still there, and the name no key's.
    let mut http = Http::connect(cluster.http_address(3));
    assert_eq!(http.get("/topic").json(), json!({"success": true, "topics": ["q"]}));
    assert_eq!(http.put("/kv/q", r#"{"value": "v"}"#).json()["error"], "wrong_type");
    assert_eq!(ok::<u64>(&mut node, "DEL q"), 0);
    assert_eq!(http.get("/topic").json(), json!({"success": true, "topics": []}));
    let _: () = node.set("q", "v").expect("the name is free");
    let refused: RedisResult<u64> = node.rpush("q", "x");
    assert_eq!(refused.expect_err("it is a string").code(), Some("WRONGTYPE"));
    assert_eq!(http.put("/topic", r#"{"topic": "q"}"#).shown(), (409, r#"{"success": false}"#, Some("wrong_type")));
}

/// A client that waits for a message of one of these lists: the node knows of it, since it has answered what came with that.
fn wait_for(cluster: &Cluster, id: u64, lists: &str) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.client_address(id)).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(format!("PING\r\nBLPOP {lists} 0\r\n").as_bytes()).expect("it is sent");
    assert_eq!(receive(&mut stream), "+PONG\r\n");
    stream
}

/// What comes next, all of it small enough to come at once.
fn receive(stream: &mut TcpStream) -> String {
    let mut answer = [0; 256];
    let length = stream.read(&mut answer).expect("an answer comes");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn one_of_a_thousand_who_wait_gets_the_message() {
    let cluster = Cluster::with(3, "ElectionTimeout = 500\nHeartbeatInterval = 50\nMaxConnections = 3000\n");
    cluster.wait_for_leader();
    let count = 1_000;
    let (sender, served) = mpsc::channel();
    let streams: Vec<TcpStream> = (0..count).map(|n| wait_for(&cluster, n as u64 % 3 + 1, "q")).collect();
    let mut readers = Vec::new();
    for (number, stream) in streams.iter().enumerate() {
        let (mut stream, sender) = (stream.try_clone().expect("a socket"), sender.clone());
        let reader = thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let mut answer = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut answer) {
                let text = String::from_utf8_lossy(&answer[..length]).into_owned();
                if sender.send((number, text)).is_err() {
                    return;
                }
            }
        });
        readers.push(reader.expect("a thread"));
    }
    let mut node = cluster.redis(1);
    let _: u64 = node.rpush("q", "one").expect("RPUSH");
    let (first, text) = served.recv_timeout(PATIENCE).expect("somebody is served");
    assert_eq!(text, "*2\r\n$1\r\nq\r\n$3\r\none\r\n");
    // All the rest are served by as many messages as there are clients, each once.
    let messages: Vec<String> = (1..count).map(|n| format!("m{n}")).collect();
    for some in messages.chunks(100) {
        let _: u64 = node.rpush("q", some).expect("RPUSH");
    }
    let mut seen = vec![first];
    let mut got = Vec::new();
    for _ in 1..count {
        let (number, text) = served.recv_timeout(PATIENCE).expect("everybody is served");
        seen.push(number);
        got.push(text.split("\r\n").nth(4).unwrap_or_default().to_owned());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..count).collect::<Vec<_>>(), "each of them once");
    got.sort();
    let mut expected = messages;
    expected.sort();
    assert_eq!(got, expected, "each message once");
    assert_eq!(node.llen::<_, u64>("q").expect("LLEN"), 0);
    for stream in &streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for reader in readers {
        reader.join().expect("it ends");
    }
}

#[test]
fn a_message_is_not_lost_to_clients_that_have_gone() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    for id in cluster.ids() {
        let list = format!("left{id}");
        let gone: Vec<TcpStream> = (0..20).map(|_| wait_for(&cluster, id, &list)).collect();
        let mut stays = wait_for(&cluster, id, &list);
        let all = descriptors(cluster.pid(id));
        drop(gone);
        wait_until("those who went are forgotten", || (descriptors(cluster.pid(id)) <= all - 20).then_some(()));
        let mut node = cluster.redis(leader);
        let _: u64 = node.rpush(&list, "m").expect("RPUSH");
        assert!(receive(&mut stays).contains("\r\nm\r\n"), "the one that stayed is served");
        assert_eq!(node.llen::<_, u64>(&list).expect("LLEN"), 0);
    }
}

#[test]
fn who_waits_is_served_through_a_change_of_leaders_and_in_time() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let mut node = cluster.redis(follower);
    let began = Instant::now();
    assert_eq!(ok::<Option<(String, String)>>(&mut node, "BLPOP none q 0.3"), None);
    assert!((300..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let mut waiting = wait_for(&cluster, follower, "none q");
    cluster.kill(leader);
    cluster.wait_for_leader();
    let _: u64 = node.rpush("q", "m").expect("RPUSH");
    assert_eq!(receive(&mut waiting), "*2\r\n$1\r\nq\r\n$1\r\nm\r\n");
    // A message whose lease ends is as good as a new one.
    ok::<u64>(&mut node, "RPUSH q n");
    let _: Value = redis::cmd("RAFT").arg(&["RECEIVE", "q", "LEASE", "300"]).query(&mut node).expect("RAFT RECEIVE");
    assert_eq!(ok::<Option<(String, String)>>(&mut node, "BLPOP q 10"), Some(("q".into(), "n".into())));
}

#[test]
fn a_transaction_without_end_and_a_huge_mset_harm_nobody() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let mut witness = cluster.redis(leader);
    let mut node = TcpStream::connect(cluster.client_address(leader)).expect("the port is open");
    let read = node.try_clone().expect("a socket");
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            node.write_all(b"MULTI\r\n").expect("it is sent");
            for _ in 0..1_000 {
                node.write_all(&b"INCR n\r\n".repeat(100)).expect("it is sent");
            }
            node.write_all(b"EXEC\r\nPING last\r\n").expect("it is sent");
            done.store(1, Ordering::SeqCst);
        });
        let mut answers = String::new();
        let mut reader = std::io::BufReader::new(&read);
        let mut bytes = [0; 64 << 10];
        while !answers.ends_with("$4\r\nlast\r\n") {
            let length = reader.read(&mut bytes).expect("answers come");
            assert!(length > 0, "the connection stays open");
            answers.push_str(std::str::from_utf8(&bytes[..length]).expect("text"));
        }
        assert_eq!(answers.matches("-ERR the transaction has more than MaxRequestBytes").count(), 1);
        assert_eq!(answers.matches("-EXECABORT ").count(), 1);
    });
    assert_eq!(done.load(Ordering::SeqCst), 1);
    assert_eq!(witness.get::<_, Option<String>>("n").expect("GET"), None);

    // As many as fit run, as one entry.
    let mut pipe = redis::pipe();
    pipe.atomic();
    for _ in 0..10_000 {
        pipe.incr("n", 1);
    }
    let counts: Vec<u64> = pipe.query(&mut witness).expect("MULTI");
    assert_eq!(counts, (1..=10_000).collect::<Vec<_>>());

    let many: Vec<(String, String)> = (0..20_000).map(|n| (format!("key:{n}"), n.to_string())).collect();
    let _: () = witness.mset(&many).expect("MSET");
    assert_eq!(
        witness.mget::<_, Vec<String>>(many.iter().map(|(key, _)| key).collect::<Vec<_>>()).expect("MGET").len(),
        20_000
    );
    let too_many: Vec<(String, String)> = (0..100_000).map(|n| (format!("key:{n}"), n.to_string())).collect();
    let refused: RedisResult<()> = witness.mset(&too_many);
    assert!(refused.expect_err("it is too large").to_string().contains("MaxRequestBytes"));
    assert_eq!(ok::<u64>(&mut witness, "DBSIZE"), 20_001);
    cluster.assert_all_run();
}

/// The program's path, if it is there.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: {program} is not installed (Debian: redis-tools)");
    }
    found
}

#[test]
fn redis_cli_is_at_home_at_every_node() {
    if !installed("redis-cli") {
        return;
    }
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    for id in cluster.ids() {
        let address = cluster.client_address(id);
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let cli = |words: &str| {
            let words = words.split(' ');
            let output = Command::new("redis-cli").args(["-h", &host, "-p", &port]).args(words).output();
            let output = output.expect("redis-cli runs");
            String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
        };
        assert_eq!(cli(&format!("SET k{id} v EX 100")), "OK");
        assert_eq!(cli(&format!("TTL k{id}")), "100");
        assert_eq!(cli(&format!("INCRBY n{id} 5")), "5");
        assert_eq!(cli(&format!("RPUSH q{id} a b")), "2");
        assert_eq!(cli(&format!("BLPOP none q{id} 0")), format!("q{id}\na"));
        assert_eq!(cli(&format!("TYPE q{id}")), "list");
        assert!(cli(&format!("GET q{id}")).starts_with("WRONGTYPE Operation against a key"));
        assert_eq!(cli("AUTH default x"), "OK");
        let mut pipe = Command::new("redis-cli")
            .args(["-h", &host, "-p", &port, "--no-auth-warning"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("redis-cli runs");
        let script = format!("MULTI\nINCR n{id}\nLPOP q{id}\nEXEC\n");
        pipe.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("it reads");
        let output = pipe.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "OK\nQUEUED\nQUEUED\n6\nb");
        let scan = Command::new("redis-cli").args(["-h", &host, "-p", &port, "--scan", "--pattern", "k*"]).output();
        let scan = scan.expect("redis-cli runs");
        assert_eq!(String::from_utf8_lossy(&scan.stdout).lines().count() as u64, id);
    }
}

#[test]
fn redis_benchmark_runs_without_errors() {
    if !installed("redis-benchmark") {
        return;
    }
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let (requests, tests) = (rounds(2_000, 20_000).to_string(), "ping,set,get,incr,rpush,lpop,mset");
    for id in cluster.ids() {
        let address = cluster.client_address(id);
        let output = Command::new("redis-benchmark")
            .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
            .args(["-t", tests, "-n", &requests, "-c", "20", "-r", "1000", "--csv"])
            .output()
            .expect("redis-benchmark runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        for test in ["SET", "GET", "INCR", "RPUSH", "LPOP", "MSET (10 keys)"] {
            assert!(out.contains(&format!("\"{test}\",")), "{test} in {out}");
        }
        assert!(!out.contains("rror") && !err.contains("rror"), "{out}{err}");
    }
    let mut node = cluster.redis(1);
    let expected = 3 * requests.parse::<u64>().expect("a number");
    let counters: Vec<String> = node.keys("counter:*").expect("KEYS");
    let sums: Vec<u64> = node.mget(&counters).expect("MGET");
    assert_eq!(sums.iter().sum::<u64>(), expected, "each INCR counted once");
    assert_eq!(node.llen::<_, u64>("mylist").expect("LLEN"), 0, "as many LPOP as RPUSH");
}
