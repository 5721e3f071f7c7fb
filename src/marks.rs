//! Counts how often rare paths are taken, so that nobody has to hope that simulations reach them.
//!
//! A path says `mark(Mark::TornTailCut)`. Whoever runs a simulation, which is one thread, [takes](take) that thread's counts
//! at the end; `raft simulate --marks` prints them. Nothing else reads them: in a node they are numbers that nobody asks for,
//! an addition each. So the protocol stays as pure as it was, although it calls this module: a count can change nothing that it
//! decides.

use std::cell::Cell;
use std::fmt;

/// Makes the enumeration, each mark documented by its name in words, and the list of all.
macro_rules! marks {
    ($($mark:ident: $name:literal,)+) => {
        /// A rare path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mark {
            $(#[doc = $name] $mark,)+
        }

        impl Mark {
            /// All of them.
            pub const ALL: &[Mark] = &[$(Mark::$mark,)+];

            /// What happened, in words.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mark::$mark => $name,)+
                }
            }
        }
    };
}

marks! {
    // Elections.
    PreVoteDeniedLeaderLives: "a pre-vote was denied: the leader lives",
    CandidateIgnoredLeaderLives: "a candidate was ignored: the leader lives",
    VoteDeniedEarlierTerm: "a vote was denied: the candidate's term is over",
    VoteDeniedShorterLog: "a vote was denied: the candidate's log is behind",
    VoteDeniedGivenAlready: "a vote was denied: another candidate has it",
    VoteDeniedLeaderKnown: "a vote was denied: the term has a leader",
    VoteDeniedDiskFull: "a vote was denied: no space to keep it",
    VoteDeniedAbstains: "a vote was denied: the node abstains",
    VoteGivenAgain: "a vote was given to the same candidate again",
    PreVoteOfEarlierAttempt: "a pre-vote of an earlier attempt was not counted",
    PreElectionLost: "a pre-election was lost",
    ElectionLost: "an election was lost",
    ElectionUndecided: "an election ended undecided, and the next began",
    CandidateFoundLeader: "a candidate found that its term has a leader",
    CampaignPutOffDiskHangs: "a campaign was put off: the disk hangs",
    CampaignGivenUpDiskFull: "a campaign was given up: the disk is full",
    TookOver: "a node campaigned because the leader asked it to",
    TakeOverTooLate: "a leader's wish to be succeeded came too late",
    LeaderOverthrown: "a leader heard of a later term",
    StaleAppendAnswered: "a request of an earlier term was answered",
    StaleSnapshotAnswered: "a snapshot of an earlier term was answered",

    // Followers.
    AppendAfterOtherTerm: "entries were rejected: the one before is of another term",
    HintSkippedTerm: "a follower's hint skipped a whole term",
    AppendBelowBase: "entries began below the log's base",
    ConflictTruncated: "a conflict truncated the log",
    TruncationOvertookWrite: "a truncation overtook a write under way",
    AnswersMerged: "an answer that waited for the disk was replaced by a later one",
    AnswerVoid: "an answer that waited for the disk was void when it was durable",
    SnapshotStale: "a snapshot arrived that brought nothing new",
    SnapshotKeptLog: "a snapshot arrived that the log agrees with",
    SnapshotReplacedLonger: "a snapshot replaced a log that reached further",
    SnapshotOvertookWrite: "a snapshot overtook a write under way",
    AppliedBeforeSnapshot: "entries were applied that a snapshot had replaced meanwhile",

    // Leaders.
    AloneCommitted: "a node committed alone",
    CommittedBeforeOwnDisk: "entries were committed before the leader's own disk had them",
    CommitHeldBack: "a majority had entries of an earlier term, which did not commit",
    ReadWaitedForFirstEntry: "a read waited for the term's first entry",
    ReadsShareRound: "a later round confirmed earlier reads",
    ReadsLostLeader: "reads lost their leader",
    ProposalsOverloaded: "a proposal was refused: too much is pending",
    ProposalDiskFull: "a proposal was refused: the disk is full",
    RejectionStale: "a rejection was stale",
    RejectionSkippedTerm: "a leader skipped a whole term of its own after a rejection",
    AbstainingNotCounted: "a peer that abstains was not counted",
    PeerAbstains: "a peer came back abstaining",
    StepDownNoQuorum: "a leader stepped down: no quorum answered",
    StepDownDiskHangs: "a leader stepped down: its disk hung",
    TickWritten: "the leader wrote that the time of something had come",
    TransferDone: "leadership was handed over",
    TransferWaited: "leadership was to be handed to a node that lagged",
    TransferTimedOut: "leadership was not taken over in time",
    TransferCutShort: "leadership was lost while it was being handed over",
    TransferImpossible: "leadership could be handed to nobody",

    // The log on the disk.
    TornTailCut: "a torn tail was cut off",
    TornTailInRecycled: "a torn tail was cut off a recycled segment",
    StaleBatchesLeft: "a recycled segment's older batches were told from the log",
    LogDamaged: "a damaged log was refused",
    SmallFileDamaged: "a damaged small file was refused",
    TruncationReplayed: "a truncation was replayed",
    InstallReplayed: "an installed snapshot was replayed",
    MarkReplayed: "a log was opened that said that all of it was synced",
    MarkWritten: "the log said that all of it was synced",
    SegmentRecycled: "a segment was made of an old one",
    SegmentTooSmall: "a unit was larger than a segment",
    BatchPutBack: "a batch was put back: the disk is full",
    ChoreUndone: "a chore was left undone: the disk is full",
    FolderBegunAgain: "a folder was begun again whose first start had been interrupted",
    FolderRejoined: "a node came back as another incarnation",
    TemporaryRemoved: "an unfinished file was removed",

    // Snapshots on the disk.
    SnapshotDamagedAtStart: "a damaged snapshot was found at the start",
    SnapshotDamagedWhenRead: "a snapshot was found damaged when all of it was read",
    SnapshotNewerThanLog: "a snapshot was newer than the log, and was not restored",
    SnapshotOlderRestored: "an older snapshot was restored in place of a damaged one",
    SnapshotResumed: "a snapshot was gone on with of which blocks were there",
    SnapshotBegunAgain: "a snapshot was begun again of which less than a block was there",
    SnapshotUnfinishedRemoved: "a snapshot that was not finished was removed",
    SnapshotNotNeeded: "a snapshot was refused: there is a newer one",

    // Requests.
    HeldWithoutLeader: "a request was held: no leader is known",
    HeldBehindOthers: "a request was held behind those under way to another leader",
    ClientOverloaded: "a client's request was refused: too many are unanswered",
    BatchRecalled: "requests were taken back before the server saw them",
    ForwardRefused: "a forwarded request was refused, and held for the next leader",
    ForwardTwice: "a forwarded request that came twice was dropped",
    ForwardAnswerEarlierLife: "an answer came to a request of an earlier life",
    ReadRepeated: "a read lost its leader, and was sent again",
    ReadNotRepeated: "a read lost its leader, and could not be sent again",
    ConfirmedReadsRepeated: "confirmed reads lost their leader before they ran",
    ProposalLostPlace: "a proposal's place in the log was taken by another",
    ProposalTooLate: "a proposal was not committed in time",
    ProposalCovered: "a proposal was covered by a leader's snapshot",

    // Entries between memory, disk and state machine.
    JobTruncated: "a truncation removed what its own job would have written",
    JobReplaced: "a snapshot replaced what its own job would have written",
    TailEvicted: "an entry left memory",
    LaneLoaded: "entries were read back from the log for a peer",
    LoadVoid: "entries were read back that nobody wanted any more",
    LoadIncomplete: "entries that were to be read back were gone",
    ApplyReadsLog: "the state machine lagged so far that it was to read the log itself",
    ApplyAtOnce: "a turn did the state machine's work by itself, since it was brief",
    ApplyLogReplaced: "entries to be applied were gone: a snapshot had replaced the log",
    RestoreSuperseded: "a snapshot was not restored: a newer one has replaced it",
    DiskFullTold: "a node was told that its disk is full",
    DiskFullHandsOver: "a leader handed over because its disk is full",
    EndedWhileFull: "a node stopped while its disk was full",
    StoppedUnanswered: "a node that stops waited no longer for what was under way",

    // Snapshots, made and sent.
    ViewStale: "a view of the state was stale when it was to be written",
    SnapshotNoLongerWanted: "a snapshot was given up: nobody wanted it any more",
    SnapshotPutOff: "a snapshot was put off: the disk is full",
    LogKeptForPeer: "more of the log was kept because a peer needs it",
    SendingAlready: "a snapshot was to be sent that was on its way",
    SendingPaused: "a snapshot was not sent again yet",
    SendingFailed: "a snapshot did not get to a peer",
    SendingForgotten: "a snapshot was complete at a peer that did not go on from it",
    SendingAbandoned: "snapshots under way were abandoned",
    OfferedAlready: "a snapshot was offered that is here already",

    // Lives of peers.
    OlderBootRefused: "an older boot was refused",
    OtherProcessRefused: "a copy was refused for a boot that was seen in another process",
    OtherIncarnationRefused: "another incarnation was refused",
    LifeNotRemembered: "a peer was refused, since its life could not be remembered",
    // Sessions and the queue.
    SessionAnsweredAgain: "a command of a session came again, and was answered as before",
    SessionOver: "a command came in a session that is over",
    LeaseExpired: "a lease expired",
    MessageDied: "a message was delivered too often, and is dead",
    TopicFull: "a message was refused: its topic is full",
}

