//! Every state machine goes through the same states, one entry at a time (Raft paper §5.3: state machine safety).

use bytes::Bytes;

use super::{Check, Oracle, hold, term_at};
use crate::consensus::{EntryHeader, EntryKind, Index, NodeId, Payload, Term};
use crate::machine::{Applied, Composite, Machine};

/// Everything that was ever committed, and what one machine made of it.
#[derive(Default)]
pub struct Chain {
    /// From entry 1 on.
    terms: Vec<Term>,
    /// The term of whoever committed it first.
    committed_in: Vec<Term>,
    /// The state's hash after each entry.
    digests: Vec<u64>,
    /// The command and its answer; nothing for other entries.
    commands: Vec<Option<(Bytes, Bytes)>>,
    machine: Composite,
}

impl Chain {
    pub fn last(&self) -> Index {
        Index(self.terms.len() as u64)
    }

    pub fn term_at(&self, index: Index) -> Option<Term> {
        term_at(&self.terms, index)
    }

    pub fn committed_in(&self, index: Index) -> Option<Term> {
        term_at(&self.committed_in, index)
    }

    /// The last entry that was committed in a term before this one.
    pub fn last_committed_before(&self, term: Term) -> Index {
        Index(self.committed_in.partition_point(|by| *by < term) as u64)
    }

    /// The terms of the entries up to this one, as far as they are committed.
    pub fn terms_up_to(&self, index: Index) -> Vec<Term> {
        self.terms[..self.terms.len().min(index.0 as usize)].to_vec()
    }

    /// The answer to the command of this entry.
    pub fn answer(&self, index: Index) -> Option<&Bytes> {
        let (_, answer) = self.commands.get(index.0.checked_sub(1)? as usize)?.as_ref()?;
        Some(answer)
    }

    /// The next entry is committed. Whether what clients have stored has changed by it, and not just with time.
    pub fn extend(&mut self, header: &EntryHeader, payload: &Payload, by: Term) -> bool {
        self.terms.push(header.term);
        self.committed_in.push(by);
        self.machine.advance(header.index, header.time);
        let before = self.machine.stored_digest();
        let command = (header.kind == EntryKind::Command).then(|| {
            let applied = Applied {
                index: header.index,
                time: header.time,
                session: header.session,
                command: &payload.0,
                is_awaited: true,
            };
            (payload.0.clone(), self.machine.apply(applied))
        });
        let has_changed = self.machine.stored_digest() != before;
        self.commands.push(command);
        self.digests.push(self.machine.digest());
        has_changed
    }
}

impl Oracle {
    /// A node's state machine has applied a command, and answered it, if somebody there waits for that.
    pub fn applied(&mut self, id: NodeId, index: Index, command: &Bytes, answer: Option<&Bytes>, digest: u64) -> Check {
        let chain = &self.chain;
        let place = (index.0 as usize).checked_sub(1);
        let committed = place.and_then(|place| Some((chain.commands.get(place)?.as_ref()?, chain.digests.get(place)?)));
        let Some(((expected, expected_answer), expected_digest)) = committed else {
            hold!("I12 apply order", false, "{id} applies a command as entry {index}, which is not committed");
            return Ok(());
        };
        hold!(
            "I12 apply order",
            command == expected,
            "{id} applies another command than was committed as entry {index}"
        );
        let before = self.nodes.get(&id).map_or(Index(0), |seen| seen.machine);
        hold!("I12 apply order", index > before, "{id} applies entry {index} after {before}");
        let gap = (before.0..index.0 - 1).find(|skipped| chain.commands[*skipped as usize].is_some());
        hold!(
            "I12 apply order",
            gap.is_none(),
            "{id} applies entry {index} right after {before}, and leaves a command out"
        );
        hold!(
            "I12 equal machines",
            answer.is_none_or(|answer| answer == expected_answer),
            "{id} answers entry {index} otherwise than the others"
        );
        hold!(
            "I12 equal machines",
            digest == *expected_digest,
            "the state of {id} after entry {index} is not that of the others"
        );
        self.seen(id).machine = index;
        Ok(())
    }

    /// A node's state is that of a snapshot whose last entry is this one.
    pub fn restored(&mut self, id: NodeId, index: Index, digest: u64) -> Check {
        if index == Index(0) {
            return Ok(());
        }
        let expected = self.chain.digests.get(index.0 as usize - 1);
        hold!(
            "I12 snapshots",
            expected == Some(&digest),
            "the state that {id} restored at entry {index} is not what the others had there"
        );
        self.seen(id).machine = index;
        Ok(())
    }
}
