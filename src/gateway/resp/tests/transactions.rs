//! `MULTI`, `WATCH` and `EXEC`.

use super::*;

#[test]
fn golden_conversation_about_transactions() {
    conversation().check(
        r#"
        MULTI              => +OK|
        MULTI              => -ERR MULTI calls can not be nested|
        WATCH a            => -ERR WATCH inside MULTI is not allowed|
        SET a 1            => +QUEUED|
        INCRBY a 41        => +QUEUED|
        GET a              => +QUEUED|
        RPUSH a x          => +QUEUED|
        PING               => +QUEUED|
        ECHO hi            => +QUEUED|
        SET a 5 NX         => +QUEUED|
        RPUSH q x y        => +QUEUED|
        BLPOP none q 0     => +QUEUED|
        BLPOP none 5       => +QUEUED|
        LPOP q 5           => +QUEUED|
        TTL a              => +QUEUED|
        RAFT GET a         => +QUEUED|
        EXEC               => *13|+OK|:42|$2|42|-WRONGTYPE Operation against a key holding the wrong kind of value|+PONG|$2|hi|$-1|:2|*2|$1|q|$1|x|*-1|*1|$1|y|:-1|*2|$2|42|:1|
        EXEC               => -ERR EXEC without MULTI|
        DISCARD            => -ERR DISCARD without MULTI|
        MULTI              => +OK|
        EXEC               => *0|
        MULTI              => +OK|
        SET a 9            => +QUEUED|
        DISCARD            => +OK|
        GET a              => $2|42|
        MULTI              => +OK|
        SET a 9            => +QUEUED|
        LPUSH a 9          => -ERR unknown command 'LPUSH', with args beginning with: 'a' '9' |
        SET a 9            => +QUEUED|
        EXEC               => -EXECABORT Transaction discarded because of previous errors.|
        GET a              => $2|42|
        MULTI              => +OK|
        GET                => -ERR wrong number of arguments for 'get' command|
        EXEC               => -EXECABORT Transaction discarded because of previous errors.|
        MULTI              => +OK|
        WATCH              => -ERR wrong number of arguments for 'watch' command|
        SET a 9            => +QUEUED|
        EXEC               => -EXECABORT Transaction discarded because of previous errors.|
        MULTI              => +OK|
        SET a 9            => +QUEUED|
        EXEC now           => -EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command|
        EXEC               => -ERR EXEC without MULTI|
        GET a              => $2|42|
        "#,
    );
    for refused in [
        "KEYS *",
        "SCAN 0",
        "INFO",
        "HELLO 3",
        "CLIENT ID",
        "RAFT STATUS",
        "RAFT SESSION",
        "RAFT ONLY GET a",
        "RAFT DO 1 1 GET a",
    ] {
        let mut conversation = conversation();
        conversation.check("MULTI => +OK|");
        assert_eq!(conversation.say(refused), "-ERR Command not allowed inside a transaction|", "{refused}");
        conversation.check("EXEC => -EXECABORT Transaction discarded because of previous errors.|");
    }
}

#[test]
fn golden_conversation_about_watching() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        WATCH a b          => +OK|
        MULTI              => +OK|
        SET a 1            => +QUEUED|
        EXEC               => *1|+OK|
        WATCH a            => +OK|
        SET a 2            => +OK|
        MULTI              => +OK|
        SET a 3            => +QUEUED|
        EXEC               => *-1|
        GET a              => $1|2|
        MULTI              => +OK|
        SET a 3            => +QUEUED|
        EXEC               => *1|+OK|
        WATCH none         => +OK|
        SET none 1         => +OK|
        DEL none           => :1|
        MULTI              => +OK|
        EXEC               => *-1|
        WATCH a            => +OK|
        SET a 4            => +OK|
        UNWATCH            => +OK|
        MULTI              => +OK|
        UNWATCH            => +QUEUED|
        EXEC               => *1|+OK|
        WATCH a            => +OK|
        SET a 5            => +OK|
        MULTI              => +OK|
        DISCARD            => +OK|
        MULTI              => +OK|
        EXEC               => *0|
        WATCH a            => +OK|
        SET a 6            => +OK|
        RESET              => +RESET|
        MULTI              => +OK|
        RESET              => +RESET|
        EXEC               => -ERR EXEC without MULTI|
        MULTI              => +OK|
        EXEC               => *0|
        WATCH              => -ERR wrong number of arguments for 'watch' command|
        WATCH a            => +OK|
        SET other 1        => +OK|
        WATCH a other      => +OK|
        SET more 1         => +OK|
        MULTI              => +OK|
        EXEC               => *0|
        "#,
    );
    // All at once: what is watched is known only when the answer is there.
    let pipeline = "WATCH a\r\nMULTI\r\nSET a 7\r\nEXEC\r\nGET a\r\n";
    assert_eq!(conversation.receive(pipeline), Ok(Flow::Pause));
    conversation.node.work();
    assert_eq!(conversation.screen.take(), "+OK|+OK|+QUEUED|");
    assert_eq!(conversation.receive(""), Ok(Flow::Continue));
    conversation.node.work();
    assert_eq!(conversation.screen.take(), "*1|+OK|$1|7|");
    // One that fails fails the transaction.
    assert_eq!(conversation.receive("WATCH a\r\nMULTI\r\nEXEC\r\n"), Ok(Flow::Pause));
    let request = conversation.node.requests().pop().unwrap();
    request.reply.send(Err(Failure::NotReady("no leader".into()))).flush();
    assert_eq!(conversation.receive(""), Ok(Flow::Continue));
    let abort = "-EXECABORT Transaction discarded because of previous errors.|";
    assert_eq!(conversation.screen.take(), format!("-NOTREADY no leader|+OK|{abort}"));
    // And only that one.
    assert_eq!(conversation.receive("WATCH a\r\n"), Ok(Flow::Continue));
    let request = conversation.node.requests().pop().unwrap();
    request.reply.send(Err(Failure::NotReady("no leader".into()))).flush();
    conversation.screen.take();
    conversation.check("WATCH a => +OK|\nMULTI => +OK|\nEXEC => *0|");
}

#[test]
fn a_transaction_is_one_entry_and_has_a_limit() {
    let mut conversation = conversation();
    conversation.check("MULTI => +OK|\nINCR n => +QUEUED|\nINCR n => +QUEUED|\nINCR n => +QUEUED|");
    let before = conversation.node.index;
    conversation.check("EXEC => *3|:1|:2|:3|");
    assert_eq!(conversation.node.index, before + 1);

    conversation.check("MULTI => +OK|");
    let pipeline = "INCR n\r\n".repeat(100_000);
    conversation.receive(pipeline).unwrap();
    let mut answers = conversation.screen.take();
    while !conversation.input.is_empty() {
        conversation.receive("").unwrap();
        answers.push_str(&conversation.screen.take());
    }
    let why = "-ERR the transaction has more than MaxRequestBytes = 10000: 16 for each command, and what it carries|";
    assert_eq!(answers.matches(why).count(), 1);
    assert_eq!(answers.matches("+QUEUED|").count(), 99_999);
    let queued_before = answers.find(why).unwrap() / "+QUEUED|".len();
    assert_eq!(queued_before, 10_000 / (16 + 26));
    conversation.check("EXEC => -EXECABORT Transaction discarded because of previous errors.|\nGET n => $1|3|");
    let keys = (0..1000).map(|n| format!("key{n}")).collect::<Vec<_>>().join(" ");
    assert!(conversation.say(&format!("WATCH {keys}")).starts_with("-ERR the keys that are watched have more than"));
    conversation.check("MULTI => +OK|\nEXEC => *0|");
}