/// How many marks there are.
const COUNT: usize = Mark::ALL.len();

thread_local! {
    static HITS: [Cell<u64>; COUNT] = const { [const { Cell::new(0) }; COUNT] };
}

/// This path is being taken.
pub fn mark(mark: Mark) {
    HITS.with(|hits| {
        let hits = &hits[mark as usize];
        hits.set(hits.get() + 1);
    });
}

/// This path is being taken, if so.
pub fn mark_if(taken: bool, name: Mark) {
    if taken {
        mark(name);
    }
}

/// What this thread has counted since it was last asked.
pub fn take() -> Counts {
    HITS.with(|hits| Counts(std::array::from_fn(|at| Count::of_one_run(hits[at].take()))))
}

/// How often a path was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many times in all.
    pub hits: u64,
    /// In how many simulations.
    pub runs: u64,
}

impl Count {
    fn of_one_run(hits: u64) -> Self {
        Count { hits, runs: hits.min(1) }
    }
}

/// How often each path was taken in one simulation, or in many.
#[derive(Clone, PartialEq, Eq)]
pub struct Counts([Count; COUNT]);

impl Counts {
    /// How often this path was taken.
    pub fn of(&self, mark: Mark) -> Count {
        self.0[mark as usize]
    }

    /// Every mark, those hit in the fewest simulations first.
    pub fn rarest_first(&self) -> Vec<(Mark, Count)> {
        let mut all: Vec<_> = Mark::ALL.iter().map(|&mark| (mark, self.of(mark))).collect();
        all.sort_by_key(|(_, count)| (count.runs, count.hits));
        all
    }

