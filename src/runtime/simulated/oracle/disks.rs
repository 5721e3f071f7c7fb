//! What the disks were told, and whether a restart finds it (Raft paper §5.1, figure 2: persistent state).

use super::{Check, Made, Oracle, hold, last_of, term_at};
use crate::consensus::{HardState, Index, NodeId, Server, Term};
use crate::storage::WriteBatch;

/// What a node's disk has, as far as anybody may rely on it.
#[derive(Default)]
pub struct DiskMemory {
    /// What is durable.
    durable: DiskState,
    /// What was written since, in order.
    pending: Vec<Unit>,
    /// The log of a disk that was wiped, whose entries may have been counted.
    lost: Vec<Term>,
    /// The disk was exchanged: nobody knows what is on it.
    is_unknown: bool,
    /// It was at some time: what the node votes since then nobody may count.
    is_forgetful: bool,
    /// The last thing that the node vouched for: this index, in this term.
    pub vouched: (Term, Index),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DiskState {
    hard_state: HardState,
    /// From entry 1 on.
    terms: Vec<Term>,
}

/// A batch without its payloads.
struct Unit {
    hard_state: Option<HardState>,
    install: Option<Vec<Term>>,
    truncate_from: Option<Index>,
    /// Where its entries begin.
    first: Index,
    terms: Vec<Term>,
}

impl DiskState {
    fn apply(&mut self, unit: &Unit) {
        self.hard_state = unit.hard_state.unwrap_or(self.hard_state);
        if let Some(terms) = &unit.install {
            self.terms.clone_from(terms);
        }
        if let Some(from) = unit.truncate_from {
            self.terms.truncate(from.0.saturating_sub(1) as usize);
        }
        self.terms.extend_from_slice(&unit.terms);
    }

    /// Whether a storage that remembers this could have been left behind by this state.
    fn is(&self, hard_state: HardState, base: (Index, Term), terms: &[Term]) -> bool {
        let start = base.0.0 as usize;
        self.hard_state == hard_state
            && term_at(&self.terms, base.0) == Some(base.1)
            && self.terms.get(start..).is_some_and(|rest| rest == terms)
    }
}

impl DiskMemory {
    /// Whether the entry is durable, or was on a disk that was lost since.
    pub fn has_had(&self, index: Index, term: Term) -> bool {
        term_at(&self.durable.terms, index) == Some(term) || term_at(&self.lost, index) == Some(term)
    }

    fn has(&self, index: Index, term: Option<Term>) -> bool {
        term.is_some() && term_at(&self.durable.terms, index) == term
    }

    /// Term and vote that are durable.
    pub fn hard_state(&self) -> HardState {
        self.durable.hard_state
    }
}

impl Oracle {
    /// A node's disk was wiped or exchanged: it need not keep what it had vouched for. Its votes stay cast.
    pub fn disk_lost(&mut self, id: NodeId) {
        let disk = &mut self.seen(id).disk;
        let lost = std::mem::take(&mut disk.durable.terms);
        let is_longer = lost.len() > disk.lost.len();
        let kept = std::mem::take(&mut disk.lost);
        *disk = DiskMemory {
            lost: if is_longer { lost } else { kept },
            is_unknown: true,
            is_forgetful: true,
            ..DiskMemory::default()
        };
    }

    /// A node's process is gone.
    pub fn ended(&mut self, id: NodeId) {
        let seen = self.seen(id);
        seen.leads = None;
    }

    /// A node has read its disk.
    pub fn recovered(&mut self, id: NodeId, hard_state: HardState, base: (Index, Term), terms: &[Term]) -> Check {
        let committed = self.chain.terms_up_to(base.0);
        let disk = &mut self.seen(id).disk;
        if std::mem::take(&mut disk.is_unknown) {
            let mut all = committed;
            all.extend_from_slice(terms);
            disk.durable = DiskState { hard_state, terms: all };
            return Ok(());
        }
        // Either what is durable, or that and some of what was written later, in order.
        let mut states = vec![disk.durable.clone()];
        for unit in disk.pending.drain(..) {
            let mut next = states[states.len() - 1].clone();
            next.apply(&unit);
            states.push(next);
        }
        match states.iter().rposition(|state| state.is(hard_state, base, terms)) {
            Some(found) => {
                disk.durable = states.swap_remove(found);
                Ok(())
            }
            None => {
                let (durable, last) = (&states[0].hard_state, last_of(&states[0].terms));
                let (written, found) = (states.len() - 1, (terms.last(), base.0.0 + terms.len() as u64));
                hold!(
                    "I6 durable acknowledgements",
                    false,
                    "{id} had durably {durable:?} and a log up to {last:?}, and {written} writes later; it finds {hard_state:?} and a log up to {found:?}, from {base:?} on"
                );
                Ok(())
            }
        }
    }

