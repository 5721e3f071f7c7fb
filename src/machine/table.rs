//! A table of the replicated state: a map that can be copied at once, keeps a hash of itself, and travels in snapshots.

use std::io::{self, Read, Write};
use std::ops::Bound;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use twox_hash::XxHash3_64;

use super::cow_map::CowMap;
use super::image::{invalid, read_array, read_bytes, read_u64};
use crate::codec::binary;

/// Rows in order of key.
#[derive(Clone, Debug)]
pub(super) struct Table<V> {
    rows: CowMap<V>,
    digest: u64,
    /// Tells this table's rows from another's, in the digest and in snapshots.
    number: u32,
    /// Where rows are encoded to be hashed; empty in between, kept for its memory.
    scratch: Vec<u8>,
}

/// Room for encoded rows that is kept from one to the next.
const KEPT_SCRATCH_BYTES: usize = 16 << 10;

impl<V: Clone + Serialize> Table<V> {
    /// An empty table of this number.
    pub fn new(number: u32) -> Self {
        Table { rows: CowMap::default(), digest: 0, number, scratch: Vec::new() }
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.rows.len()
    }

    /// The sum of a hash of each row: it does not depend on how the table came to be.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// One row.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.rows.get(key)
    }

    /// The rows from this key on.
    pub fn from(&self, key: &[u8]) -> impl Iterator<Item = (&Bytes, &V)> {
        self.rows.range(Bound::Included(key))
    }

    /// The rows whose keys begin so.
    pub fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a V)> {
        self.from(prefix).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Adds a row, in place of the one with this key.
    pub fn insert(&mut self, key: Bytes, row: V) {
        let of_key = key_digest(self.number, &key);
        let after = row_digest(of_key, &row, &mut self.scratch);
        let old = self.rows.insert(key, row);
        let before = old.map_or(0, |old| row_digest(of_key, &old, &mut self.scratch));
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// Changes a row, if it is there, and returns what `change` does.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let row = self.rows.get_mut(key)?;
        let of_key = key_digest(self.number, key);
        let before = row_digest(of_key, row, &mut self.scratch);
        let result = change(row);
        let after = row_digest(of_key, row, &mut self.scratch);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        Some(result)
    }

    /// Removes a row.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        let row = self.rows.remove(key)?;
        let of_row = row_digest(key_digest(self.number, key), &row, &mut self.scratch);
        self.digest = self.digest.wrapping_sub(of_row);
        Some(row)
    }

    /// Removes the rows from one key up to another, whose row stays, and shows each of them.
    pub fn remove_range(&mut self, from: &[u8], to: &[u8], mut visit: impl FnMut(&Bytes, &V)) {
        let (mut digest, mut scratch) = (self.digest, std::mem::take(&mut self.scratch));
        for (key, row) in self.from(from).take_while(|(key, _)| key[..] < *to) {
            visit(key, row);
            digest = digest.wrapping_sub(row_digest(key_digest(self.number, key), row, &mut scratch));
        }
        (self.digest, self.scratch) = (digest, scratch);
        self.rows.remove_range(from, to);
    }

    /// Writes the table, and lets go of it on the way: its number, the number of rows, then each row's key and value with
    /// their lengths.
    pub fn write(self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&self.number.to_le_bytes())?;
        to.write_all(&self.rows.len().to_le_bytes())?;
        let mut bytes = Vec::new();
        self.rows.consume(|key, row| {
            bytes.clear();
            binary::encode_into(row, &mut bytes);
            let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| invalid("a row above 4 GiB"));
            to.write_all(&length(key)?.to_le_bytes())?;
            to.write_all(&length(&bytes)?.to_le_bytes())?;
            to.write_all(key)?;
            to.write_all(&bytes)
        })
    }
}

impl<V: Clone + Serialize + DeserializeOwned> Table<V> {
    /// Reads back what [`write`](Table::write) wrote after the number.
    pub fn read(number: u32, from: &mut dyn Read) -> io::Result<Self> {
        let mut table = Table::new(number);
        let mut last: Option<Bytes> = None;
        for row in 1..=read_u64(from)? {
            let lengths: [u32; 2] = [u32::from_le_bytes(read_array(from)?), u32::from_le_bytes(read_array(from)?)];
            let [key, value] = [read_bytes(from, lengths[0] as usize)?, read_bytes(from, lengths[1] as usize)?];
            if last.is_some_and(|last| last >= key) {
                return Err(invalid(format!("row {row} of table {number} is out of order")));
            }
            let value =
                binary::decode(&value).map_err(|error| invalid(format!("row {row} of table {number}: {error}")))?;
            last = Some(key.clone());
            table.insert(key, value);
        }
        Ok(table)
    }
}

fn key_digest(number: u32, key: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(u64::from(number), key)
}

/// What a row adds to the digest.
fn row_digest<V: Serialize>(of_key: u64, row: &V, scratch: &mut Vec<u8>) -> u64 {
    binary::encode_into(row, scratch);
    let digest = XxHash3_64::oneshot_with_seed(of_key, scratch);
    scratch.clear();
    scratch.shrink_to(KEPT_SCRATCH_BYTES);
    digest
}

/// A key made of numbers, in their order.
pub(super) fn key<const N: usize>(numbers: [u64; N]) -> Bytes {
    let mut bytes = Vec::with_capacity(8 * N);
    numbers.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes.into()
}

/// The number at this place of a [`key`].
pub(super) fn number_of(key: &[u8], place: usize) -> Option<u64> {
    key.get(8 * place..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}
