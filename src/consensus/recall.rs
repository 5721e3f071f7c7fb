//! How a server that kept nothing becomes a voter again, after it forgot what it had promised in an earlier life: votes it
//! gave, entries it acknowledged.
//!
//! Until then it abstains, and elections and commits are made without it: their majorities meet in servers that remember.
//! It may count again where no promise of its earlier life can matter any more:
//!
//! 1. *Every* other voter has answered a question of this life. By the order of connections, whoever has answered hears
//!    nothing of the earlier life any more; and whoever got a vote of it is in the term of that vote at least.
//! 2. The server follows a leader, and the term is no earlier than any of those in the answers. So no promise of its earlier
//!    life is of a later term. What it acknowledged in earlier terms is in this leader's log, if it was committed: the
//!    majority that elected the leader did not need the forgetful server's new life, and so met every majority in a server
//!    that kept its word.
//! 3. What it acknowledged in this very term is in what it has received: a request that the leader sent after it had answered,
//!    and that reaches as far as the leader's commit index. As long as the leader counts on the earlier life, such a
//!    request follows an entry that is no earlier than what that life acknowledged. Once it does not (it heard that this
//!    server abstains), whatever it has committed by that is below its commit index.
//! 4. In this term it gives no vote: it may have given one. Its leader is elected, and needs none.
//!
//! A majority of answers would not do. A candidate that did not answer may hold a vote of the earlier life, in a later term
//! than anybody else knows, and win with it, without the entries that the new life acknowledges meanwhile (Michael et al.,
//! "Recovering Shared Objects Without Stable Storage", DISC 2017).

use std::collections::BTreeSet;
use std::time::Duration;

use super::common::{Common, Turn};
use super::effect::Effect;
use super::message::MessageBody;
use super::types::NodeId;

/// What a server that forgot has found out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Recall {
    /// Tells answers to this life from those to earlier ones.
    nonce: u64,
    answered: BTreeSet<NodeId>,
    ask_at: Duration,
}

/// Names of lives are below this: small enough for JSON.
const NONCES: u64 = 1 << 53;

impl Common {
    /// A peer remembers what this server has forgotten. What was about to be vouched for is not said.
    pub fn forget(&mut self, now: Duration) {
        self.drop_held();
        let nonce = self.random.below(NONCES);
        self.recall = Some(Recall { nonce, answered: BTreeSet::new(), ask_at: now });
    }

    /// Asks the voters that have not answered yet, again and again.
    pub fn ask_terms(&mut self, turn: &mut Turn<'_>) {
        if self.recall.as_ref().is_none_or(|recall| recall.ask_at > turn.now) {
            return;
        }
        let (voters, term, pause) = (self.other_voters(), self.term(), self.config.heartbeat_interval);
        let Some(recall) = &mut self.recall else { return };
        recall.ask_at = turn.now + pause;
        for to in voters.into_iter().filter(|voter| !recall.answered.contains(voter)) {
            turn.send(to, term, MessageBody::AskTerm { nonce: recall.nonce });
        }
    }

    /// A server has told its term, which this one adopts if it is later.
    pub fn term_told(&mut self, from: NodeId, nonce: u64) {
        if let Some(recall) = self.recall.as_mut().filter(|recall| recall.nonce == nonce) {
            recall.answered.insert(from);
        }
    }

    /// The log equals the leader's as far as what the leader just sent, its commit index included, and all of it is durable.
    pub fn caught_up(&mut self, turn: &mut Turn<'_>) {
        let Some(recall) = &self.recall else { return };
        if self.other_voters().iter().all(|voter| recall.answered.contains(voter)) {
            self.recall = None;
            // What else was to be said, said not to count it.
            self.drop_held();
            self.no_vote_until = self.term();
            turn.effect(Effect::Recalled);
        }
    }
}
