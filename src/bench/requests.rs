//! Requests, drawn and written without allocating.

use super::grpc;
use super::options::{Kind, Options, Protocol};
use crate::client::encode;
use crate::consensus::Random;

/// A key, before its number is known. All are as long as each other.
const KEY: &[u8] = b"bench-00000000";
/// The list of `--queue`.
const LIST: &[u8] = b"bench-queue";
const DIGITS: usize = 8;

/// Draws requests.
pub struct Requests {
    random: Random,
    put_share: u64,
    all_shares: u64,
    keys: u64,
    put: Template,
    get: Template,
    /// The next key to be filled; `keys` when all are.
    fill: u64,
}

/// A request whose key has yet to be filled in.
struct Template {
    bytes: Vec<u8>,
    /// Where the digits of the key are, unless it has none.
    digits: Option<usize>,
}

impl Requests {
    /// What these options ask for, and before that a put for each key, if any will be asked for.
    pub fn new(options: &Options) -> Self {
        let value = vec![b'x'; options.value_size];
        let (put, get) = match options.protocol {
            Protocol::Redis if options.queue => (encode(&[b"RPUSH", LIST, &value]), encode(&[b"LPOP", LIST])),
            Protocol::Redis => (encode(&[b"SET", KEY, &value]), encode(&[b"GET", KEY])),
            Protocol::Etcd => (grpc::put(KEY, &value), grpc::range(KEY)),
        };
        Requests {
            random: Random::new(options.seed),
            put_share: options.mix.put.into(),
            all_shares: u64::from(options.mix.put) + u64::from(options.mix.get),
            keys: options.keys,
            put: Template::new(put),
            get: Template::new(get),
            fill: if options.queue || options.mix.get == 0 { options.keys } else { 0 },
        }
    }

    /// Whether keys are being filled.
    pub fn is_filling(&self) -> bool {
        self.fill < self.keys
    }

    /// The other keys are left as they are.
    pub fn stop_filling(&mut self) {
        self.fill = self.keys;
    }

    /// Writes the next request.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Kind {
        if self.is_filling() {
            self.put.write(self.fill, out);
            self.fill += 1;
            return Kind::Put;
        }
        let key = self.random.below(self.keys);
        if self.random.below(self.all_shares) < self.put_share {
            self.put.write(key, out);
            Kind::Put
        } else {
            self.get.write(key, out);
            Kind::Get
        }
    }
}

impl Template {
    fn new(bytes: Vec<u8>) -> Self {
        let key = bytes.windows(KEY.len()).position(|part| part == KEY);
        Template { bytes, digits: key.map(|key| key + KEY.len() - DIGITS) }
    }

    fn write(&self, key: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let digits = self.digits.and_then(|at| out.get_mut(start + at..start + at + DIGITS));
        let mut rest = key;
        for digit in digits.unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::options::Mix;
    use super::*;

    fn requests(mix: Mix, queue: bool) -> Requests {
        let (time, timeout) = (Duration::from_secs(1), Duration::from_secs(1));
        Requests::new(&Options {
            addresses: Vec::new(),
            protocol: Protocol::Redis,
            clients: 1,
            connections: 1,
            time,
            mix,
            value_size: 3,
            keys: 12,
            queue,
            timeout,
            seed: 7,
        })
    }

    fn next(requests: &mut Requests) -> (Kind, String) {
        let mut out = b"before".to_vec();
        let kind = requests.next(&mut out);
        (kind, String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned())
    }

    #[test]
    fn keys_are_filled_before_they_are_asked_for() {
        let mut requests = requests(Mix { put: 0, get: 1 }, false);
        for key in 0..12 {
            assert!(requests.is_filling());
            let put = format!("*3\r\n$3\r\nSET\r\n$14\r\nbench-{key:08}\r\n$3\r\nxxx\r\n");
            assert_eq!(next(&mut requests), (Kind::Put, put));
        }
        assert!(!requests.is_filling());
        for _ in 0..100 {
            let (kind, get) = next(&mut requests);
            assert_eq!(kind, Kind::Get);
            let key: u64 = get.lines().last().unwrap().strip_prefix("bench-").unwrap().parse().unwrap();
            assert!(key < 12);
        }
    }

    #[test]
    fn shares_and_keys_are_drawn_evenly() {
        let mut requests = requests(Mix { put: 1, get: 3 }, false);
        requests.stop_filling();
        let drawn: Vec<_> = (0..12_000).map(|_| next(&mut requests)).collect();
        let puts = drawn.iter().filter(|(kind, _)| *kind == Kind::Put).count();
        assert!((2_800..3_200).contains(&puts), "{puts} of 12000");
        let of_one = drawn.iter().filter(|(_, request)| request.contains("bench-00000011")).count();
        assert!((850..1_150).contains(&of_one), "{of_one} of 12000");
    }

    #[test]
    fn a_queue_is_not_filled() {
        let mut requests = requests(Mix { put: 1, get: 1 }, true);
        let drawn: Vec<_> = (0..100).map(|_| next(&mut requests).1).collect();
        assert!(drawn.contains(&"*3\r\n$5\r\nRPUSH\r\n$11\r\nbench-queue\r\n$3\r\nxxx\r\n".to_owned()));
        assert!(drawn.contains(&"*2\r\n$4\r\nLPOP\r\n$11\r\nbench-queue\r\n".to_owned()));
    }
}
