//! The logs in memory, and what is committed (Raft paper §5.3, §5.4).

use super::{Check, Oracle, hold, last_of, term_at};
use crate::consensus::{
    EntryHeader, EntryKind, Index, Message, MessageBody, NodeId, Payload, Role, Server, SnapshotMeta, Term,
};
use crate::machine::command::{Answer, Change, Command};

impl Oracle {
    /// A message has arrived, to be handled in the next turn.
    pub fn arrived(&mut self, id: NodeId, from: NodeId, message: &Message) {
        match &message.body {
            MessageBody::AppendEntries(append) => {
                let prev = (append.prev_index, append.prev_term);
                let last = append.entries.last().map_or(prev, |last| (last.index, last.term));
                self.seen(id).arrived.push((message.term, [prev, last]));
            }
            &MessageBody::RequestVote { pre: false, last_index, last_term, .. } => {
                self.asked_for_vote(id, from, message.term, (last_term, last_index));
            }
            _ => {}
        }
    }

    /// A leader's snapshot has arrived, to be handled in the next turn.
    pub fn snapshot_arrived(&mut self, id: NodeId, term: Term, snapshot: &SnapshotMeta) {
        let place = (snapshot.index, snapshot.term);
        self.seen(id).arrived.push((term, [place, place]));
    }

    /// Before a turn.
    pub fn before_turn(&mut self, id: NodeId) {
        let seen = self.seen(id);
        seen.last_before = last_of(&seen.log);
    }

    /// After a turn.
    pub fn after_turn(&mut self, id: NodeId, server: &Server) -> Check {
        let before = self.seen(id).term;
        hold!("I8 monotonicity", server.term() >= before, "the term of {id} fell from {before} to {}", server.term());
        self.follow_log(id, server)?;
        self.verify(id, server);
        self.check_role(id, server)?;
        self.check_commit(id, server)?;
        self.check_progress(id, server)
    }

    /// Brings the list of terms up to date, and checks what was removed.
    fn follow_log(&mut self, id: NodeId, server: &Server) -> Check {
        let (last, base) = (server.last_index(), server.base_index());
        let (chain, term) = (&self.chain, server.term());
        let Some(seen) = self.nodes.get_mut(&id) else { return Ok(()) };
        if last == base && base > Index(0) {
            // A snapshot has replaced the log, or covers all of it: what is before it is what was committed.
            let rest = seen.log.split_off(seen.log.len().min(base.0 as usize));
            seen.log = chain.terms_up_to(base);
            let is_covered = seen.log.len() as u64 == base.0;
            hold!("I4 log safety", is_covered, "{id} has a snapshot of entry {base}, which nobody has committed");
            seen.log.extend(rest);
        }
        let mut kept = seen.log.len().min(last.0 as usize);
        while kept as u64 > base.0 && server.term_at(Index(kept as u64)) != Some(seen.log[kept - 1]) {
            kept -= 1;
        }
        if kept < seen.log.len() {
            let from = Index(kept as u64 + 1);
            let led = seen.leads.is_some_and(|led| led == term);
            hold!("I3 leader append-only", !led, "{id} leads term {term}, and removes its entries from {from} on");
            hold!("I7 commit clamp", from > seen.commit, "{id} removes entry {from}, which it has committed");
            for (place, old) in seen.log.iter().enumerate().skip(kept) {
                // What a later leader has committed without this node, a leader of an earlier term may still remove here.
                let index = Index(place as u64 + 1);
                let is_committed = chain.term_at(index) == Some(*old) && chain.committed_in(index) <= Some(term);
                hold!("I6 durable acknowledgements", !is_committed, "{id} removes entry {index}, which is committed");
            }
            seen.log.truncate(kept);
            seen.verified = seen.verified.min(Index(kept as u64));
        }
        for index in seen.log.len() as u64 + 1..=last.0 {
            let index = Index(index);
            // What is not in the log any more is covered by a snapshot, and so it is committed.
            let term = server.term_at(index).or_else(|| chain.term_at(index)).unwrap_or_default();
            seen.log.push(term);
        }
        let (newest, _) = last_of(&seen.log);
        hold!("I15 terms", newest <= term, "{id} is in term {term} and has an entry of term {newest}");
        Ok(())
    }

    /// Which part of the log was found equal to a leader's.
    fn verify(&mut self, id: NodeId, server: &Server) {
        let Some(seen) = self.nodes.get_mut(&id) else { return };
        for (term, places) in std::mem::take(&mut seen.arrived) {
            let agrees = |(index, term): (Index, Term)| term_at(&seen.log, index) == Some(term);
            if term <= server.term() && places.iter().all(|place| agrees(*place)) {
                seen.verified = seen.verified.max(places[1].0);
            }
        }
    }

