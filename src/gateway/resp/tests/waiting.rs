//! `BLPOP`.

use super::*;
use crate::machine::command::Change;

#[test]
fn golden_conversation_of_one_who_waits() {
    let mut conversation = conversation();
    conversation.check(
        r#"
        RPUSH q a b        => :2|
        BLPOP none q 0     => *2|$1|q|$1|a|
        BLPOP q 1.5        => *2|$1|q|$1|b|
        BLPOP q x          => -ERR timeout is not a float or out of range|
        BLPOP q inf        => -ERR timeout is not a float or out of range|
        BLPOP q nan        => -ERR timeout is not a float or out of range|
        BLPOP q 1e300      => -ERR timeout is out of range|
        BLPOP q 9223372036854775807 => -ERR timeout is out of range|
        BLPOP q -1         => -ERR timeout is negative|
        BLPOP q            => -ERR wrong number of arguments for 'blpop' command|
        SET k v            => +OK|
        BLPOP k 1          => -WRONGTYPE Operation against a key holding the wrong kind of value|
        RAFT DO 1 1 BLPOP q 0 => -ERR only commands on keys, topics and messages can be run in a session|
        "#,
    );
}

/// Another one's push.
fn push(node: &mut FakeNode, handle: &NodeHandle, words: &[&'static str]) {
    let [topic, messages @ ..] = words else { panic!("no topic") };
    let messages = messages.iter().map(|message| Bytes::from(*message)).collect();
    let push = crate::machine::command::Command::from(Change::Push { topic: Bytes::from(*topic), messages }).encode();
    node.apply(None, &Payload(push));
    handle.woken(&node.machine.take_woken());
}

impl Conversation {
    /// Another client of the same node.
    fn colleague(&self, connection: u64) -> (RespSession, Arc<Screen>) {
        let screen = Arc::new(Screen::default());
        (RespSession::new(self.options.clone(), self.handle.clone(), connection, screen.clone()), screen)
    }

    fn push(&mut self, words: &[&'static str]) {
        push(&mut self.node, &self.handle, words);
    }
}

#[test]
fn who_waits_is_told_of_a_message_or_that_there_was_none() {
    let mut conversation = conversation();
    assert_eq!(conversation.say("BLPOP p q 0"), "", "it waits");
    let before = conversation.node.index;
    // What it says meanwhile has to wait as well.
    assert_eq!(conversation.receive("PING\r\n"), Ok(Flow::Pause));
    conversation.push(&["q", "m"]);
    conversation.node.work();
    assert_eq!(conversation.screen.take(), "*2|$1|q|$1|m|");
    assert_eq!(conversation.node.index, before + 2, "the push, and one entry for the pop");
    assert_eq!(conversation.receive(""), Ok(Flow::Continue));
    assert_eq!(conversation.screen.take(), "+PONG|");

    conversation.receive("BLPOP q 0.05\r\n").unwrap();
    conversation.node.work();
    let Ok(Flow::Until(at)) = conversation.receive("") else { panic!("it wants to be called") };
    let before = conversation.node.index;
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
    assert_eq!(conversation.receive(""), Ok(Flow::Continue));
    assert_eq!(conversation.screen.take(), "*-1|");
    assert_eq!(conversation.node.index, before, "nothing was written");
    conversation.push(&["q", "m"]);
    assert!(conversation.node.requests().is_empty(), "nobody waits any longer");
}

#[test]
fn whoever_came_first_gets_the_first_and_each_gets_one() {
    let mut conversation = conversation();
    let mut others: Vec<_> = (0..1_000).map(|number| conversation.colleague(100 + number)).collect();
    for (session, _) in &mut others {
        session.receive(&mut BytesMut::from("BLPOP q 0\r\n")).unwrap();
        conversation.node.work();
    }
    let answered = |others: &[(RespSession, Arc<Screen>)]| -> Vec<(usize, String)> {
        let answers = others.iter().map(|(_, screen)| screen.take()).enumerate();
        answers.filter(|(_, answer)| !answer.is_empty()).collect()
    };
    conversation.push(&["q", "a"]);
    conversation.node.work();
    assert_eq!(answered(&others), [(0, "*2|$1|q|$1|a|".to_owned())]);
    conversation.push(&["q", "b", "c"]);
    conversation.node.work();
    assert_eq!(answered(&others), [(1, "*2|$1|q|$1|b|".to_owned()), (2, "*2|$1|q|$1|c|".to_owned())]);
    // One has gone, another is woken and goes before it could ask; the next one is as good.
    others[3].0.client_ended();
    assert!(others[3].0.finished());
    conversation.push(&["q", "d"]);
    conversation.node.work();
    others[3].1.take();
    assert_eq!(answered(&others), [(4, "*2|$1|q|$1|d|".to_owned())]);
    // Another node was faster: it waits on, and is the first again.
    conversation.push(&["q", "e"]);
    let request = conversation.node.requests().pop().unwrap();
    request.reply.send(Ok(Response::Answer(Answer::Popped(None).encode()))).flush();
    conversation.push(&["q", "f"]);
    conversation.node.work();
    assert_eq!(answered(&others), [(5, "*2|$1|q|$1|e|".to_owned())]);
    // A new state: everybody looks, and as many are served as there are messages.
    conversation.handle.state_replaced();
    conversation.node.work();
    conversation.node.work();
    assert_eq!(answered(&others), [(6, "*2|$1|q|$1|f|".to_owned())]);
}

#[test]
fn a_wake_up_that_is_not_used_goes_to_the_next() {
    let mut conversation = conversation();
    let mut others: Vec<_> = (0..3).map(|number| conversation.colleague(100 + number)).collect();
    for (session, _) in &mut others {
        session.receive(&mut BytesMut::from("BLPOP q 0\r\n")).unwrap();
        conversation.node.work();
    }
    // The first one's request fails: it is told, and the second takes the message.
    conversation.push(&["q", "a"]);
    let request = conversation.node.requests().pop().unwrap();
    request.reply.send(Err(Failure::Unknown("the leader was lost".into()))).flush();
    conversation.node.work();
    assert_eq!(others[0].1.take(), "-UNKNOWN the leader was lost|");
    assert_eq!(others[1].1.take(), "*2|$1|q|$1|a|");
    // The third asks; a message that comes meanwhile may have missed its request, so it asks again.
    conversation.push(&["q", "b"]);
    let request = conversation.node.requests().pop().unwrap();
    conversation.push(&["q", "c"]);
    assert!(conversation.node.requests().is_empty());
    request.reply.send(Ok(Response::Answer(Answer::Popped(None).encode()))).flush();
    conversation.node.work();
    assert_eq!(others[2].1.take(), "*2|$1|q|$1|b|");
    // Who asks for a message when its client goes takes it; there is no one else to be told.
    let (mut late, screen) = conversation.colleague(200);
    late.receive(&mut BytesMut::from("BLPOP q none 0\r\n")).unwrap();
    let look = conversation.node.requests().pop().unwrap();
    assert!(matches!(look.operation, Operation::Read(_)));
    drop(late);
    look.reply.send(Ok(Response::Answer(Answer::Count(1).encode()))).flush();
    assert!(conversation.node.requests().is_empty(), "who only looked takes nothing");
    assert_eq!(screen.take(), "");
    conversation.check("LRANGE q 0 -1 => *1|$1|c|");
    // Of one who sends no more nothing is kept waiting.
    conversation.session.client_ended();
    conversation.check("BLPOP q 0 => *2|$1|q|$1|c|\nBLPOP q 0 => *-1|");
}

impl Conversation {
    /// So many others, who wait for a message in this order.
    fn waiting(&mut self, count: u64, request: &str) -> Vec<(RespSession, Arc<Screen>)> {
        let mut others: Vec<_> = (0..count).map(|number| self.colleague(100 + number)).collect();
        for (session, _) in &mut others {
            session.receive(&mut BytesMut::from(request)).unwrap();
            self.node.work();
        }
        others
    }

    /// The one request that was handed in.
    fn request(&mut self) -> ClientRequest {
        let mut requests = self.node.requests();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    fn remind(&mut self) {
        assert!(self.node.inboxes.take_wish_for_reminder(), "somebody wants to be reminded");
        self.node.inboxes.remind();
    }
}

fn refuse(request: ClientRequest) {
    request.reply.send(Err(Failure::Overloaded("too much".into()))).flush();
}

#[test]
fn a_node_that_has_stopped_answers_all_who_wait() {
    let mut conversation = conversation();
    let others = conversation.waiting(1_000, "BLPOP q 0\r\n");
    conversation.push(&["q", "a"]);
    let popping = conversation.request();
    conversation.node.inboxes = NodeHandle::new().1;
    assert_eq!(others[0].1.take(), "", "it may still get its message");
    for (_, screen) in &others[1..] {
        assert_eq!(screen.take(), "-NOTREADY this node has stopped|");
    }
    popping.reply.send(Err(Failure::NotReady("it is shutting down".into()))).flush();
    assert_eq!(others[0].1.take(), "-NOTREADY it is shutting down|");
    assert_eq!(conversation.say("BLPOP q 0"), "-NOTREADY this node has stopped|");
}

#[test]
fn whoever_is_refused_waits_on_in_its_place_and_looks_again() {
    let mut conversation = conversation();
    let others = conversation.waiting(1_000, "BLPOP q 0\r\n");
    // The node has no room for the pop: nobody is told, and nobody else tries.
    let handle = conversation.handle.clone();
    let (_, screen) = conversation.colleague(2_000);
    let fill = || {
        let reply = Reply::new(Slots::new(conversation.options.clone(), screen.clone()), 0);
        handle.enqueue(ClientRequest { connection: 7, operation: Operation::Debug, forward: true, reply })
    };
    while fill().is_ok() {}
    let refusals = || handle.metrics().inbox_full.get();
    let before = refusals();
    conversation.push(&["q", "a"]);
    assert_eq!(refusals(), before + 1, "one has tried");
    conversation.push(&["q", "b", "c"]);
    assert_eq!(refusals(), before + 1, "the others wait for better times");
    drop(conversation.node.requests());
    // As there is room again, each message finds whoever has waited longest.
    conversation.remind();
    conversation.node.work();
    conversation.node.work();
    let answers: Vec<String> = others.iter().map(|(_, screen)| screen.take()).collect();
    let got = |message| format!("*2|$1|q|$1|{message}|");
    assert_eq!(answers[..3], [got("a"), got("b"), got("c")]);
    assert!(answers[3..].iter().all(String::is_empty));
    assert!(!conversation.node.inboxes.take_wish_for_reminder());
    // So it goes when the leader refuses, or none is found.
    conversation.push(&["q", "d"]);
    let refused = conversation.request();
    conversation.push(&["q", "e"]);
    let other = conversation.request();
    refused.reply.send(Err(Failure::NotReady("no leader was found".into()))).flush();
    refuse(other);
    assert!(conversation.node.requests().is_empty(), "not at once");
    conversation.remind();
    conversation.node.work();
    conversation.node.work();
    assert_eq!((others[3].1.take(), others[4].1.take()), (got("d"), got("e")));
}

#[test]
fn a_refused_one_that_leaves_gives_its_wake_up_to_the_next() {
    let mut conversation = conversation();
    let mut others = conversation.waiting(2, "BLPOP q 0\r\n");
    conversation.push(&["q", "a"]);
    refuse(conversation.request());
    others[0].0.client_ended();
    assert_eq!(others[0].1.take(), "*-1|");
    conversation.remind();
    conversation.node.work();
    conversation.node.work();
    assert_eq!(others[1].1.take(), "*2|$1|q|$1|a|");
    // One whose time is up while it asks, and is refused then.
    let mut others = conversation.waiting(2, "BLPOP q 0\r\n");
    conversation.push(&["q", "b"]);
    let request = conversation.request();
    others[0].0.client_ended();
    assert_eq!(others[0].1.take(), "", "it may get the message");
    refuse(request);
    assert_eq!(others[0].1.take(), "*-1|");
    conversation.node.work();
    assert_eq!(others[1].1.take(), "*2|$1|q|$1|b|");
    // Who does not want others to be asked is told at once.
    let only = conversation.waiting(1, "RAFT ONLY BLPOP q 0\r\n");
    assert_eq!(only[0].1.take(), "-NOTREADY this node is not the leader|");
}

#[test]
fn a_message_that_another_one_took_in_passing_wakes_the_next() {
    let mut conversation = conversation();
    let first = conversation.waiting(1, "BLPOP p 0\r\n");
    let both = conversation.waiting(1, "BLPOP p q 0\r\n");
    let last = conversation.waiting(1, "BLPOP q 0\r\n");
    conversation.push(&["p", "a"]);
    let for_p = conversation.request();
    conversation.push(&["q", "b"]);
    // Who was woken for q finds the message in p, and is faster than the one that was woken for it.
    conversation.node.work();
    assert_eq!(both[0].1.take(), "*2|$1|p|$1|a|");
    let outcome = conversation.node.outcome(&for_p);
    for_p.reply.send(outcome).flush();
    conversation.node.work();
    assert_eq!((first[0].1.take().as_str(), last[0].1.take().as_str()), ("", "*2|$1|q|$1|b|"));
}

#[test]
fn a_message_costs_the_same_however_many_wait() {
    let mut conversation = conversation();
    let others = conversation.waiting(10_000, "BLPOP q 0\r\n");
    let before = Instant::now();
    // All ask, and half of them are to ask again: nobody needs to be looked for among them.
    conversation.handle.woken(&[("q".into(), 15_000)]);
    conversation.handle.woken(&[("q".into(), u64::MAX)]);
    assert!(before.elapsed() < Duration::from_secs(5), "it ends when everybody was told");
    assert_eq!(conversation.node.requests().len(), 10_000);
    drop(others);
}
