//! What a stopped node has on its disk: verified as `raft check` does it, compared with others, and applied from nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use raft::consensus::{Entry, EntryKind, Index};
use raft::machine::{Applied, Machine};
use raft::storage::inspect::{DataFolder, Item, Record};

use super::historian::Historian;

/// The log of a node.
pub struct Log {
    entries: BTreeMap<Index, Entry>,
}

/// Reads the log in this folder. Nothing in it may be damaged, or not belong there.
#[track_caller]
pub fn read(folder: &Path) -> Log {
    let mut entries = BTreeMap::new();
    let mut collect = |item: Item| match item {
        Item::Record { record: Record::Entry(entry), .. } => drop(entries.insert(entry.header.index, entry)),
        Item::Record { record: Record::Truncate(from, _), .. } => drop(entries.split_off(&from)),
        Item::Record { record: Record::Install(..), .. } => entries.clear(),
        _ => {}
    };
    let folder = DataFolder::open(folder).expect("a data folder that nobody uses");
    let findings = folder.inspect(Arc::new(|_| ()), &mut collect);
    assert!(findings.problems.is_empty() && findings.warnings.is_empty(), "{findings:?}");
    Log { entries }
}

impl Log {
    /// The index of the last entry.
    pub fn last(&self) -> Option<Index> {
        self.entries.keys().next_back().copied()
    }

    /// Two logs that have an entry of the same index and term are the same up to there (Raft paper §5.3, figure 3).
    #[track_caller]
    pub fn assert_matches(&self, other: &Log) {
        let mut agreed = false;
        for (index, entry) in self.entries.iter().rev() {
            let Some(theirs) = other.entries.get(index) else { continue };
            agreed |= entry.header.term == theirs.header.term;
            assert!(!agreed || entry == theirs, "{entry:?} is not {theirs:?}");
        }
    }

    /// Applies the log to a new machine, and returns the state's digest at first and after each command.
    #[track_caller]
    pub fn replay(&self) -> BTreeMap<Index, u64> {
        assert_eq!(self.entries.keys().next(), Some(&Index(1)), "this log has never lost its beginning");
        let mut machine = Historian::default();
        let mut digests = BTreeMap::from([(Index(0), machine.digest())]);
        let commands = self.entries.values().filter(|entry| entry.header.kind == EntryKind::Command);
        for Entry { header, payload } in commands {
            let (index, time, session) = (header.index, header.time, header.session);
            machine.apply(Applied { index, time, session, command: &payload.0, is_awaited: true });
            digests.insert(index, machine.digest());
        }
        digests
    }
}
