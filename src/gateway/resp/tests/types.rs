//! What Redis has besides getting and setting keys: numbers, expiry, lists.

use super::*;

#[test]
fn golden_conversation_about_values() {
    conversation().check(
        r#"
        INCR n             => :1|
        INCRBY n 41        => :42|
        DECR n             => :41|
        DECRBY n 50        => :-9|
        GET n              => $2|-9|
        INCRBY n 9223372036854775807 => :9223372036854775798|
        INCRBY n 10        => -ERR increment or decrement would overflow|
        INCRBY n 1.5       => -ERR value is not an integer or out of range|
        INCRBY n 9223372036854775808 => -ERR value is not an integer or out of range|
        DECRBY n -9223372036854775808 => -ERR decrement would overflow|
        INCR               => -ERR wrong number of arguments for 'incr' command|
        SETNX s ab         => :1|
        SETNX s cd         => :0|
        INCR s             => -ERR value is not an integer or out of range|
        APPEND s cd        => :4|
        APPEND t ""        => :0|
        STRLEN s           => :4|
        STRLEN none        => :0|
        MGET s none t s    => *4|$4|abcd|$-1|$0||$4|abcd|
        MGET               => -ERR wrong number of arguments for 'mget' command|
        GETDEL s           => $4|abcd|
        GETDEL s           => $-1|
        MSET a 1 b 2 a 3   => +OK|
        MSET a             => -ERR wrong number of arguments for 'mset' command|
        MSET a 1 b         => -ERR wrong number of arguments for 'mset' command|
        MSETNX c 1 a 2     => :0|
        MSETNX c 1 d 2     => :1|
        MSETNX c 1 d       => -ERR wrong number of arguments for 'msetnx' command|
        MGET a b c d       => *4|$1|3|$1|2|$1|1|$1|2|
        TYPE a             => +string|
        TYPE none          => +none|
        "#,
    );
}

#[test]
fn golden_conversation_about_expiry() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        SET k v EX 10      => +OK|
        TTL k              => :10|
        PTTL k             => :10000|
        SET k w KEEPTTL GET => $1|v|
        TTL k              => :10|
        SET k x XX PX 1400 => +OK|
        TTL k              => :1|
        SET k x NX PX 5000 => $-1|
        PTTL k             => :1400|
        PERSIST k          => :1|
        PERSIST k          => :0|
        TTL k              => :-1|
        PTTL none          => :-2|
        TTL none           => :-2|
        EXPIRE none 10     => :0|
        EXPIRE k 10 XX     => :0|
        EXPIRE k 10 nx     => :1|
        EXPIRE k 5 GT      => :0|
        EXPIRE k 5 LT      => :1|
        EXPIRE k x NX XX   => -ERR NX and XX, GT or LT options at the same time are not compatible|
        EXPIRE k 5 GT NX   => -ERR NX and XX, GT or LT options at the same time are not compatible|
        EXPIRE k 5 GT LT   => -ERR GT and LT options at the same time are not compatible|
        EXPIRE k 5 XX LT   => :0|
        EXPIRE k 5 GT XX   => :0|
        EXPIRE k x foo XX  => -ERR Unsupported option foo|
        EXPIRE k 5 LT LT   => :0|
        EXPIRE k 5 FOO     => -ERR Unsupported option FOO|
        EXPIRE k x         => -ERR value is not an integer or out of range|
        EXPIRE k 9223372036854775807 => -ERR invalid expire time in 'expire' command|
        EXPIRE k -9223372036854775808 => -ERR invalid expire time in 'expire' command|
        EXPIRE k 9223372036854775 => -ERR invalid expire time in 'expire' command|
        EXPIRE k 9000000000000000 => :1|
        TTL k              => :9000000000000000|
        EXPIRE k 5         => :1|
        "#,
    );
    conversation.node.time = LogTime(4_999);
    conversation.check("GET k => $1|x|\nPTTL k => :1|\nEXISTS k => :1|");
    conversation.node.time = LogTime(5_000);
    conversation.check("SET other 1 => +OK|\nGET k => $-1|\nTTL k => :-2|\nDBSIZE => :1|\nEXPIRE other -1 => :1|");
    conversation.check("DBSIZE => :0|");
}

