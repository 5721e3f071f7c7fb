//! The log's bytes: segment header, batch, record. `docs/FORMATS.md` has them byte by byte.

use std::fmt;

use crc32fast::Hasher;

use crate::consensus::{
    Entry, EntryHeader, EntryKind, HardState, Index, LogTime, Membership, NodeId, SessionSequence, Term,
};
use crate::mutants::{Mutant, mutant};
use crate::storage::fields::Fields;

/// What a disk writes as a whole. A segment header fills one sector and a batch whole sectors, so that an interrupted
/// write never touches a sector that holds older, synced bytes.
pub const SECTOR_BYTES: usize = 512;
/// Size of the header that precedes the records of a batch.
pub const BATCH_HEADER_BYTES: usize = 24;
/// Size of a record besides its body: length, batch, kind; CRC.
pub const RECORD_OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + CRC_BYTES;

const RECORD_HEADER_BYTES: usize = 9;
const CRC_BYTES: usize = 4;
const SEGMENT_MAGIC: [u8; 8] = *b"RAFT LOG";
const BATCH_MAGIC: [u8; 4] = *b"BTCH";
const VERSION: u32 = 2;

const RECORD_ENTRY: u8 = 1;
const RECORD_HARD_STATE: u8 = 2;
const RECORD_TRUNCATE: u8 = 3;
const RECORD_END: u8 = 4;
const RECORD_INSTALL: u8 = 5;

const ENTRY_NOOP: u8 = 0;
const ENTRY_COMMAND: u8 = 1;
const ENTRY_MEMBERSHIP: u8 = 2;
const ENTRY_TICK: u8 = 3;
const ENTRY_FIXED_BYTES: usize = 26;
const SESSION_BYTES: usize = 16;

/// The CRC of `bytes` as the continuation of what `previous` is the CRC of. The salt is the folder's own random number:
/// no payload can be made to look like records of a folder whose salt its author does not know.
pub fn checksum(previous: u32, salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(if mutant(Mutant::M24b) { 0 } else { previous ^ salt });
    hasher.update(bytes);
    hasher.finalize()
}

/// The CRC of a record, all of it.
fn record_checksum(previous: u32, salt: u32, record: &[u8]) -> u32 {
    let left_out = if mutant(Mutant::M24a) { RECORD_HEADER_BYTES } else { 0 };
    checksum(previous, salt, record.get(left_out..).unwrap_or_default())
}

/// The salt of a data folder's log.
pub fn salt(incarnation: u64) -> u32 {
    incarnation as u32
}

/// What was expected, and what the bytes say instead.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// In words.
    pub expected: String,
    /// In words.
    pub found: String,
}

impl Mismatch {
    pub fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Mismatch { expected: expected.into(), found: found.into() }
    }

    fn crc(of: &str, computed: u32, stored: u32) -> Self {
        Mismatch::new(format!("{of} with the CRC {computed:08x} of its bytes"), format!("the CRC {stored:08x}"))
    }
}

/// The first sector of a segment: whose it is, and how the log goes on from the segment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The data folder's.
    pub incarnation: u64,
    /// 1 for the first segment, then one more each.
    pub number: u64,
    /// Index and term of the log's last entry where the segment begins.
    pub base: (Index, Term),
    /// The number of the segment's first batch.
    pub first_batch: u64,
    /// Term and vote so far, so that no older segment is needed to know them.
    pub hard_state: HardState,
    /// The CRC of the last record of the segment before; 0 in the first.
    pub previous: u32,
    /// Whether the file was a segment before: behind the last batch there may be older ones, instead of zeros.
    pub recycled: bool,
}

