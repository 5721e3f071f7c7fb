//! Transports over 127.0.0.1, under both runtimes: what arrives, in which order, and who is refused.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raft::codec::handshake::{self, Handshake, Hello, PROTOCOL, Purpose, RefusalCode, Refused, Welcome};
use raft::codec::{frame, peer};
use raft::consensus::{Membership, Message, MessageBody, NodeId, Payload, Term};
use raft::runtime::sockets::bind;
use raft::runtime::{Inboxes, Input, Life};
use raft::storage::{FileStorage, Lineage, OpenOptions, PeerMemory, Start};
use raft::transport::tcp::{TcpOptions, TcpPeer, TcpTransport};
use raft::transport::{Forward, ForwardKind, PeerMessage, Transport};

#[path = "support/runtimes.rs"]
mod runtimes;
#[path = "support/server.rs"]
mod server;

use server::Server;

under_both! {
    messages_arrive_whole_and_in_order,
    a_peer_that_restarts_is_connected_again,
    strangers_are_refused_with_the_reason,
    a_node_that_abstains_may_come_as_another_incarnation,
    a_peer_that_cannot_be_remembered_is_refused_and_the_node_stops,
    a_node_that_keeps_nothing_and_is_remembered_comes_again_when_it_abstains,
    a_node_whose_own_life_is_refused_stops_and_says_why,
    a_dialer_checks_who_answers,
    a_peer_that_hangs_in_the_handshake_does_not_delay_others,
    a_peer_that_never_reads_costs_a_bounded_outbox_and_harms_nobody,
    sending_to_nobody_is_an_error_at_once,
    a_message_over_the_limit_is_not_sent,
    frames_may_come_in_any_pieces_and_incomplete_ones_are_ignored,
    a_node_that_falls_behind_leaves_what_peers_say_in_their_sockets,
    a_newer_connection_replaces_an_older_one,
    no_mutation_gets_through_or_does_harm,
    random_bytes_close_their_connection_and_nothing_else,
    silent_strangers_do_not_keep_peers_out,
    stopping_hangs_up,
}

const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: u64 = 0xc1;
const FRAME_BYTES: usize = 4 << 20;
const OUTBOX_BYTES: usize = 1 << 20;
const INCARNATION: u64 = 77;

fn life(boot: u64) -> Life {
    Life { incarnation: INCARNATION, boot }
}

/// What a node of this life knows of its starts.
fn lineage(life: Life) -> Lineage {
    Start { life, nonce: 1 }.into()
}

/// A message that carries a number and some bytes.
fn numbered(sequence: u64, bytes: usize) -> PeerMessage {
    let payload = Payload::from(vec![sequence as u8; bytes]);
    PeerMessage::Forward(Forward { term: 1, sequence, connection: 0, kind: ForwardKind::Write, payload })
}

/// One node: its transport, and the inbox where what it hears ends up. The transport goes first when dropped.
struct Node {
    transport: TcpTransport,
    inboxes: Inboxes,
    _server: Server,
}

/// Listeners on free ports, and what every node is told about them.
fn ports(count: u64) -> (Vec<TcpListener>, Vec<TcpPeer>) {
    let listeners: Vec<_> = (0..count).map(|_| bind("127.0.0.1", 0, "test").unwrap()).collect();
    let peers = (1..).zip(&listeners).map(|(id, listener)| peer_at(id, listener.local_addr().unwrap())).collect();
    (listeners, peers)
}

fn peer_at(id: u64, address: SocketAddr) -> TcpPeer {
    TcpPeer { id: NodeId(id), host: "127.0.0.1".into(), port: address.port() }
}

fn options(me: u64, boot: u64, peers: &[TcpPeer]) -> TcpOptions {
    TcpOptions {
        me: NodeId(me),
        lineage: lineage(life(boot)),
        abstains: false,
        cluster_id: CLUSTER,
        peers: peers.to_vec(),
        election_timeout: Duration::from_millis(150),
        max_frame_bytes: FRAME_BYTES,
        snapshot_rate_bytes: 1 << 30,
        outbox_bytes: OUTBOX_BYTES,
    }
}

impl Node {
    fn start(options: TcpOptions, listener: TcpListener) -> Node {
        Node::start_with(options, PeerMemory::default(), listener)
    }