    fn check_commit(&mut self, id: NodeId, server: &Server) -> Check {
        let (commit, applied) = (server.commit(), server.applied());
        let Some(seen) = self.nodes.get(&id) else { return Ok(()) };
        hold!(
            "I8 monotonicity",
            commit >= seen.commit,
            "the commit index of {id} fell from {} to {commit}",
            seen.commit
        );
        hold!(
            "I8 monotonicity",
            applied >= seen.applied,
            "the applied index of {id} fell from {} to {applied}",
            seen.applied
        );
        hold!("I12 apply order", applied <= commit, "{id} has applied {applied} of {commit}");
        let before = seen.commit;
        if commit > before {
            let verified = seen.verified;
            // A leader has verified what it has made, even if it has stepped down since.
            let is_own = self.leaders.get(&term_at(&seen.log, commit).unwrap_or_default()) == Some(&id);
            hold!(
                "I7 commit clamp",
                commit <= verified || is_own,
                "{id} commits {commit}, but has verified only {verified}"
            );
            let known = self.chain.last();
            if commit > known {
                self.check_new_commit(id, server)?;
            }
            for index in before.0 + 1..=commit.0.min(known.0) {
                if Index(index) <= server.base_index() {
                    continue;
                }
                let (own, all) = (term_at(&self.nodes[&id].log, Index(index)), self.chain.term_at(Index(index)));
                hold!(
                    "I4 log safety",
                    own == all,
                    "{id} commits entry {index} of term {own:?}, others have committed {all:?}"
                );
            }
            for index in known.0 + 1..=commit.0 {
                self.commit(id, Index(index), server.term())?;
            }
        }
        let seen = self.seen(id);
        (seen.commit, seen.applied) = (commit, applied);
        Ok(())
    }

    /// A leader commits by counting, entries of its own term, which a majority has durably (Raft paper §5.4.2).
    fn check_new_commit(&mut self, id: NodeId, server: &Server) -> Check {
        let (commit, log) = (server.commit(), &self.nodes[&id].log);
        let term = term_at(log, commit).unwrap_or_default();
        let leader = self.leaders.get(&term);
        hold!("I5 commit rule", leader == Some(&id), "{id} commits {commit} before {leader:?}, who leads term {term}");
        if server.role() == Role::Leader {
            let own = server.term();
            hold!(
                "I5 commit rule",
                term == own,
                "{id} leads term {own} and commits {commit} of term {term} by counting"
            );
        }
        let has = |voter: &&NodeId| self.nodes.get(voter).is_some_and(|seen| seen.disk.has_had(commit, term));
        let count = self.membership.voters.iter().filter(has).count();
        hold!("I5 commit rule", self.is_majority(count), "{id} commits {commit}, which is durable on {count} nodes");
        Ok(())
    }

    fn check_progress(&mut self, id: NodeId, server: &Server) -> Check {
        for peer in server.progress() {
            let Some(seen) = self.nodes.get_mut(&id) else { return Ok(()) };
            let before = seen.matched.insert(peer.id, peer.matched).unwrap_or_default();
            let (matched, name) = (peer.matched, peer.id);
            let falls = matched < before && !peer.abstains;
            hold!("I9 book-keeping", !falls, "{id} thinks that the match of {name} fell from {before} to {matched}");
            hold!(
                "I9 book-keeping",
                peer.next > matched,
                "{id}: {name} matches {matched}, and is sent {} next",
                peer.next
            );
            if matched > before {
                let term = term_at(&self.nodes[&id].log, matched).unwrap_or_default();
                let has = self.nodes.get(&name).is_some_and(|peer| peer.disk.has_had(matched, term));
                hold!("I9 book-keeping", has, "{id} thinks that {name} has {matched} durably");
            }
        }
        Ok(())
    }

    fn commit(&mut self, id: NodeId, index: Index, by: Term) -> Check {
        let term = term_at(&self.nodes[&id].log, index).unwrap_or_default();
        let Some(made) = self.made.get(&(index, term)) else {
            hold!(
                "I5 commit rule",
                false,
                "{id} commits entry {index} of term {term}, which no disk was told to write"
            );
            return Ok(());
        };
        let (header, payload) = (made.header.clone(), made.payload.clone());
        let has_changed = self.chain.extend(&header, &payload, by);
        self.queues.advance(header.time);
        self.sessions.advance(header.time);
        if header.kind != EntryKind::Command {
            return Ok(());
        }
        self.history.committed(index, header.session, &payload)?;
        self.effect(&header, &payload, has_changed)
    }

    /// What a command did, as its sender is told.
    pub(super) fn effect(&mut self, header: &EntryHeader, payload: &Payload, has_changed: bool) -> Check {
        let Some(answer) = self.chain.answer(header.index) else { return Ok(()) };
        if let Some(stamp) = header.session
            && !self.sessions.applied((header.index, header.time), stamp, answer, has_changed)?
        {
            return Ok(());
        }
        let Ok(told) = Answer::decode(answer) else { return Ok(()) };
        match Command::decode(payload) {
            Ok(Command::OpenSession) => self.sessions.opened(header.index, header.time, &told),
            Ok(Command::Change(Change::Queue { topic, change })) => {
                self.queues.apply(&topic, &change, header.index, header.time, &told)
            }
            Ok(Command::Change(change)) => self.values.apply(&change, header.index, &told),
            _ => Ok(()),
        }
    }
}