impl fmt::Display for SegmentHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentHeader { incarnation, number, base: (index, term), first_batch, hard_state, previous, .. } = self;
        let vote = hard_state.vote.map_or("nobody".into(), |vote| vote.to_string());
        write!(
            f,
            "segment {number} of folder {incarnation:016x}, after entry {index} of term {term}, from batch {first_batch} on, \
             in term {} with a vote for {vote}, after the CRC {previous:08x}",
            hard_state.term
        )
    }
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR_BYTES);
        out.extend(SEGMENT_MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.previous.to_le_bytes());
        for number in [self.incarnation, self.number, self.base.0.0, self.base.1.0, self.first_batch] {
            out.extend(number.to_le_bytes());
        }
        encode_hard_state(&self.hard_state, &mut out);
        out.push(u8::from(self.recycled));
        out.resize(SECTOR_BYTES - CRC_BYTES, 0);
        let crc = checksum(0, 0, &out);
        out.extend(crc.to_le_bytes());
        out
    }

    pub fn decode(sector: &[u8]) -> Result<Self, Mismatch> {
        let short = || Mismatch::new("a segment header", "the end of the file");
        let (covered, crc) = sector.split_last_chunk::<CRC_BYTES>().ok_or_else(short)?;
        let mut fields = Fields(covered);
        if fields.array() != Some(SEGMENT_MAGIC) {
            return Err(Mismatch::new("the magic \"RAFT LOG\" of a segment", "other bytes"));
        }
        let version = fields.u32().ok_or_else(short)?;
        if version != VERSION {
            let found = format!("version {version} (if a newer program wrote the folder, start that one)");
            return Err(Mismatch::new(format!("format version {VERSION}"), found));
        }
        let (computed, stored) = (checksum(0, 0, covered), u32::from_le_bytes(*crc));
        if computed != stored {
            return Err(Mismatch::crc("a segment header", computed, stored));
        }
        let mut decode = || {
            Some(SegmentHeader {
                previous: fields.u32()?,
                incarnation: fields.u64()?,
                number: fields.u64()?,
                base: (index(&mut fields)?, Term(fields.u64()?)),
                first_batch: fields.u64()?,
                hard_state: decode_hard_state(&mut fields)?,
                recycled: fields.u8()? != 0,
            })
        };
        decode().ok_or_else(|| Mismatch::new("a segment header of this format", "other values"))
    }
}

/// What precedes the records of a batch. It is valid or not by itself, so that an intact batch is recognised even when
/// what comes before it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes of the records that follow, up to the end of the batch's last sector.
    pub length_bytes: u32,
    /// 1 for the first batch of the log, then one more each, across segments.
    pub batch: u64,
    /// The CRC of the record before the batch, in this segment or the one before.
    pub previous: u32,
}

impl BatchHeader {
    fn encode(&self, salt: u32) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        out[0..4].copy_from_slice(&BATCH_MAGIC);
        out[4..8].copy_from_slice(&self.length_bytes.to_le_bytes());
        out[8..16].copy_from_slice(&self.batch.to_le_bytes());
        let crc = checksum(self.previous, salt, &out[..16]);
        out[16..20].copy_from_slice(&crc.to_le_bytes());
        // Last, because the four bytes before a record are the CRC of the record before it: here too.
        out[20..24].copy_from_slice(&self.previous.to_le_bytes());
        out
    }

    /// `None` if the bytes are no valid batch header.
    pub fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.array()? != BATCH_MAGIC {
            return None;
        }
        let (length_bytes, batch) = (fields.u32()?, fields.u64()?);
        let (crc, previous) = (fields.u32()?, fields.u32()?);
        let valid = checksum(previous, salt, bytes.get(..16)?) == crc;
        valid.then_some(BatchHeader { length_bytes, batch, previous })
    }
}

/// One step of the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// This entry was appended.
    Entry(EntryHeader, &'a [u8]),
    /// Term and vote from here on.
    HardState(HardState),
    /// The entries from here on were removed; the entry before has this term.
    Truncate(Index, Term),
    /// The log was replaced by a snapshot that ends with this entry, of this term.
    Install(Index, Term),
    /// The batch is complete; the body is zeros up to the end of the sector.
    End,
}