    fn start_with(options: TcpOptions, memory: PeerMemory, listener: TcpListener) -> Node {
        let name = format!("node{}", options.me);
        let (server, handle, inboxes) = Server::start(&name, 2);
        let transport = TcpTransport::start(options, memory, handle, server.sockets(), listener).unwrap();
        Node { transport, inboxes, _server: server }
    }

    fn next(&self) -> Input {
        self.inboxes.internal.recv_timeout(PATIENCE).expect("something should have arrived")
    }

    /// Waits for the link to a peer to change; what else arrives is passed over.
    fn await_link(&self, id: u64, expected: bool) {
        loop {
            if let Input::Link { peer, up } = self.next()
                && peer == NodeId(id)
            {
                assert_eq!(up, expected, "link to node {id}");
                return;
            }
        }
    }

    /// The next message, with its sender.
    fn hear(&self) -> (u64, Life, PeerMessage) {
        loop {
            if let Input::Peer { from, life, message } = self.next() {
                return (from.0, life, message);
            }
        }
    }

    fn hear_number(&self) -> (u64, u64) {
        match self.hear() {
            (from, _, PeerMessage::Forward(forward)) => (from, forward.sequence),
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn say(&mut self, to: u64, message: PeerMessage) {
        self.transport.send(NodeId(to), message).expect("the peer is connected");
        self.transport.flush();
    }
}

fn refused(code: RefusalCode, cluster_id: u64, from: u64) -> Handshake {
    Handshake::Refused(Refused { cluster_id, from: NodeId(from), code, reason: "not today".into() })
}

/// Speaks to a node byte by byte.
struct Raw(TcpStream);

fn hello(from: u64, to: u64, boot: u64, dial: u64) -> Hello {
    let (from, to) = (NodeId(from), NodeId(to));
    let purpose = Purpose::Messages { dial };
    let (protocol, life, nonce, earlier) = (PROTOCOL, life(boot), 1, vec![1; boot as usize - 1]);
    Hello { protocol, cluster_id: CLUSTER, from, to, life, nonce, earlier, abstains: false, purpose }
}

/// Node 2's answer in this boot.
fn welcome(boot: u64) -> Welcome {
    let (protocol, from, earlier) = (PROTOCOL, NodeId(2), Vec::new());
    Welcome { protocol, cluster_id: CLUSTER, from, life: life(boot), nonce: 1, earlier, abstains: false }
}

impl Raw {
    fn connect(peer: &TcpPeer) -> Raw {
        let stream = TcpStream::connect((peer.host.as_str(), peer.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw(stream)
    }

    fn introduce(peer: &TcpPeer, hello: Hello) -> (Raw, Handshake) {
        let mut raw = Raw::connect(peer);
        raw.0.write_all(&Handshake::Hello(hello).encode()).unwrap();
        let answer = raw.read_handshake();
        (raw, answer)
    }

    fn welcomed(peer: &TcpPeer, hello: Hello) -> Raw {
        let (raw, answer) = Raw::introduce(peer, hello);
        assert!(matches!(answer, Handshake::Welcome(_)), "{answer:?}");
        raw
    }

    fn read_handshake(&mut self) -> Handshake {
        let mut input = BytesMut::new();
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            input.extend_from_slice(&byte);
            if let Some(frame) = frame::decode(&mut input, handshake::LIMIT_BYTES).unwrap() {
                return Handshake::decode(&frame).unwrap();
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Waits until the node has closed the connection.
    fn await_closed(&mut self) {
        let mut buffer = [0; 256];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
            }
        }
    }
}

fn bytes_of(messages: &[PeerMessage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| peer::encode(message, FRAME_BYTES, &mut bytes).unwrap());
    bytes
}

/// One node, and a place for a second that the test plays itself.
fn node_and_impostor() -> (Node, Vec<TcpPeer>, TcpListener) {
    let (mut listeners, peers) = ports(2);
    let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
    (Node::start(options(1, 1, &peers), first), peers, second)
}

fn messages_arrive_whole_and_in_order() {
    let (listeners, peers) = ports(3);
    let mut nodes: Vec<Node> =
        (1..).zip(listeners).map(|(me, listener)| Node::start(options(me, 1, &peers), listener)).collect();
    for (me, node) in (1..).zip(&nodes) {
        (0..2).for_each(|_| match node.next() {
            Input::Link { peer, up: true } => assert_ne!(peer, NodeId(me)),
            _ => panic!("the first thing to be heard is that links are up"),
        });
    }
    for sequence in 1..=1000 {
        for to in [2, 3] {
            let bytes = if sequence % 100 == 0 { 100_000 } else { sequence as usize % 50 };
            while nodes[0].transport.send(NodeId(to), numbered(sequence, bytes)).is_err() {
                nodes[0].transport.flush();
                std::thread::yield_now();
            }
        }
        if sequence % 7 == 0 {
            nodes[0].transport.flush();
        }
    }
    nodes[0].transport.flush();
    for node in &nodes[1..] {
        for sequence in 1..=1000 {
            assert_eq!(node.hear_number(), (1, sequence));
        }
    }
    let vote = PeerMessage::Raft {
        message: Message { term: Term(3), body: MessageBody::RequestVoteResponse { pre: false, granted: true } },
        payloads: vec![],
    };
    nodes[2].say(1, vote.clone());
    assert_eq!(nodes[0].hear(), (3, life(1), vote));
}

fn a_peer_that_restarts_is_connected_again() {
    let (mut listeners, peers) = ports(2);
    let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
    let mut survivor = Node::start(options(1, 1, &peers), first);
    let mut listener = Some(second);
    for boot in 1..5 {
        let listener = listener.take().unwrap_or_else(|| bind("127.0.0.1", peers[1].port, "test").unwrap());
        let mut node = Node::start(options(2, boot, &peers), listener);
        survivor.await_link(2, true);
        node.await_link(1, true);
        survivor.say(2, numbered(boot, 0));
        assert_eq!(node.hear_number(), (1, boot));
        node.say(1, numbered(boot, 0));
        assert_eq!(survivor.hear(), (2, life(boot), numbered(boot, 0)));
        drop(node);
        survivor.await_link(2, false);
    }
}

fn strangers_are_refused_with_the_reason() {
    let (_node, peers, _listener) = node_and_impostor();
    let refused = |hello: Hello| match Raw::introduce(&peers[0], hello) {
        (mut raw, Handshake::Refused(Refused { cluster_id, from, reason, .. })) => {
            assert_eq!((cluster_id, from), (CLUSTER, NodeId(1)));
            raw.await_closed();
            reason
        }
        (_, other) => panic!("not refused: {other:?}"),
    };
    let good = hello(2, 1, 5, 1);
    assert_eq!(
        refused(Hello { cluster_id: 0xc2, ..good.clone() }),
        "node 2 belongs to cluster 00000000000000c2, node 1 to cluster 00000000000000c1"
    );
    assert_eq!(refused(Hello { to: NodeId(3), ..good.clone() }), "this is node 1, not node 3");
    assert_eq!(refused(Hello { from: NodeId(1), ..good.clone() }), "there is another node 1");
    assert_eq!(refused(Hello { from: NodeId(9), ..good.clone() }), "node 9 is not in the configuration of node 1");
    assert_eq!(refused(Hello { protocol: 1, ..good.clone() }), "protocol version 1, expected 3");

    let _raw = Raw::welcomed(&peers[0], good.clone());
    let purpose = Purpose::Messages { dial: 2 };
    let older = refused(Hello { life: life(4), purpose, ..good.clone() });
    assert!(older.ends_with("an older copy: this is boot 4, but boot 5 was seen"), "{older}");
    let copy = refused(Hello { nonce: 2, purpose, ..good.clone() });
    assert!(copy.ends_with("an older copy: another process was seen in its boot 5"), "{copy}");
    let later = Hello { life: life(7), earlier: vec![6, 2], purpose, ..good.clone() };
    let copy = refused(later.clone());
    assert!(copy.ends_with("an older copy: another process was seen in its boot 5"), "{copy}");
    let other = refused(Hello { life: Life { incarnation: 78, boot: 6 }, purpose, ..good.clone() });
    assert!(other.starts_with("the data folder of node 2 was wiped or replaced"), "{other}");
    assert_eq!(refused(good.clone()), "connection 1 is not newer than connection 1", "a replay");
    Raw::welcomed(&peers[0], Hello { purpose: Purpose::Messages { dial: 2 }, ..good });
    Raw::welcomed(&peers[0], Hello { earlier: vec![6, 1], ..later });
}

fn a_node_that_abstains_may_come_as_another_incarnation() {
    let (node, peers, _listener) = node_and_impostor();
    let former = hello(2, 1, 5, 9);
    let mut raw = Raw::welcomed(&peers[0], former.clone());
    // Whether the number is lower or higher than the one before.
    for incarnation in [INCARNATION + 1, INCARNATION - 1] {
        let again = Hello { life: Life { incarnation, boot: 1 }, abstains: true, ..hello(2, 1, 1, 1) };
        let mut new = Raw::welcomed(&peers[0], again.clone());
        raw.await_closed();
        new.write(&bytes_of(&[numbered(incarnation, 0)]));
        let (from, life, _) = node.hear();
        assert_eq!((from, life), (2, again.life));
        raw = new;
    }
    let (_, Handshake::Refused(refused)) =
        Raw::introduce(&peers[0], Hello { purpose: Purpose::Messages { dial: 10 }, ..former })
    else {
        panic!("the former incarnation is over")
    };
    assert_eq!(refused.code, RefusalCode::OtherIncarnation);
}

fn a_peer_that_cannot_be_remembered_is_refused_and_the_node_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = FileStorage::open(&OpenOptions {
        folder: folder.path().join("data"),
        cluster_id: CLUSTER,
        node: NodeId(1),
        membership: Membership::of_voters([NodeId(1), NodeId(2)]),
        segment_bytes: 64 << 10,
        rejoin: false,
    })
    .unwrap();
    let (mut listeners, peers) = ports(2);
    let (_second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
    let node = Node::start_with(options(1, 1, &peers), storage.take_peers(), first);
    drop(Raw::welcomed(&peers[0], hello(2, 1, 1, 1)));
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    drop(Raw::welcomed(&peers[0], hello(2, 1, 1, 2)));
    let (_, answer) = Raw::introduce(&peers[0], hello(2, 1, 2, 1));
    assert!(matches!(answer, Handshake::Refused(Refused { code: RefusalCode::Other, .. })), "{answer:?}");
    let Input::Failed { reason } = node.next() else { panic!("it goes on") };
    assert!(reason.starts_with("cannot remember the life of node 2: cannot write "), "{reason}");
}

fn a_node_that_keeps_nothing_and_is_remembered_comes_again_when_it_abstains() {
    let (mut listeners, peers) = ports(2);
    let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
    let life = Life { incarnation: 0, boot: 7 };
    let mut node = Node::start(TcpOptions { lineage: lineage(life), ..options(1, 1, &peers) }, first);
    let refuse = || {
        let mut raw = Raw(second.accept().unwrap().0);
        let Handshake::Hello(hello) = raw.read_handshake() else { panic!("it introduces itself") };
        raw.write(&refused(RefusalCode::OtherIncarnation, CLUSTER, 2).encode());
        (hello.life, hello.abstains)
    };
    for _ in 0..2 {
        assert_eq!(refuse(), (life, false), "until the protocol abstains, it does not say so");
        let Input::Forgot { reason } = node.next() else { panic!("it is told that it forgot") };
        assert_eq!(reason, "node 2 says: not today");
    }
    node.transport.abstain();
    let abstaining = (0..3).any(|_| refuse() == (life, true));
    assert!(abstaining, "at most one attempt was under way");
}

fn a_node_whose_own_life_is_refused_stops_and_says_why() {
    for (code, life) in [
        (RefusalCode::OlderBoot, life(1)),
        (RefusalCode::OtherIncarnation, life(1)),
        (RefusalCode::OlderBoot, Life { incarnation: 0, boot: 1 }),
    ] {
        let (mut listeners, peers) = ports(2);
        let (second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap());
        let node = Node::start(TcpOptions { lineage: lineage(life), ..options(1, 1, &peers) }, first);
        let mut raw = Raw(second.accept().unwrap().0);
        raw.read_handshake();
        raw.write(&refused(code, CLUSTER, 2).encode());
        let Input::Failed { reason } = node.next() else { panic!("it goes on") };
        assert!(reason.starts_with("node 2 refuses node 1: not today. "), "{reason}");
        let expected = if life.incarnation == 0 { "correct this machine's clock" } else { "--rejoin" };
        assert!(reason.contains(expected), "{reason}");
    }
}

fn a_dialer_checks_who_answers() {
    let (node, peers, listener) = node_and_impostor();
    let accept = |answer: &Handshake| {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Raw(stream);
        let Handshake::Hello(hello) = raw.read_handshake() else { panic!("not a hello") };
        assert_eq!((hello.from, hello.to, hello.life), (NodeId(1), NodeId(2), life(1)));
        raw.write(&answer.encode());
        let Purpose::Messages { dial } = hello.purpose else { panic!("not for messages") };
        (raw, dial)
    };
    let good = welcome(3);
    let mut last_dial = 0;
    for answer in [
        Handshake::Welcome(Welcome { cluster_id: 1, ..good.clone() }),
        Handshake::Welcome(Welcome { from: NodeId(3), ..good.clone() }),
        Handshake::Welcome(Welcome { protocol: 1, ..good.clone() }),
        refused(RefusalCode::Other, CLUSTER, 2),
        refused(RefusalCode::OlderBoot, 1, 2),
        refused(RefusalCode::OlderBoot, CLUSTER, 3),
        Handshake::Hello(hello(2, 1, 1, 1)),
    ] {
        let (mut raw, dial) = accept(&answer);
        assert!(dial > last_dial, "dials are numbered");
        last_dial = dial;
        raw.await_closed();
    }
    assert!(node.inboxes.internal.is_empty(), "none of these is a link");
    let (raw, _) = accept(&Handshake::Welcome(good.clone()));
    node.await_link(2, true);
    drop(raw);
    node.await_link(2, false);
    for copy in [Welcome { life: life(2), ..good.clone() }, Welcome { life: life(4), earlier: vec![2], ..good.clone() }]
    {
        let (mut raw, _) = accept(&Handshake::Welcome(copy));
        raw.await_closed();
    }
    let (mut raw, _) = accept(&Handshake::Welcome(good));
    node.await_link(2, true);
    raw.write(b"a peer says nothing here");
    node.await_link(2, false);
    assert_eq!(peers.len(), 2);
}

fn a_peer_that_hangs_in_the_handshake_does_not_delay_others() {
    let (mut listeners, peers) = ports(3);
    let (third, _hanging, first) = (listeners.pop().unwrap(), listeners.pop().unwrap(), listeners.pop().unwrap());
    let (node, other) = (Node::start(options(1, 1, &peers), first), Node::start(options(3, 1, &peers), third));
    node.await_link(3, true);
    other.await_link(1, true);
}

/// T80: a peer that never reads.
fn a_peer_that_never_reads_costs_a_bounded_outbox_and_harms_nobody() {
    let (mut listeners, peers) = ports(3);
    let (third, second, first) = (listeners.pop().unwrap(), listeners.pop().unwrap(), listeners.pop().unwrap());
    let mut node = Node::start(options(1, 1, &peers), first);
    // It knows nothing of the deaf one, so that only the other dials that.
    let reader = Node::start(options(3, 1, &[peers[0].clone(), peers[2].clone()]), third);
    let (stream, _) = second.accept().unwrap();
    let mut deaf = Raw(stream);
    deaf.read_handshake();
    deaf.write(&Handshake::Welcome(welcome(1)).encode());
    (0..2).for_each(|_| assert!(matches!(node.next(), Input::Link { up: true, .. })));

    let mut sent = 0;
    while node.transport.send(NodeId(2), numbered(1, 10_000)).is_ok() {
        node.transport.flush();
        sent += 10_000;
        assert!(sent < 100 << 20, "the outbox has no bound");
    }
    for sequence in 1..100 {
        assert!(node.transport.send(NodeId(2), numbered(sequence, 10_000)).is_err());
        node.say(3, numbered(sequence, 10_000));
        assert_eq!(reader.hear_number(), (1, sequence));
    }
    // The kernel gives the connection up by itself, and another is dialed.
    node.await_link(2, false);
    drop(deaf);
    let (stream, _) = second.accept().unwrap();
    Raw(stream).read_handshake();
}

fn sending_to_nobody_is_an_error_at_once() {
    let (listeners, peers) = ports(2);
    let mut node = Node::start(options(1, 1, &peers), listeners.into_iter().next().unwrap());
    assert!(node.transport.send(NodeId(2), numbered(1, 0)).is_err(), "never connected");
    assert!(node.transport.send(NodeId(9), numbered(1, 0)).is_err(), "unknown");
    node.transport.flush();
}

fn a_message_over_the_limit_is_not_sent() {
    let (listeners, peers) = ports(2);
    let mut nodes: Vec<Node> =
        (1..).zip(listeners).map(|(me, listener)| Node::start(options(me, 1, &peers), listener)).collect();
    nodes[0].await_link(2, true);
    assert!(nodes[0].transport.send(NodeId(2), numbered(1, FRAME_BYTES)).is_err());
    nodes[0].say(2, numbered(2, FRAME_BYTES - 100));
    assert_eq!(nodes[1].hear_number(), (1, 2));
}

/// T81: frames are cut anywhere.
fn frames_may_come_in_any_pieces_and_incomplete_ones_are_ignored() {
    let (node, peers, _listener) = node_and_impostor();
    let mut raw = Raw::connect(&peers[0]);
    let mut bytes = Handshake::Hello(hello(2, 1, 1, 1)).encode();
    bytes.extend(bytes_of(&[numbered(1, 3), numbered(2, 0)]));
    bytes.iter().for_each(|byte| raw.write(&[*byte]));
    assert!(matches!(raw.read_handshake(), Handshake::Welcome(_)));
    assert_eq!((node.hear_number(), node.hear_number()), ((2, 1), (2, 2)));

    // Frames that end just before, at and after the boundary of what is read at once.
    for offset in 0..40 {
        let first = numbered(3, (64 << 10) - 20 - offset);
        raw.write(&bytes_of(&[first, numbered(4, 10), numbered(5, 200_000)]));
        assert_eq!([(); 3].map(|()| node.hear_number()), [(2, 3), (2, 4), (2, 5)]);
    }

    let cut = bytes_of(&[numbered(6, 0), numbered(7, 1000)]);
    raw.write(&cut[..cut.len() - 1]);
    assert_eq!(node.hear_number(), (2, 6));
    socket2::SockRef::from(&raw.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(raw);
    let mut raw = Raw::welcomed(&peers[0], hello(2, 1, 1, 2));
    raw.write(&bytes_of(&[numbered(8, 0)]));
    assert_eq!(node.hear_number(), (2, 8), "the half frame before the reset came to nothing");
}

/// T82: frames of an old connection after a new one is up.
fn a_node_that_falls_behind_leaves_what_peers_say_in_their_sockets() {
    const ROOM: usize = 64 << 10;
    const MESSAGES: u64 = 80_000;
    let (node, peers, _impostor) = node_and_impostor();
    let mut raw = Raw::welcomed(&peers[0], hello(2, 1, 1, 1));
    let many = bytes_of(&(0..MESSAGES).map(|number| numbered(number, 0)).collect::<Vec<_>>());
    let writer = std::thread::spawn(move || {
        raw.write(&many);
        raw
    });
    let (waiting, deadline) = (|| node.inboxes.internal.len(), Instant::now() + PATIENCE);
    while waiting() < ROOM {
        assert!(Instant::now() < deadline, "{} messages are waiting", waiting());
        std::thread::sleep(Duration::from_millis(5));
    }
    // Time for more, if there were room.
    std::thread::sleep(Duration::from_millis(100));
    assert!(waiting() < ROOM + 100, "{} messages are waiting", waiting());
    for number in 0..MESSAGES {
        assert_eq!(node.hear_number(), (2, number));
    }
    drop(writer.join());
}

fn a_newer_connection_replaces_an_older_one() {
    let (node, peers, _listener) = node_and_impostor();
    let mut old = Raw::welcomed(&peers[0], hello(2, 1, 1, 1));
    old.write(&bytes_of(&[numbered(1, 0)]));
    assert_eq!(node.hear_number(), (2, 1));
    let mut new = Raw::welcomed(&peers[0], hello(2, 1, 2, 1));
    // The old side may find its connection closed already.
    let _ = old.0.write_all(&bytes_of(&[numbered(2, 0)]));
    old.await_closed();
    new.write(&bytes_of(&[numbered(3, 0)]));
    let (from, heard_life, _) = node.hear();
    assert_eq!((from, heard_life), (2, life(2)));
    assert!(node.inboxes.internal.is_empty(), "nothing of the old connection is delivered");

    let late = Raw::introduce(&peers[0], hello(2, 1, 2, 1)).1;
    assert!(matches!(late, Handshake::Refused(_)), "an old hello that arrives late");
    new.write(&bytes_of(&[numbered(4, 0)]));
    assert_eq!(node.hear_number(), (2, 4), "and the new connection goes on");
}

/// T90: every one-byte mutation of a valid conversation.
fn no_mutation_gets_through_or_does_harm() {
    let (node, peers, _listener) = node_and_impostor();
    let tail = bytes_of(&[numbered(1, 5), numbered(2, 0)]);
    let mut dial = 0;
    for position in 0..tail.len() {
        let mut mutated = tail.clone();
        mutated[position] ^= 1 << (position % 8);
        dial += 1;
        let mut raw = Raw::welcomed(&peers[0], hello(2, 1, 1, dial));
        raw.write(&mutated);
        raw.0.shutdown(std::net::Shutdown::Write).unwrap();
        raw.await_closed();
    }
    let mut raw = Raw::welcomed(&peers[0], hello(2, 1, 1, dial + 1));
    raw.write(&bytes_of(&[numbered(99, 0)]));
    let second_begins = bytes_of(&[numbered(1, 5)]).len();
    let mut firsts = 0;
    loop {
        match node.hear_number().1 {
            99 => break,
            number => {
                assert_eq!(number, 1, "only an undamaged first frame gets through");
                firsts += 1;
            }
        }
    }
    assert_eq!(firsts, tail.len() - second_begins);
}

/// T90: bytes of strangers, wrong lengths, ten thousand connections.
fn random_bytes_close_their_connection_and_nothing_else() {
    let (node, peers, _listener) = node_and_impostor();
    let mut good = Raw::welcomed(&peers[0], hello(2, 1, 1, 1));
    let seed = random_seed();
    println!("seed {seed}");
    let mut random = seed;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let header = frame::MAGIC.iter().copied().chain([1, 0, 1, 0]).collect::<Vec<u8>>();
    for round in 0..10_000u64 {
        let mut raw = Raw::connect(&peers[0]);
        let length = (next(&mut random) % 64) as usize;
        let noise: Vec<u8> = (0..length).map(|_| next(&mut random) as u8).collect();
        let bytes = match round % 5 {
            0 => noise,
            1 => [&header[..], &u32::MAX.to_le_bytes(), &noise].concat(),
            2 => [&header[..], &(1u32 << 31).to_le_bytes(), &noise].concat(),
            3 => [&header[..], &0u32.to_le_bytes(), &noise].concat(),
            _ => [&header[..], &(length as u32).to_le_bytes(), &[0; 4], &noise].concat(),
        };
        // The node may have closed the connection before all is written.
        let _ = raw.0.write_all(&bytes);
        // With fewer bytes the header is not complete yet.
        if matches!(round % 5, 1 | 2) && length >= 4 {
            raw.await_closed();
        }
        if round % 1000 == 0 {
            good.write(&bytes_of(&[numbered(round, 10)]));
            assert_eq!(node.hear_number(), (2, round));
            let _ = raw.0.shutdown(std::net::Shutdown::Write);
            raw.await_closed();
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while descriptors() > before + 2 {
        assert!(Instant::now() < deadline, "{} descriptors, {before} before", descriptors());
        std::thread::yield_now();
    }
}

fn silent_strangers_do_not_keep_peers_out() {
    let (node, peers, _listener) = node_and_impostor();
    let _silent: Vec<Raw> = (0..500).map(|_| Raw::connect(&peers[0])).collect();
    let mut good = Raw::welcomed(&peers[0], hello(2, 1, 1, 1));
    good.write(&bytes_of(&[numbered(1, 0)]));
    assert_eq!(node.hear_number(), (2, 1));
}

fn stopping_hangs_up() {
    let (listeners, peers) = ports(2);
    let mut nodes: Vec<Node> =
        (1..).zip(listeners).map(|(me, listener)| Node::start(options(me, 1, &peers), listener)).collect();
    nodes[0].await_link(2, true);
    nodes[1].await_link(1, true);
    let began = Instant::now();
    drop(nodes.pop());
    assert!(began.elapsed() < Duration::from_secs(2), "stopping took {:?}", began.elapsed());
    nodes[0].await_link(2, false);
}

/// A number that differs from run to run, to be printed.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
