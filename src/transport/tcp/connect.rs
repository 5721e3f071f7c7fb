//! A connection to a peer, from the look-up of its name to the end of the handshake. Waits, but never long.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};

use super::{Shared, TcpPeer};
use crate::codec::frame::{self, Frame};
use crate::codec::handshake::{self, Handshake, Hello, PROTOCOL, Purpose, RefusalCode, Refused, Welcome};
use crate::consensus::NodeId;
use crate::runtime::{Input, Life};
use crate::storage::{Lineage, Start};

/// Bounds of the time for one connection attempt, and for one handshake.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

impl Shared {
    /// Connects to a peer, and introduces this node.
    pub(super) fn connect(&self, to: NodeId, purpose: Purpose) -> Result<(TcpStream, Life), String> {
        let peer = self.peers.get(&to).ok_or("no such node")?;
        let TcpPeer { host, port, .. } = &peer.address;
        let addresses = (host.as_str(), *port).to_socket_addrs();
        let addresses = addresses.map_err(|error| format!("cannot look up {host}: {error}"))?;
        let stream = self.reach(addresses).map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
        let life = self.shake_hands(&stream, to, purpose).map_err(|reason| format!("{host}:{port}: {reason}"))?;
        Ok((stream, life))
    }

    fn patience(&self) -> Duration {
        (2 * self.options.election_timeout).clamp(PATIENCE.0, PATIENCE.1)
    }

    fn reach(&self, addresses: impl Iterator<Item = SocketAddr>) -> std::io::Result<TcpStream> {
        let mut failure = std::io::Error::new(ErrorKind::NotFound, "the name stands for no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.patience()) {
                Ok(stream) => return self.prepare(&stream).map(|()| stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// A peer that is gone without a word must be noticed, whether there is something to send or not.
    fn prepare(&self, stream: &TcpStream) -> std::io::Result<()> {
        let silence = self.options.silence();
        let keepalive = TcpKeepalive::new().with_time(silence).with_interval(silence);
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(silence))?;
        stream.set_nodelay(true)
    }

    fn shake_hands(&self, mut stream: &TcpStream, to: NodeId, purpose: Purpose) -> Result<Life, String> {
        let options = &self.options;
        let Lineage { start: Start { life, nonce }, earlier } = &options.lineage;
        let (life, nonce) = (*life, *nonce);
        let hello = Hello {
            protocol: PROTOCOL,
            cluster_id: options.cluster_id,
            from: options.me,
            to,
            life,
            nonce,
            earlier: earlier.clone(),
            abstains: self.abstains(),
            purpose,
        };
        let patience = self.patience();
        stream.set_write_timeout(Some(patience)).map_err(|error| error.to_string())?;
        stream.write_all(&Handshake::Hello(hello).encode()).map_err(|error| format!("no handshake: {error}"))?;
        let answer = read_frame(stream, &mut BytesMut::new(), handshake::LIMIT_BYTES, patience)?;
        match Handshake::decode(&answer).map_err(|error| error.to_string())? {
            Handshake::Welcome(welcome) => {
                let Welcome { cluster_id, from, life, abstains, .. } = welcome;
                self.check_identity(cluster_id, from)?;
                if from != to {
                    return Err(format!("node {from} answers there"));
                }
                let admitted = self.admit(from, &welcome.lineage(), abstains);
                admitted.map(|()| life).map_err(|error| error.to_string())
            }
            Handshake::Refused(refused) => Err(self.refused(to, refused)),
            Handshake::Hello(_) => Err("answers a handshake with another".into()),
        }
    }

    /// The peer refuses this node. If that is because of this node's own life, the node stops: it has forgotten what it
    /// promised, which no other attempt mends, and one peer who knows that is enough. One that never keeps anything abstains
    /// instead. Only the node that was dialed, in this cluster, can say so.
    fn refused(&self, dialed: NodeId, refused: Refused) -> String {
        let options = &self.options;
        let Refused { cluster_id, from, code, reason } = refused;
        let is_from_dialed = (cluster_id, from) == (options.cluster_id, dialed);
        if is_from_dialed && code == RefusalCode::OtherIncarnation && options.life().keeps_nothing() {
            // No reason to stop: it has promised nothing yet in this life, and abstains before it is welcome.
            self.handle.deliver(Input::Forgot { reason: format!("node {from} says: {reason}") });
        } else if is_from_dialed && let Some(ways_out) = ways_out(code, options.life()) {
            let mut reason = format!("node {from} refuses node {}: {reason}. {ways_out}", options.me);
            if code == RefusalCode::OlderBoot
                && let Err(error) = self.disown()
            {
                reason = format!("{reason}. Also, {error}");
            }
            self.handle.deliver(Input::Failed { reason });
        }
        format!("refused: {reason}")
    }
}

/// What a node can do whose life is refused, for people; `None` if it is something else that is refused.
fn ways_out(code: RefusalCode, life: Life) -> Option<&'static str> {
    match code {
        RefusalCode::Other => None,
        _ if life.keeps_nothing() => Some(
            "This node keeps nothing on disk (InMemoryStorage), and the time of its start takes the place of a data folder: \
             correct this machine's clock and start the node again",
        ),
        RefusalCode::OlderBoot | RefusalCode::OtherIncarnation => Some(
            "What this node promised since is not in this folder: votes it cast, entries it acknowledged. If the folder it \
             ran with last still exists, put that back (never an older copy). If it is lost, start the node once with \
             --rejoin: it receives everything again, but neither votes nor counts towards a majority any more",
        ),
    }
}

/// Reads one frame before the patience ends. What comes after it stays in `input`.
pub(super) fn read_frame(
    mut stream: &TcpStream,
    input: &mut BytesMut,
    limit: usize,
    patience: Duration,
) -> Result<Frame, String> {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 256];
    loop {
        if let Some(frame) = frame::decode(input, limit).map_err(|error| error.to_string())? {
            return Ok(frame);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {} ms", patience.as_millis()));
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).map_err(|error| error.to_string())?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err("closed the connection instead of answering".into()),
            Ok(count) => input.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if is_interruption(error.kind()) => {}
            Err(error) => return Err(format!("no answer: {error}")),
        }
    }
}

fn is_interruption(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