/// A record whose CRC is right, not yet looked into.
#[derive(Debug)]
pub struct RawRecord<'a> {
    /// The low half of its batch's number.
    pub batch: u32,
    /// Its CRC: the next record continues it.
    pub crc: u32,
    kind: u8,
    body: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// The size of the whole record that begins with `head`, of [`RECORD_OVERHEAD_BYTES`].
    pub fn size(head: &[u8]) -> Option<u64> {
        Some(u64::from(Fields(head).u32()?) + RECORD_OVERHEAD_BYTES as u64)
    }

    /// Takes the record that fills `bytes` and continues the CRC `previous`.
    pub fn decode(bytes: &'a [u8], previous: u32, salt: u32) -> Result<Self, Mismatch> {
        let short = || Mismatch::new("a whole record", format!("{} bytes", bytes.len()));
        let (covered, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(short)?;
        let computed = record_checksum(previous, salt, covered);
        let stored = u32::from_le_bytes(*crc);
        if computed != stored {
            return Err(Mismatch::crc("a record", computed, stored));
        }
        let mut fields = Fields(covered);
        let mut decode = || {
            fields.u32()?;
            Some((fields.u32()?, fields.u8()?))
        };
        let (batch, kind) = decode().ok_or_else(short)?;
        Ok(RawRecord { batch, crc: stored, kind, body: fields.0 })
    }

    /// What the record says.
    pub fn record(&self) -> Result<Record<'a>, Mismatch> {
        let mut fields = Fields(self.body);
        let record = match self.kind {
            RECORD_ENTRY => return decode_entry(fields).ok_or_else(|| self.nonsense()),
            RECORD_HARD_STATE => decode_hard_state(&mut fields).map(Record::HardState),
            RECORD_TRUNCATE => index(&mut fields).zip(fields.u64()).map(|(at, term)| Record::Truncate(at, Term(term))),
            RECORD_INSTALL => index(&mut fields).zip(fields.u64()).map(|(at, term)| Record::Install(at, Term(term))),
            RECORD_END if self.body.iter().all(|byte| *byte == 0) => return Ok(Record::End),
            _ => None,
        };
        record.filter(|_| fields.0.is_empty()).ok_or_else(|| self.nonsense())
    }

    fn nonsense(&self) -> Mismatch {
        Mismatch::new("a record of this format", format!("kind {} with {} bytes", self.kind, self.body.len()))
    }
}

/// Encodes the one batch that is under way. The records of consecutive batches are one chain of CRCs.
pub struct BatchEncoder {
    /// Room for the header, then the records.
    bytes: Vec<u8>,
    header: BatchHeader,
    chain: u32,
    /// Size and CRC without the end, once there is one.
    unfinished: Option<(usize, u32)>,
    salt: u32,
}

/// What the buffer keeps allocated from one batch to the next.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

impl BatchEncoder {
    /// For the batch of this number, after the record with the CRC `previous`.
    pub fn new(batch: u64, previous: u32, salt: u32) -> Self {
        let header = BatchHeader { length_bytes: 0, batch, previous };
        BatchEncoder { bytes: vec![0; BATCH_HEADER_BYTES], header, chain: previous, unfinished: None, salt }
    }

    /// Whether the batch has no records yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == BATCH_HEADER_BYTES
    }

    /// Size of the batch so far: where the next record goes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Size of the batch once `more_bytes` of records are added and it is finished.
    pub fn finished_size(&self, more_bytes: u64) -> u64 {
        (self.size() + more_bytes + RECORD_OVERHEAD_BYTES as u64).next_multiple_of(SECTOR_BYTES as u64)
    }

    /// The batch's number.
    pub fn batch(&self) -> u64 {
        self.header.batch
    }

    /// The CRC of the last record.
    pub fn chain(&self) -> u32 {
        self.chain
    }

    pub fn hard_state(&mut self, hard_state: &HardState) {
        self.record(RECORD_HARD_STATE, |out| encode_hard_state(hard_state, out));
    }

    pub fn truncate(&mut self, from: Index, term_before: Term) {
        self.record(RECORD_TRUNCATE, |out| [from.0, term_before.0].map(|number| out.extend(number.to_le_bytes())));
    }

    pub fn install(&mut self, index: Index, term: Term) {
        self.record(RECORD_INSTALL, |out| [index.0, term.0].map(|number| out.extend(number.to_le_bytes())));
    }

    pub fn entry(&mut self, entry: &Entry) {
        self.record(RECORD_ENTRY, |out| encode_entry(entry, out));
    }

    /// Completes the batch and returns its bytes: whole sectors.
    pub fn finish(&mut self) -> &[u8] {
        self.unfinished = Some((self.bytes.len(), self.chain));
        let size = self.finished_size(0) as usize;
        self.record(RECORD_END, |out| out.resize(size - CRC_BYTES, 0));
        self.header.length_bytes = (size - BATCH_HEADER_BYTES) as u32;
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&self.header.encode(self.salt));
        &self.bytes
    }

    /// Takes the end off again: the batch could not be written, and may grow until it can.
    pub fn unfinish(&mut self) {
        if let Some((size, chain)) = self.unfinished.take() {
            self.bytes.truncate(size);
            self.chain = chain;
        }
    }

    /// Begins the next batch, after this one is finished.
    pub fn next_batch(&mut self) {
        self.unfinished = None;
        self.header = BatchHeader { length_bytes: 0, batch: self.header.batch + 1, previous: self.chain };
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.bytes.shrink_to(BUFFER_KEPT_BYTES);
    }

    fn record<R>(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>) -> R) {
        let start = self.bytes.len();
        let [a, b, c, d] = (self.header.batch as u32).to_le_bytes();
        self.bytes.extend([0, 0, 0, 0, a, b, c, d, kind]);
        body(&mut self.bytes);
        let length = (self.bytes.len() - start - RECORD_HEADER_BYTES) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.chain = record_checksum(self.chain, self.salt, &self.bytes[start..]);
        self.bytes.extend(self.chain.to_le_bytes());
    }
}