    /// A node that has recovered begins to run.
    pub fn started(&mut self, id: NodeId, server: &Server) {
        let seen = self.seen(id);
        seen.log.clone_from(&seen.disk.durable.terms);
        let HardState { term, vote } = seen.disk.durable.hard_state;
        (seen.term, seen.vote, seen.leads) = (term, vote, None);
        (seen.commit, seen.applied, seen.verified) = (server.commit(), server.applied(), server.commit());
        seen.machine = server.applied();
        seen.arrived.clear();
        seen.asked.clear();
        seen.matched.clear();
    }

    /// The storage has taken a batch.
    pub fn wrote(&mut self, id: NodeId, batch: &WriteBatch) -> Check {
        let install = batch.install.as_ref().map(|snapshot| self.chain.terms_up_to(snapshot.index));
        if let (Some(snapshot), Some(terms)) = (&batch.install, &install) {
            let (index, term) = (snapshot.index, snapshot.term);
            hold!(
                "I4 log safety",
                term_at(terms, index) == Some(term),
                "{id} installs a snapshot of entry {index} of term {term}"
            );
        }
        let terms = batch.entries.iter().map(|entry| entry.header.term).collect();
        let first = batch.entries.first().map_or(Index(0), |entry| entry.header.index);
        let unit = Unit { hard_state: batch.hard_state, install, truncate_from: batch.truncate_from, first, terms };
        self.check_made(id, batch, &unit)?;
        self.seen(id).disk.pending.push(unit);
        Ok(())
    }

    /// Entries of the same index and term are the same, and so is everything before them.
    fn check_made(&mut self, id: NodeId, batch: &WriteBatch, unit: &Unit) -> Check {
        let Some(first) = batch.entries.first() else { return Ok(()) };
        let before = first.header.index.prev();
        let mut prev = self.written_term(id, before, unit).unwrap_or_default();
        for entry in &batch.entries {
            let (index, term) = (entry.header.index, entry.header.term);
            hold!("I13 log matching", prev <= term, "{id}: entry {index} of term {term} follows one of term {prev}");
            match self.made.get(&(index, term)) {
                Some(made) => {
                    let same = made.prev == prev && made.header == entry.header && made.payload == entry.payload;
                    hold!(
                        "I13 log matching",
                        same,
                        "{id} writes {:?} after term {prev}; it was made as {:?} after term {}",
                        entry.header,
                        made.header,
                        made.prev
                    );
                }
                None => {
                    let made = Made { prev, header: entry.header.clone(), payload: entry.payload.clone() };
                    self.made.insert((index, term), made);
                }
            }
            prev = term;
        }
        Ok(())
    }

    /// The term of an entry after everything that was written so far, and this unit's other parts.
    fn written_term(&self, id: NodeId, index: Index, unit: &Unit) -> Option<Term> {
        let disk = &self.nodes.get(&id)?.disk;
        if let Some(terms) = &unit.install {
            return term_at(terms, index);
        }
        for Unit { install, first, terms, .. } in disk.pending.iter().rev() {
            if let Some(place) = index.0.checked_sub(first.0).filter(|place| (*place as usize) < terms.len()) {
                return Some(terms[place as usize]);
            }
            if let Some(terms) = install {
                return term_at(terms, index);
            }
        }
        term_at(&disk.durable.terms, index)
    }

    /// Everything written so far is durable.
    pub fn synced(&mut self, id: NodeId) -> Check {
        let disk = &mut self.seen(id).disk;
        let before = disk.durable.hard_state.term;
        for unit in std::mem::take(&mut disk.pending) {
            disk.durable.apply(&unit);
        }
        let HardState { term, vote } = disk.durable.hard_state;
        hold!("I8 monotonicity", term >= before, "the durable term of {id} falls from {before} to {term}");
        let (vouched_term, vouched) = disk.vouched;
        let last = Index(disk.durable.terms.len() as u64);
        let shrinks = last < vouched && term <= vouched_term;
        hold!(
            "I6 durable acknowledgements",
            !shrinks,
            "the disk of {id} ends at {last} in term {term}, in which it has vouched for {vouched}"
        );
        match vote {
            Some(vote) if !disk.is_forgetful => self.voted(id, term, vote),
            _ => Ok(()),
        }
    }

    /// Whether this node has the entry of its own log durably.
    pub(super) fn has_durably(&self, id: NodeId, index: Index) -> bool {
        self.nodes.get(&id).is_some_and(|seen| seen.disk.has(index, term_at(&seen.log, index)))
    }

    pub(super) fn durable_state(&self, id: NodeId) -> HardState {
        self.nodes.get(&id).map(|seen| seen.disk.hard_state()).unwrap_or_default()
    }

    pub(super) fn vouches(&mut self, id: NodeId, term: Term, index: Index) {
        let vouched = &mut self.seen(id).disk.vouched;
        *vouched = (term, if vouched.0 == term { vouched.1.max(index) } else { index });
    }
}
