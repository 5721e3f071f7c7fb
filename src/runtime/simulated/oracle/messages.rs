//! Nobody says what could be forgotten (Raft paper §5.1: before responding to requests).

use super::{Check, Oracle, hold};
use crate::consensus::{HardState, Message, MessageBody, NodeId, Server};

impl Oracle {
    /// A message leaves a node.
    pub fn sent(&mut self, id: NodeId, to: NodeId, server: &Server, message: &Message) -> Check {
        let (term, durable) = (message.term, self.durable_state(id));
        let is_pre_vote = matches!(
            message.body,
            MessageBody::RequestVote { pre: true, .. } | MessageBody::RequestVoteResponse { pre: true, granted: true }
        );
        let own = server.term();
        hold!("I15 terms", term <= own || is_pre_vote, "{id}, in term {own}, speaks as of {term}");
        match &message.body {
            MessageBody::RequestVote { pre: false, .. } => {
                let voted = durable == HardState { term, vote: Some(id) };
                hold!(
                    "I10 persist before send",
                    voted || durable.term > term,
                    "{id} campaigns in term {term} with {durable:?} on disk"
                );
            }
            MessageBody::RequestVoteResponse { pre: false, granted: true } => {
                let voted = durable == HardState { term, vote: Some(to) };
                hold!(
                    "I10 persist before send",
                    voted || durable.term > term,
                    "{id} votes for {to} in term {term} with {durable:?} on disk"
                );
            }
            MessageBody::AppendEntries(append) => {
                self.leads(id, term)?;
                hold!(
                    "I10 persist before send",
                    durable.term >= term,
                    "{id} leads term {term} with {durable:?} on disk"
                );
                let newest = append.entries.iter().map(|entry| entry.term).max();
                hold!("I15 terms", newest <= Some(term), "{id} sends an entry of term {newest:?} in term {term}");
            }
            MessageBody::AppendAccepted { matched, .. } | MessageBody::SnapshotInstalled { matched, .. } => {
                hold!(
                    "I10 persist before send",
                    durable.term >= term,
                    "{id} accepts in term {term} with {durable:?} on disk"
                );
                let has = self.has_durably(id, *matched) || own > term;
                hold!("I10 persist before send", has, "{id} vouches for entry {matched}, which is not durable");
                self.vouches(id, term, *matched);
            }
            _ => {}
        }
        Ok(())
    }
}