/// Most bytes that a record of a hard state, an installation or a truncation takes.
pub const SMALL_RECORD_BYTES: u64 = 17 + RECORD_OVERHEAD_BYTES as u64;

/// The bytes that the record of an entry takes.
pub fn entry_record_bytes(entry: &Entry) -> u64 {
    let session = if entry.header.session.is_some() { SESSION_BYTES } else { 0 };
    let membership = match &entry.header.kind {
        EntryKind::Membership(members) => sets(members).map(|set| 4 + 8 * set.len()).iter().sum(),
        _ => 0,
    };
    (RECORD_OVERHEAD_BYTES + ENTRY_FIXED_BYTES + session + membership + entry.payload.len()) as u64
}

fn encode_hard_state(hard_state: &HardState, out: &mut Vec<u8>) {
    out.extend(hard_state.term.0.to_le_bytes());
    out.extend(hard_state.vote.unwrap_or_default().0.to_le_bytes());
    out.push(u8::from(hard_state.vote.is_some()));
}

fn decode_hard_state(fields: &mut Fields<'_>) -> Option<HardState> {
    let (term, vote) = (Term(fields.u64()?), NodeId(fields.u64()?));
    let vote = match fields.u8()? {
        0 => None,
        1 => Some(vote),
        _ => return None,
    };
    Some(HardState { term, vote })
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let header = &entry.header;
    let kind = match header.kind {
        EntryKind::Noop => ENTRY_NOOP,
        EntryKind::Command => ENTRY_COMMAND,
        EntryKind::Membership(_) => ENTRY_MEMBERSHIP,
        EntryKind::Tick => ENTRY_TICK,
    };
    let mut fixed = [0; ENTRY_FIXED_BYTES];
    fixed[0..8].copy_from_slice(&header.index.0.to_le_bytes());
    fixed[8..16].copy_from_slice(&header.term.0.to_le_bytes());
    fixed[16..24].copy_from_slice(&header.time.0.to_le_bytes());
    fixed[24] = kind;
    fixed[25] = u8::from(header.session.is_some());
    out.extend_from_slice(&fixed);
    if let Some(session) = header.session {
        out.extend(session.session.to_le_bytes());
        out.extend(session.sequence.to_le_bytes());
    }
    if let EntryKind::Membership(members) = &header.kind {
        for set in sets(members) {
            out.extend((set.len() as u32).to_le_bytes());
            set.iter().for_each(|id| out.extend(id.0.to_le_bytes()));
        }
    }
    out.extend_from_slice(&entry.payload);
}

/// An index that can be counted on from.
fn index(fields: &mut Fields<'_>) -> Option<Index> {
    fields.u64().filter(|index| *index <= u64::MAX / 2).map(Index)
}

