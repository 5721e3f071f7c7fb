//! The REST service of real processes.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clients::Script;
use crate::support::cluster::{Cluster, label, wait_until};
use crate::support::http::Http;

const TRUE: &str = r#"{"success": true}"#;
const FALSE: &str = r#"{"success": false}"#;

#[test]
fn the_answers_of_topics_and_messages_are_exact_at_every_node() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let mut names = Vec::new();
    for id in cluster.ids() {
        let mut http = Http::connect(cluster.http_address(id));
        let topic = format!("t-{id}");
        let new = format!(r#"{{"topic": "{topic}"}}"#);
        assert_eq!(http.put("/topic", &new).shown(), (201, TRUE, None));
        assert_eq!(http.put("/topic", &new).shown(), (409, FALSE, Some("topic_exists")));
        names.push(topic.clone());
        let all = json!({"success": true, "topics": names});
        let answer = http.get("/topic");
        assert_eq!((answer.status, answer.json()), (200, all));
        assert!(answer.body.starts_with(r#"{"success": true, "topics": ["t-1""#), "{}", answer.body);

        let path = format!("/message/{topic}");
        let message = |text: &str| format!(r#"{{"topic": "{topic}", "message": "{text}"}}"#);
        assert_eq!(http.get(&path).shown(), (404, FALSE, Some("no_message")));
        assert_eq!(http.put("/message", &message("first")).shown(), (201, TRUE, None));
        assert_eq!(http.put("/message", &message("second \\u00e9")).shown(), (201, TRUE, None));
        let head = http.ask("HEAD", &path, &[], "");
        assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
        let popped = http.get(&path);
        assert_eq!(popped.shown(), (200, r#"{"success": true, "message": "first"}"#, None));
        assert_eq!(popped.header("cache-control"), Some("no-store"));
        assert_eq!(popped.header("content-type"), Some("application/json"));
        assert_eq!(http.get(&path).shown(), (200, "{\"success\": true, \"message\": \"second \u{e9}\"}", None));
        assert_eq!(http.get(&path).shown(), (404, FALSE, Some("no_message")));
        assert_eq!(http.get("/message/none").shown(), (404, FALSE, Some("no_such_topic")));
        let nowhere = http.put("/message", r#"{"topic": "none", "message": "m"}"#);
        assert_eq!(nowhere.shown(), (404, FALSE, Some("no_such_topic")));
        assert!(nowhere.header("raft-error-message").is_some());
    }
}

#[test]
fn topics_may_have_any_name() {
    let cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(1));
    let names =
        ["a/b", "/", "receive", "a/receive", " %", "\u{e9}\u{1f600}", "a?b#c&d=e", "\"\\\n", "..", "base64:", ""];
    for name in names {
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(http.put("/topic", &json!({ "topic": name }).to_string()).status, 201, "{name:?}");
        for _ in 0..2 {
            let put = http.put("/message", &json!({"topic": name, "message": name}).to_string());
            assert_eq!(put.status, 201, "{name:?}");
        }
        let popped = http.get(&format!("/message/{escaped}"));
        assert_eq!(popped.json(), json!({"success": true, "message": name}), "{name:?}");
    }
    for (path, name) in [("a/b", "a/b"), ("a/receive", "a/receive"), ("/", "/")] {
        assert_eq!(http.get(&format!("/message/{path}")).json()["message"], name);
    }
    assert_eq!(http.get("/topic").json()["topics"], json!(names));
}

#[test]
fn every_node_shows_its_role_and_its_own_state() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(leader));
    http.put("/topic", r#"{"topic": "z"}"#);
    http.put("/topic", r#"{"topic": "a"}"#);
    http.put("/message", r#"{"topic": "z", "message": "m"}"#);
    let mut redis = cluster.redis(leader);
    let _: () = redis::cmd("SET").arg("k").arg(b"\xff").query(&mut redis).expect("SET");
    let _: () = redis::cmd("SET").arg(b"\xfe").arg("v").query(&mut redis).expect("SET");
    cluster.wait_until_caught_up();
    let mut views = Vec::new();
    for id in cluster.ids() {
        let mut http = Http::connect(cluster.http_address(id));
        let status = http.get("/status");
        let shown = status.json();
        assert_eq!(status.status, 200);
        assert_eq!(shown["role"], if id == leader { "Leader" } else { "Follower" });
        assert!(shown["term"].as_u64().expect("a number") > 0);
        assert_eq!(shown["leader"], json!({"id": leader, "label": label(leader)}));
        views.push(http.get("/force-view-state-machine"));
    }
    let view = views[0].json();
    assert_eq!(view["topics"], json!({"z": ["m"], "a": []}));
    assert!(views[0].body.contains(r#""topics": {"z": ["m"], "a": []}"#), "in order of creation: {}", views[0].body);
    assert_eq!(view["kv"], json!({"k": {"base64": "/w=="}, "base64:/g==": "v"}));
    assert!(view["applied"].as_u64().expect("a number") >= 5);
    assert_eq!(view.as_object().expect("an object").len(), 4);
    assert_eq!(views.iter().map(|view| &view.body).collect::<std::collections::BTreeSet<_>>().len(), 1, "{views:?}");
}

#[test]
fn what_makes_no_sense_is_refused_with_words() {
    let cluster = Cluster::with(1, "MaxRequestBytes = 2048\n");
    cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(1));
    let large = format!(r#"{{"topic": "t", "message": "{}"}}"#, "x".repeat(4096));
    for (method, target, body, status, word) in [
        ("PUT", "/topic", "", 400, "bad_request"),
        ("PUT", "/topic", "{", 400, "bad_request"),
        ("PUT", "/topic", "[]", 400, "bad_request"),
        ("PUT", "/topic", "{}", 400, "bad_request"),
        ("PUT", "/topic", r#"{"topic": 5}"#, 400, "bad_request"),
        ("PUT", "/topic", r#"{"topic": null}"#, 400, "bad_request"),
        ("PUT", "/topic", r#"{"topic": "\ud800"}"#, 400, "bad_request"),
        ("PUT", "/topic", r#"{"topic": "a", "max_messages": -1}"#, 400, "bad_request"),
        ("PUT", "/message", r#"{"topic": "a"}"#, 400, "bad_request"),
        ("PUT", "/message", r#"{"topic": "a", "message": {"a": 1}}"#, 400, "bad_request"),
        ("PUT", "/message", &large, 413, "request_too_large"),
        ("GET", "/", "", 404, "unknown_path"),
        ("GET", "/statuss", "", 404, "unknown_path"),
        ("POST", "/topic", "{}", 405, "method_not_allowed"),
        ("DELETE", "/message", "", 405, "method_not_allowed"),
        ("PUT", "/status", "", 405, "method_not_allowed"),
    ] {
        let answer = http.ask(method, target, &[], body);
        let shown = answer.json();
        assert_eq!(
            (answer.status, &shown["error"], answer.header("raft-error")),
            (status, &json!(word), Some(word)),
            "{target} {body}"
        );
        assert_eq!((&shown["success"], shown.as_object().map(|keys| keys.len())), (&json!(false), Some(3)));
        assert!(!shown["message"].as_str().expect("text").is_empty());
        assert_eq!(answer.header("allow").is_some(), status == 405, "{target}");
    }
    let (head, get) = (http.ask("HEAD", "/status", &[], ""), http.get("/status"));
    assert_eq!((head.status, head.header("content-length")), (200, get.header("content-length")));
    assert_eq!(http.get("/topic").json()["topics"], json!([]), "the connection goes on, and nothing was done");
}

#[test]
fn leases_end_by_ack_by_nack_and_by_themselves_on_an_idle_cluster() {
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(2));
    http.put("/topic", r#"{"topic": "a/b", "max_deliveries": 2}"#);
    for text in ["one", "two"] {
        http.put("/message", &json!({"topic": "a/b", "message": text}).to_string());
    }
    let receive = "/message/a%2Fb/receive?lease_ms=60000&max=2";
    let both = http.post(receive, "").json();
    assert_eq!(both["messages"].as_array().map(Vec::len), Some(2));
    assert_eq!((&both["messages"][0]["message"], &both["messages"][0]["deliveries"]), (&json!("one"), &json!(1)));
    assert_eq!(http.post(receive, "").shown(), (200, r#"{"success": true, "messages": []}"#, None));
    assert_eq!(http.get("/message/a/b").shown(), (404, FALSE, Some("no_message")), "leased ones are not popped");
    let lease = |of: &serde_json::Value| json!({"id": of["id"], "lease": of["lease"]}).to_string();
    let (one, two) = (lease(&both["messages"][0]), lease(&both["messages"][1]));
    assert_eq!(http.post("/message/a%2Fb/ack", &two).shown(), (200, TRUE, None));
    assert_eq!(http.post("/message/a%2Fb/nack", &one).shown(), (200, TRUE, None));
    let stale = http.post("/message/a%2Fb/ack", &one);
    assert_eq!((stale.status, &stale.json()["error"]), (409, &json!("stale_lease")));

    let again = http.post("/message/a%2Fb/receive?lease_ms=1000", "").json()["messages"][0].clone();
    assert_eq!((&again["message"], &again["deliveries"]), (&json!("one"), &json!(2)));
    let extension = json!({"id": again["id"], "lease": again["lease"], "lease_ms": 300}).to_string();
    assert_eq!(http.post("/message/a%2Fb/extend", &extension).shown(), (200, TRUE, None));
    // Nobody writes anything: the leader alone lets log time pass. It was delivered twice, so it is dead then.
    let dead = wait_until("the lease ends", || {
        let popped = http.get("/message/a/b.dead");
        (popped.status == 200).then(|| popped.json())
    });
    assert_eq!(dead["message"], "one");
    let stale = http.post("/message/a%2Fb/extend", &extension);
    assert_eq!((stale.status, stale.header("raft-error")), (409, Some("stale_lease")));
    for (target, word) in [
        ("/message/none/receive", "no_such_topic"),
        ("/message/a%2Fb/receive?max=0", "bad_request"),
        ("/message/a%2Fb/receive?max=1001", "bad_request"),
        ("/message/a%2Fb/receive?wait_ms=60001", "bad_request"),
        ("/message/a%2Fb/receive?lease_ms=43200001", "bad_request"),
        ("/message/a%2Fb/receive?lease_ms=1.5", "bad_request"),
        ("/message/a%2Fb/receive?lease=5", "bad_request"),
        ("/message/a/b/receive", "method_not_allowed"),
    ] {
        assert_eq!(http.post(target, "").json()["error"], word, "{target}");
    }
    assert_eq!(http.post("/message/a%2Fb/extend", r#"{"id": 1, "lease": 1, "lease_ms": 0}"#).status, 400);
}

#[test]
pub fn whoever_waits_is_woken_and_one_who_went_away_takes_nothing() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let follower = leader % 3 + 1;
    let mut http = Http::connect(cluster.http_address(leader));
    http.put("/topic", r#"{"topic": "t"}"#);
    let waiting = "/message/t/receive?wait_ms=30000";
    let mut waiters: Vec<Http> = (0..3).map(|_| Http::connect(cluster.http_address(follower))).collect();
    for waiter in &mut waiters {
        waiter.send_request("POST", waiting, &[], "");
    }
    // Requests that wait are behind this one, which is answered: they have looked, and found nothing.
    let mut short = Http::connect(cluster.http_address(follower));
    let began = Instant::now();
    assert_eq!(short.post("/message/t/receive?wait_ms=300", "").json()["messages"], json!([]));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let entries = |http: &mut Http| http.get("/status").json()["last"].as_u64().expect("a number");
    let before = entries(&mut http);

    let gone = waiters.remove(0);
    drop(gone);
    let began = Instant::now();
    for text in ["one", "two"] {
        http.put("/message", &json!({"topic": "t", "message": text}).to_string());
    }
    let mut received: Vec<_> = waiters
        .iter_mut()
        .map(|waiter| waiter.receive(false).expect("an answer").json()["messages"][0]["message"].clone())
        .collect();
    received.sort_by_key(ToString::to_string);
    assert_eq!(received, ["one", "two"]);
    assert!(began.elapsed() < Duration::from_secs(15), "woken, not late: {:?}", began.elapsed());
    let info = http.get("/topic/t").json();
    assert_eq!((&info["length"], &info["leased"]), (&json!(2), &json!(2)));
    assert!(entries(&mut http) <= before + 8, "nobody asks again and again");

    // With a key the wait is the same, and what was received is received again.
    let mut keyed = Http::connect(cluster.http_address(follower));
    keyed.send_request("POST", waiting, &["Idempotency-Key: r"], "");
    http.put("/message", r#"{"topic": "t", "message": "three"}"#);
    let first = keyed.receive(false).expect("an answer");
    assert_eq!(first.json()["messages"][0]["message"], "three");
    let began = Instant::now();
    let again = keyed.ask("POST", waiting, &["Idempotency-Key: r"], "").json();
    assert_eq!(again["messages"], first.json()["messages"], "its first answer");
    assert!(began.elapsed() < Duration::from_secs(15), "which nothing is waited for: {:?}", began.elapsed());
    let soon = "/message/t/receive?wait_ms=10";
    assert_eq!(keyed.ask("POST", soon, &["Idempotency-Key: r"], "").status, 422, "another request");
    assert_eq!(info["oldest_ms"].as_u64().map(|ms| ms < 20_000), Some(true));
}

#[test]
fn a_key_stands_for_one_request_across_leaders_and_restarts() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(leader));
    http.put("/topic", r#"{"topic": "t"}"#);
    let body = r#"{"topic": "t", "message": "m"}"#;
    let keyed = |http: &mut Http, key: &str, body: &str| {
        let answer = http.ask("PUT", "/message", &[&format!("Idempotency-Key: {key}")], body);
        (answer.status, answer.body)
    };
    let put = (201, TRUE.to_owned());
    for _ in 0..3 {
        assert_eq!(keyed(&mut http, "k", body), put);
    }
    let popped = http.ask("GET", "/message/t", &["Idempotency-Key: pop"], "");
    assert_eq!(popped.json()["message"], "m");
    cluster.kill(leader);
    let next = cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(next));
    assert_eq!(keyed(&mut http, "k", body), put);
    assert_eq!(keyed(&mut http, "k", r#"{"topic": "t", "message": "n"}"#), (422, FALSE.to_owned()));
    for id in cluster.running() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.spawn(id);
    }
    cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(leader));
    assert_eq!(keyed(&mut http, "k", body), put);
    assert_eq!(http.ask("GET", "/message/t", &["Idempotency-Key: pop"], "").json()["message"], "m", "the same again");
    assert_eq!(http.get("/topic/t").json()["length"], 0, "put once, popped once");
    assert_eq!(keyed(&mut http, &"k".repeat(257), body).0, 400);
    assert_eq!(keyed(&mut http, "", body).0, 400);
}

#[test]
fn a_key_changes_only_from_the_revision_that_was_seen() {
    let cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(1));
    let put = |http: &mut Http, condition: &str, value: &str| {
        http.ask("PUT", "/kv/a/b", &[condition], &json!({ "value": value }).to_string())
    };
    assert_eq!(http.get("/kv/a/b").json()["error"], "no_such_key");
    assert_eq!(put(&mut http, "If-Match: *", "0").status, 412);
    let first = put(&mut http, "If-None-Match: *", "1");
    let revision = first.json()["revision"].as_u64().expect("a revision");
    assert_eq!((first.status, first.header("etag")), (200, Some(&format!("\"{revision}\"")[..])));
    assert_eq!(put(&mut http, "If-None-Match: *", "2").json()["error"], "revision_mismatch");
    assert_eq!(put(&mut http, &format!("If-Match: \"{}\"", revision + 1), "2").status, 412);
    assert_eq!(put(&mut http, "If-Match: x", "2").status, 400);
    let second = put(&mut http, &format!("If-Match: \"{revision}\""), "2").json()["revision"].clone();
    let got = http.get("/kv/a%2Fb");
    assert_eq!(got.json(), json!({"success": true, "key": "a/b", "value": "2", "revision": second}));
    assert_eq!(got.header("etag"), Some(&format!("\"{second}\"")[..]));

    assert_eq!(http.put("/kv/a/c", r#"{"value": {"base64": "/w=="}}"#).status, 200);
    let page = http.get("/kv?prefix=a%2F&limit=1").json();
    assert_eq!((&page["items"][0]["key"], &page["more"]), (&json!("a/b"), &json!(true)));
    let page = http.get("/kv?prefix=a/&after=a/b").json();
    assert_eq!((&page["items"][0]["value"], &page["more"]), (&json!({"base64": "/w=="}), &json!(false)));
    assert_eq!(http.get("/kv?limit=0").status, 400);
    assert_eq!(http.ask("DELETE", "/kv/a/b", &[&format!("If-Match: \"{revision}\"")], "").status, 412);
    assert_eq!(http.ask("DELETE", "/kv/a/b", &[&format!("If-Match: \"{second}\"")], "").shown(), (200, TRUE, None));
    assert_eq!(http.ask("DELETE", "/kv/a/b", &[], "").json()["error"], "no_such_key");
}

#[test]
fn topics_are_limited_purged_and_deleted() {
    let cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(1));
    http.put("/topic", r#"{"topic": "t", "max_messages": 1, "max_bytes": 10}"#);
    let put = |http: &mut Http, text: &str| http.put("/message", &json!({"topic": "t", "message": text}).to_string());
    assert_eq!(put(&mut http, "longer than that").shown(), (507, FALSE, Some("topic_full")));
    assert_eq!(put(&mut http, "short").status, 201);
    assert_eq!(put(&mut http, "x").shown(), (507, FALSE, Some("topic_full")));
    let info = http.get("/topic/t").json();
    assert_eq!((&info["topic"], &info["length"], &info["bytes"]), (&json!("t"), &json!(1), &json!(5)));
    assert_eq!(
        (&info["max_messages"], &info["max_bytes"], &info["max_deliveries"]),
        (&json!(1), &json!(10), &json!(5))
    );
    let purged = http.post("/topic/t/purge", "");
    assert_eq!(purged.shown(), (200, r#"{"success": true, "removed": 1}"#, None));
    assert_eq!(http.get("/topic/t").json()["oldest_ms"], json!(null));
    assert_eq!(http.ask("DELETE", "/topic/t", &[], "").shown(), (200, TRUE, None));
    for (method, target) in [("DELETE", "/topic/t"), ("GET", "/topic/t"), ("POST", "/topic/t/purge")] {
        let answer = http.ask(method, target, &[], "");
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("no_such_topic")), "{method}");
    }
}

#[test]
fn without_a_majority_status_works_and_the_rest_says_so_in_time() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let left = leader % 3 + 1;
    for id in cluster.ids().into_iter().filter(|id| *id != left) {
        cluster.kill(id);
    }
    let mut http = Http::connect(cluster.http_address(left));
    wait_until("the node wants to be leader", || (http.get("/status").json()["role"] == "Candidate").then_some(()));
    let began = Instant::now();
    let refused = http.put("/topic", r#"{"topic": "t"}"#);
    assert_eq!(refused.shown(), (503, FALSE, Some("not_ready")));
    assert!(refused.header("retry-after").is_some());
    let took = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "2 x ElectionTimeout: {took:?}");
    let unhealthy = http.get("/health");
    assert_eq!((unhealthy.status, &unhealthy.json()["error"]), (503, &json!("not_ready")));
    let began = Instant::now();
    assert_eq!(http.get("/status").status, 200);
    assert_eq!(http.get("/force-view-state-machine").status, 200);
    assert_eq!(http.get("/metrics").status, 200);
    assert!(began.elapsed() < Duration::from_millis(900), "at once: {:?}", began.elapsed());
}

#[test]
fn metrics_tell_of_the_protocol_the_disk_and_the_clients() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(leader));
    assert_eq!(http.get("/health").json()["role"], "Leader");
    http.put("/topic", r#"{"topic": "t"}"#);
    for _ in 0..10 {
        http.put("/message", r#"{"topic": "t", "message": "m"}"#);
    }
    cluster.wait_until_caught_up();
    let no_lag = |id: &u64| format!("raft_peer_lag_entries{{peer=\"{}\"}} 0\n", label(*id));
    let followers: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let page = wait_until("the followers' acknowledgements are there", || {
        let page = http.get("/metrics");
        followers.iter().all(|id| page.body.contains(&no_lag(id))).then_some(page)
    });
    assert!(page.header("content-type").expect("a type").starts_with("application/openmetrics-text"));
    let value = |name: &str| {
        let line = page.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let line = line.unwrap_or_else(|| panic!("no {name} in {}", page.body));
        line.parse::<f64>().unwrap_or_else(|_| panic!("{name}: {line}"))
    };
    assert_eq!(value(r#"raft_role{role="Leader"}"#), 1.0);
    assert_eq!(value("raft_leader"), leader as f64);
    assert!(
        value("raft_term") >= 1.0 && value("raft_elections_total") >= 1.0 && value("raft_elections_won_total") >= 1.0
    );
    assert_eq!(value("raft_commit_index"), value("raft_last_index"));
    assert_eq!(value("raft_commit_index"), value("raft_applied_index"));
    for histogram in ["raft_fsync_seconds", "raft_commit_latency_seconds"] {
        assert!(value(&format!("{histogram}_count")) >= 10.0);
        assert!(value(&format!("{histogram}_sum")) > 0.0);
        assert_eq!(value(&format!(r#"{histogram}_bucket{{le="+Inf"}}"#)), value(&format!("{histogram}_count")));
    }
    assert_eq!(value(r#"raft_queue_length{queue="clients"}"#), 0.0);
    assert_eq!(value(r#"raft_limits_hit_total{limit="inbox"}"#), 0.0);
    assert!(value("raft_clients") >= 1.0 && value("raft_http_requests_total") >= 12.0);
    assert!(value("raft_http_received_bytes_total") > 500.0 && value("raft_log_bytes_total") > 50.0);
    let document = http.get("/openapi.json").json();
    assert!(document["paths"]["/message/{topic}"]["get"].is_object());
}

#[test]
fn pipelined_requests_are_answered_in_order_and_a_slow_reader_delays_nobody() {
    let cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let address = cluster.http_address(1);
    let mut http = Http::connect(address);
    http.put("/topic", r#"{"topic": "t"}"#);
    for n in 0..50 {
        http.send_request("PUT", "/message", &[], &json!({"topic": "t", "message": format!("{n}")}).to_string());
    }
    (0..50).for_each(|_| http.send_request("GET", "/message/t", &[], ""));
    for _ in 0..50 {
        assert_eq!(http.receive(false).expect("an answer").status, 201);
    }
    for n in 0..50 {
        assert_eq!(http.receive(false).expect("an answer").json()["message"], format!("{n}"));
    }
    (0..3).for_each(|_| http.send_request("GET", "/topic", &[], ""));
    http.close_sending_side();
    for _ in 0..3 {
        assert_eq!(http.receive(false).expect("an answer").status, 200);
    }
    let mut http = Http::connect(address);
    // Enough that no socket's buffers hold a few of them.
    for key in 0..16 {
        let value = json!({"value": "x".repeat(1_000_000)}).to_string();
        assert_eq!(http.put(&format!("/kv/{key}"), &value).status, 200);
    }
    let mut slow = Http::connect(address);
    (0..8).for_each(|_| slow.send_request("GET", "/force-view-state-machine", &[], ""));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(http.get("/status").status, 200);
        assert_eq!(http.get("/kv/1").status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(slow.receive(false).expect("an answer").json()["kv"].as_object().map(|kv| kv.len()), Some(16));
}

#[test]
pub fn a_thousand_connections_are_served_and_garbage_hurts_nobody() {
    let cluster = Cluster::with(1, "MaxConnections = 1100\n");
    cluster.wait_for_leader();
    let address = cluster.http_address(1);
    let mut connections: Vec<Http> = (0..1000).map(|_| Http::connect(address)).collect();
    for connection in &mut connections {
        connection.send_request("GET", "/status", &[], "");
    }
    for connection in &mut connections {
        assert_eq!(connection.receive(false).expect("an answer").status, 200);
    }
    for garbage in [
        &b"\x00\xff\x00\xff\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PUT /topic HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut stranger = Http::connect(address);
        stranger.send(garbage);
        let answer = stranger.receive(false);
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 400), "{garbage:?}");
    }
    let mut long = Http::connect(address);
    long.send(format!("GET /status HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(100_000)));
    assert!(long.receive(false).is_ok_and(|answer| answer.status == 431));
    let more: Vec<_> = (0..200).map(|_| Http::connect(address)).collect();
    let turned_away = more.into_iter().filter_map(|mut http| {
        http.send_request("GET", "/status", &[], "");
        http.receive(false).ok().filter(|answer| answer.header("raft-error") == Some("too_many_connections"))
    });
    assert!(turned_away.count() >= 90, "beyond MaxConnections");
    assert_eq!(connections[0].get("/status").status, 200);
}

#[test]
pub fn a_node_that_stops_answers_what_it_has_begun_and_frees_its_port() {
    let mut cluster = Cluster::start(1);
    cluster.wait_for_leader();
    let mut http = Http::connect(cluster.http_address(1));
    http.put("/topic", r#"{"topic": "t"}"#);
    let mut waiting = Http::connect(cluster.http_address(1));
    waiting.send_request("POST", "/message/t/receive?wait_ms=60000", &[], "");
    assert_eq!(http.post("/message/t/receive?wait_ms=100", "").status, 200);
    let (status, took) = cluster.terminate(1);
    assert!(status.success() && took < Duration::from_secs(4), "{status:?} after {took:?}");
    let answer = waiting.receive(false).expect("an answer");
    assert_eq!((answer.status, answer.header("raft-error")), (503, Some("not_ready")));
    assert!(Http::try_connect(cluster.http_address(1)).is_err());

    let taken = TcpListener::bind(cluster.http_address(1)).expect("the port is free");
    cluster.spawn(1);
    assert_eq!(cluster.await_end(1).code(), Some(1));
    assert!(cluster.log(1).contains("HttpPort of node 1 (A)"), "{}", cluster.log(1));
    drop(taken);
}

#[test]
fn requests_of_python_drives_every_node() {
    let Some(script) = Script::with("requests", "requests>=2", "rest.py") else { return };
    let cluster = Cluster::start(3);
    cluster.wait_for_leader();
    let addresses = cluster.ids().into_iter().map(|id| format!("http://{}", cluster.http_address(id)));
    script.assert_ok(&addresses.collect::<Vec<_>>());
}
