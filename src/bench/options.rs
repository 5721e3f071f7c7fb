//! What a run does.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to send requests: to the first, and when a connection is lost, to the next.
    pub addresses: Vec<SocketAddr>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// How many clients, each with one request at a time. At least 1.
    pub clients: usize,
    /// How many connections they share. At least 1; those beyond the number of clients are not opened.
    pub connections: usize,
    /// How long to measure.
    pub time: Duration,
    /// What is asked, in what proportion.
    pub mix: Mix,
    /// Bytes of a value or message.
    pub value_size: usize,
    /// How many keys, 1 to 100,000,000; each is as likely.
    pub keys: u64,
    /// Puts append to a list, and gets take from it, instead of setting and getting keys; not with etcd, which has none.
    pub queue: bool,
    /// A connection with a request that was not answered for so long counts as lost.
    pub timeout: Duration,
    /// Decides the order of puts and gets, and their keys.
    pub seed: u64,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The Redis protocol.
    Redis,
    /// etcd's version 3: gRPC.
    Etcd,
}

/// The proportion of puts and gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// So many puts.
    pub put: u32,
    /// For so many gets.
    pub get: u32,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sets a key, or appends to the list.
    Put,
    /// Gets a key, or takes from the list.
    Get,
}

impl Options {
    /// The number of clients of each connection.
    pub(super) fn shares(&self) -> impl Iterator<Item = usize> {
        let count = self.connections.min(self.clients).max(1);
        (0..count).map(move |number| (self.clients + count - 1 - number) / count)
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Mix { put: 0, get: 0 };
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or_else(|| expected(part))?;
            let place = match name.trim() {
                "put" => &mut mix.put,
                "get" => &mut mix.get,
                _ => return Err(expected(part)),
            };
            *place = share.trim().parse().ok().filter(|share| *share <= 1_000_000).ok_or_else(|| expected(part))?;
        }
        match mix.put + mix.get {
            0 => Err("nothing to do: a share must be above 0, as in put=50,get=50".into()),
            _ => Ok(mix),
        }
    }
}

fn expected(part: &str) -> String {
    format!("{part:?} is neither put=N nor get=N, N from 0 to 1000000, as in put=50,get=50")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_names_shares() {
        assert_eq!("put=50,get=50".parse(), Ok(Mix { put: 50, get: 50 }));
        assert_eq!("get=1".parse(), Ok(Mix { put: 0, get: 1 }));
        for wrong in ["", "put", "put=x", "del=5", "put=0,get=0", "put=-1", "put=4294967295,get=1"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong:?}");
        }
    }
}