fn decode_entry(mut fields: Fields<'_>) -> Option<Record<'_>> {
    let (index, term, time) = (index(&mut fields)?, Term(fields.u64()?), LogTime(fields.u64()?));
    let (kind, has_session) = (fields.u8()?, fields.u8()?);
    let session = match has_session {
        0 => None,
        1 => Some(SessionSequence { session: fields.u64()?, sequence: fields.u64()? }),
        _ => return None,
    };
    let kind = match kind {
        ENTRY_NOOP => EntryKind::Noop,
        ENTRY_COMMAND => EntryKind::Command,
        ENTRY_MEMBERSHIP => EntryKind::Membership(decode_membership(&mut fields)?.into()),
        ENTRY_TICK => EntryKind::Tick,
        _ => return None,
    };
    let size = u32::try_from(fields.0.len()).ok()?;
    Some(Record::Entry(EntryHeader { index, term, kind, time, session, size }, fields.0))
}

fn sets(members: &Membership) -> [&std::collections::BTreeSet<NodeId>; 3] {
    [&members.voters, &members.outgoing, &members.learners]
}

fn decode_membership(fields: &mut Fields<'_>) -> Option<Membership> {
    let mut set = || {
        let count = fields.u32()?;
        Some(fields.u64s(count)?.map(NodeId).collect())
    };
    Some(Membership { voters: set()?, outgoing: set()?, learners: set()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;
    use crate::storage::conformance::command;

    const SALT: u32 = 0x5a17;

    fn entries() -> Vec<Entry> {
        let members = Membership { learners: [NodeId(9)].into(), ..Membership::of_voters([NodeId(1), NodeId(2)]) };
        let mut entries: Vec<Entry> = (1..=4).map(|index| command(index, 7)).collect();
        entries[1].header.kind = EntryKind::Membership(members.into());
        entries[2].header.session = Some(SessionSequence { session: 3, sequence: 4 });
        entries[3].header.kind = EntryKind::Tick;
        entries
    }

    #[test]
    fn a_batch_is_decoded_as_it_was_encoded() {
        let mut encoder = BatchEncoder::new(5, 0xfeed, SALT);
        for entry in entries() {
            let before = encoder.size();
            encoder.entry(&entry);
            assert_eq!(encoder.size() - before, entry_record_bytes(&entry));
        }
        let bytes = encoder.finish().to_vec();
        let header = BatchHeader::decode(&bytes, SALT).unwrap();
        assert_eq!(header, BatchHeader { length_bytes: bytes.len() as u32 - 24, batch: 5, previous: 0xfeed });
        let (mut at, mut chain) = (BATCH_HEADER_BYTES, header.previous);
        for entry in entries() {
            let end = at + RawRecord::size(&bytes[at..]).unwrap() as usize;
            let raw = RawRecord::decode(&bytes[at..end], chain, SALT).unwrap();
            assert_eq!(raw.record(), Ok(Record::Entry(entry.header, &entry.payload)));
            assert!(RawRecord::decode(&bytes[at..end], chain ^ 1, SALT).is_err(), "another record before it");
            assert!(RawRecord::decode(&bytes[at..end], chain, SALT ^ 1).is_err(), "another folder");
            (at, chain) = (end, raw.crc);
        }
        assert_eq!(RawRecord::decode(&bytes[at..], chain, SALT).unwrap().record(), Ok(Record::End));
    }

    #[test]
    fn a_batch_fills_whole_sectors() {
        for size in 0..2 * SECTOR_BYTES {
            let mut entry = command(1, 1);
            entry.payload = vec![1; size].into();
            let mut encoder = BatchEncoder::new(1, 0, SALT);
            let expected = encoder.finished_size(entry_record_bytes(&entry));
            encoder.entry(&entry);
            assert_eq!(encoder.finish().len() as u64, expected);
            assert_eq!(expected % SECTOR_BYTES as u64, 0);
        }
    }

    proptest! {
        #[test]
        fn bytes_that_make_no_sense_are_an_error(kind in 0..7_u8, body in prop::collection::vec(any::<u8>(), 0..80)) {
            // Sizes of sets that a membership cannot have must not be allocated; nothing panics.
            let _ = RawRecord { batch: 1, crc: 0, kind, body: &body }.record();
            let _ = RawRecord::decode(&body, 0, SALT);
            let _ = RawRecord::size(&body);
            let _ = BatchHeader::decode(&body, SALT);
            let _ = SegmentHeader::decode(&body);
        }
    }
}