    /// Adds those of other simulations.
    pub fn add(&mut self, other: &Counts) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            sum.hits += more.hits;
            sum.runs += more.runs;
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts([Count::default(); COUNT])
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hit = Mark::ALL.iter().filter(|mark| self.of(**mark).hits > 0);
        f.debug_map().entries(hit.map(|mark| (mark.name(), self.of(*mark).hits))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_thread_takes_its_own_counts_once() {
        take();
        mark(Mark::TornTailCut);
        mark_if(true, Mark::TornTailCut);
        mark_if(false, Mark::TookOver);
        std::thread::spawn(|| mark(Mark::TookOver)).join().unwrap();
        let counts = take();
        assert_eq!(counts.of(Mark::TornTailCut), Count { hits: 2, runs: 1 });
        assert_eq!(counts.of(Mark::TookOver), Count::default());
        assert_eq!(take(), Counts::default());
    }

    #[test]
    fn sums_count_simulations_and_the_rarest_come_first() {
        let mut sum = Counts::default();
        for hits in [3, 1] {
            (0..hits).for_each(|_| mark(Mark::ConflictTruncated));
            sum.add(&take());
        }
        (0..9).for_each(|_| mark(Mark::TookOver));
        sum.add(&take());
        assert_eq!(sum.of(Mark::ConflictTruncated), Count { hits: 4, runs: 2 });
        let order = sum.rarest_first();
        assert_eq!(
            order[COUNT - 2..].iter().map(|(mark, _)| *mark).collect::<Vec<_>>(),
            [Mark::TookOver, Mark::ConflictTruncated]
        );
        assert_eq!(order[0].1, Count::default());
    }

    #[test]
    fn no_two_have_the_same_name() {
        let names: BTreeSet<_> = Mark::ALL.iter().map(|mark| mark.name()).collect();
        assert_eq!(names.len(), COUNT);
    }
}
