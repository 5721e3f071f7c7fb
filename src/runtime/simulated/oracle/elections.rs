//! At most one leader a term, elected by a majority, who has everything that was committed (Raft paper §5.2, §5.4.1).

use super::{Check, Oracle, hold, last_of, term_at};
use crate::consensus::{NodeId, Role, Server, Term};

impl Oracle {
    /// After a turn: the vote is kept, and who leads may lead.
    pub(super) fn check_role(&mut self, id: NodeId, server: &Server) -> Check {
        let (term, vote, leads) = (server.term(), server.voted_for(), server.role() == Role::Leader);
        let seen = self.seen(id);
        if term == seen.term && seen.vote.is_some() {
            let before = seen.vote;
            hold!("I1 election safety", vote == before, "{id} changed its vote of {term} from {before:?} to {vote:?}");
        }
        let is_new = (seen.term, seen.vote) != (term, vote);
        (seen.term, seen.vote) = (term, vote);
        if let Some(candidate) = vote.filter(|candidate| is_new && *candidate != id) {
            self.check_grant(id, candidate, term)?;
        }
        let seen = self.seen(id);
        if !leads {
            seen.leads = None;
            return Ok(());
        }
        if seen.leads != Some(term) {
            seen.leads = Some(term);
            seen.matched.clear();
            self.elected(id, term)?;
        }
        let seen = self.seen(id);
        seen.verified = last_of(&seen.log).1;
        Ok(())
    }

    /// Someone speaks or acts as the leader of this term.
    pub(super) fn leads(&mut self, id: NodeId, term: Term) -> Check {
        let first = *self.leaders.entry(term).or_insert(id);
        hold!("I1 election safety", first == id, "{first} and {id} both lead term {term}");
        Ok(())
    }

    fn elected(&mut self, id: NodeId, term: Term) -> Check {
        self.leads(id, term)?;
        let votes = |voter: &&NodeId| self.votes.get(&(term, **voter)) == Some(&id);
        let count = self.membership.voters.iter().filter(votes).count();
        hold!("I2 vote correctness", self.is_majority(count), "{id} leads term {term} with {count} durable votes");
        // With log matching, having the last entry that was committed in an earlier term is having them all. Later ones a leader
        // may lack who is elected when another has taken over already.
        let (last, log) = (self.chain.last_committed_before(term), &self.nodes[&id].log);
        let has = self.chain.term_at(last) == term_at(log, last);
        hold!("I14 leader completeness", has, "{id} leads term {term} without entry {last}, which is committed");
        Ok(())
    }

    /// A vote request has arrived.
    pub(super) fn asked_for_vote(
        &mut self,
        id: NodeId,
        from: NodeId,
        term: Term,
        last: (Term, crate::consensus::Index),
    ) {
        let asked = &mut self.seen(id).asked;
        asked.retain(|(candidate, of, _)| (*candidate, *of) != (from, term));
        asked.push((from, term, last));
        if asked.len() > 32 {
            asked.remove(0);
        }
    }

    /// A vote is given: only to a log that is at least as up to date (Raft paper §5.4.1).
    fn check_grant(&mut self, id: NodeId, to: NodeId, term: Term) -> Check {
        let seen = self.seen(id);
        let asked = seen.asked.iter().find(|(candidate, of, _)| (*candidate, *of) == (to, term));
        let Some(&(_, _, theirs)) = asked else { return Ok(()) };
        // Its log may have changed within the turn in which it gave its vote.
        let own = seen.last_before.min(last_of(&seen.log));
        hold!(
            "I2 vote correctness",
            theirs >= own,
            "{id} votes for {to} in term {term}, whose log ends at {theirs:?}, its own at {own:?}"
        );
        Ok(())
    }

    /// A vote is durable.
    pub(super) fn voted(&mut self, id: NodeId, term: Term, vote: NodeId) -> Check {
        let first = *self.votes.entry((term, id)).or_insert(vote);
        hold!("I1 election safety", first == vote, "{id} voted for {first} and for {vote} in term {term}");
        Ok(())
    }
}
