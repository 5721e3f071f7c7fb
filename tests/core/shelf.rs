//! A log as the harness keeps it, once for each driver and once for each disk.

use raft::consensus::{EntryHeader, Index, SnapshotMeta, Term};

/// Entries after a base, in order.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    base: (Index, Term),
    entries: Vec<EntryHeader>,
}

impl Shelf {
    /// Nothing after this snapshot.
    pub fn after(snapshot: &SnapshotMeta) -> Self {
        Shelf { base: (snapshot.index, snapshot.term), entries: Vec::new() }
    }

    /// Index of the last entry, or of the base.
    pub fn last(&self) -> Index {
        Index(self.base.0.0 + self.entries.len() as u64)
    }

    /// Term of the last entry, or of the base.
    pub fn last_term(&self) -> Term {
        self.entries.last().map_or(self.base.1, |entry| entry.term)
    }

    /// Index of the entry before the first.
    pub fn base(&self) -> Index {
        self.base.0
    }

    fn position(&self, index: Index) -> Option<usize> {
        index.0.checked_sub(self.base.0.0 + 1).map(|position| position as usize)
    }

    /// The entry at this index.
    pub fn get(&self, index: Index) -> Option<&EntryHeader> {
        self.entries.get(self.position(index)?)
    }

    /// Term of the entry at this index, the base included.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.0 { Some(self.base.1) } else { self.get(index).map(|entry| entry.term) }
    }

    /// Whether the entry at `index` is of this term; what lies below the base is committed, and so is taken for granted.
    pub fn agrees(&self, index: Index, term: Option<Term>) -> bool {
        index < self.base.0 || term.is_none() || self.term_at(index) == term
    }

    /// The entries `first..=last`, which must all be there.
    pub fn range(&self, first: Index, last: Index) -> &[EntryHeader] {
        let first = self.position(first).expect("the range begins above the base");
        let end = self.position(last).expect("the range ends above the base") + 1;
        self.entries.get(first..end).expect("the range is in the log")
    }

    /// Every entry from this index on.
    pub fn from(&self, first: Index) -> &[EntryHeader] {
        let skipped = self.position(first).unwrap_or(0);
        self.entries.get(skipped..).unwrap_or_default()
    }

    /// Appends entries that follow the last one.
    pub fn append(&mut self, entries: &[EntryHeader]) {
        for entry in entries {
            assert_eq!(entry.index, self.last().next(), "entries are appended without a gap");
            self.entries.push(entry.clone());
        }
    }

    /// Removes this entry and all after it.
    pub fn truncate(&mut self, from: Index) {
        let kept = self.position(from).expect("only what is above the base can be removed");
        self.entries.truncate(kept);
    }

    /// Forgets the entries up to this one, as far as they are there.
    pub fn compact(&mut self, upto: Index) {
        let upto = upto.min(self.last());
        if let (Some(position), Some(term)) = (self.position(upto), self.term_at(upto)) {
            self.entries.drain(..=position);
            self.base = (upto, term);
        }
    }

    /// The terms of all entries, for people.
    pub fn terms(&self) -> String {
        let terms: Vec<_> = self.entries.iter().map(|entry| entry.term.to_string()).collect();
        terms.join(" ")
    }
}