#[test]
fn golden_conversation_about_lists() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        LPOP q             => $-1|
        LPOP q 2           => *-1|
        LLEN q             => :0|
        LRANGE q 0 -1      => *0|
        RPUSH q a b c d    => :4|
        RPUSH q e          => :5|
        RPUSH q            => -ERR wrong number of arguments for 'rpush' command|
        LLEN q             => :5|
        LRANGE q 0 -1      => *5|$1|a|$1|b|$1|c|$1|d|$1|e|
        LRANGE q -2 -1     => *2|$1|d|$1|e|
        LRANGE q 1 1       => *1|$1|b|
        LRANGE q x 1       => -ERR value is not an integer or out of range|
        LPOP q             => $1|a|
        LPOP q 2           => *2|$1|b|$1|c|
        LPOP q 0           => *0|
        LPOP q -1          => -ERR value is out of range, must be positive|
        LPOP q 9223372036854775808 => -ERR value is out of range, must be positive|
        LPOP q x           => -ERR value is out of range, must be positive|
        LPOP q 1 2         => -ERR wrong number of arguments for 'lpop' command|
        TYPE q             => +list|
        EXISTS q           => :1|
        KEYS *             => *1|$1|q|
        SCAN 0             => *2|$1|0|*1|$1|q|
        DBSIZE             => :1|
        GET q              => -WRONGTYPE Operation against a key holding the wrong kind of value|
        SET q v            => -WRONGTYPE Operation against a key holding the wrong kind of value|
        SETNX q v          => -WRONGTYPE Operation against a key holding the wrong kind of value|
        SET q v EX 5       => -WRONGTYPE Operation against a key holding the wrong kind of value|
        MSET a 1 q 2       => -WRONGTYPE Operation against a key holding the wrong kind of value|
        INCR q             => -WRONGTYPE Operation against a key holding the wrong kind of value|
        APPEND q x         => -WRONGTYPE Operation against a key holding the wrong kind of value|
        STRLEN q           => -WRONGTYPE Operation against a key holding the wrong kind of value|
        GETDEL q           => -WRONGTYPE Operation against a key holding the wrong kind of value|
        MGET q             => *1|$-1|
        TTL q              => :-1|
        PERSIST q          => :0|
        EXPIRE q 5         => -ERR not supported: lists do not expire|
        SET k v            => +OK|
        RPUSH k x          => -WRONGTYPE Operation against a key holding the wrong kind of value|
        LPOP k             => -WRONGTYPE Operation against a key holding the wrong kind of value|
        LLEN k             => -WRONGTYPE Operation against a key holding the wrong kind of value|
        LRANGE k 0 -1      => -WRONGTYPE Operation against a key holding the wrong kind of value|
        RAFT TOPIC CREATE k => -WRONGTYPE Operation against a key holding the wrong kind of value|
        RAFT RECEIVE q LEASE 1000 => *1|*4|:4|$1|d|:1|:21|
        LRANGE q 0 -1      => *1|$1|e|
        LPOP q             => $1|e|
        LPOP q             => $-1|
        EXISTS q           => :0|
        TYPE q             => +none|
        GET q              => $-1|
        KEYS *             => *1|$1|k|
        RAFT TOPIC LIST    => *1|*2|:3|$1|q|
        DEL q k            => :1|
        RAFT TOPIC LIST    => *0|
        SET q v            => +OK|
        RAFT TOPIC CREATE r MAXMESSAGES 2 => +OK|
        RPUSH r 1 2 3      => -FULL the topic takes at most 2 messages of 1073741824 bytes together: take some, or try later|
        "#,
    );
}

#[test]
fn an_answer_that_is_too_large_says_how_to_ask_for_less() {
    let mut conversation = conversation();
    let messages = vec![vec![b'x'; MAX_ANSWER_BYTES / 2].into(); 2];
    let push = Command::from(Change::Push { topic: "q".into(), messages }).encode();
    conversation.node.apply(None, &Payload(push));
    let message = "x".repeat(MAX_ANSWER_BYTES / 2);
    let why = "ERR the answer would be larger than 4 MiB: ask for less at a time, for keys with SCAN or RAFT LIST";
    conversation.check(&format!(
        "LRANGE q 0 -1 => -{why}|
         MULTI => +OK|
         LPOP q => +QUEUED|
         LPOP q => +QUEUED|
         EXEC => *2|$2097152|{message}|-{why}|
         LLEN q => :1|"
    ));
}
