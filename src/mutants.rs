//! Known bugs that can be put into the product, one at a time, to see that its tests find them.
//!
//! Each is a condition at the place that it breaks: `if mutant(M5) { .. }`. Without the cargo feature `mutants` [`mutant`] is
//! constantly false, and the compiler leaves nothing of it; and the feature does not compile without `debug_assertions`, so no
//! release can have it. With it, the environment variable `RAFT_MUTANT` names the one that is on, once for the whole process.
//!
//! The pure core must not touch the environment, which is why the switch is here: to the core it is a constant like any other,
//! that no event can change.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` breaks the product: it is for tests only, with debug assertions");

macro_rules! mutants {
    ($($(#[doc = $breaks:literal])+ $name:ident)+) => {
        /// What is broken. The numbers M1 to M30 are those of the catalogue of mutants in `docs/TESTING.md`; P are those of this product.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $breaks])+ $name,)+
        }

        /// All of them: name, and what is broken, in words.
        #[cfg(feature = "mutants")]
        pub const ALL: &[(Mutant, &str, &str)] = &[$((Mutant::$name, stringify!($name), concat!($($breaks),+)),)+];
    };
}

mutants! {
    /// a vote is told before it is durable
    M1
    /// a follower acknowledges entries before they are durable
    M2
    /// a leader counts itself before its own disk has the entry
    M3
    /// half of an even cluster commits and confirms reads
    M4a
    /// half of an even cluster elects
    M4b
    /// entries of earlier terms commit by counting
    M5
    /// the previous entry is not compared at all
    M6a
    /// the previous entry's index is compared, its term is not
    M6b
    /// every request truncates what follows the commit index
    M7
    /// entries that conflict stay, and what comes after them is appended
    M8
    /// a follower commits what its leader has committed, verified or not
    M9
    /// a follower's commit index follows the leader's, down too
    M10a
    /// a leader believes an older, lower match
    M10b
    /// the vote is kept in a new term
    M11a
    /// the vote is cleared when an election is lost in the same term
    M11b
    /// logs are compared by length alone
    M12a
    /// logs are compared by last term alone
    M12b
    /// entries are applied as soon as they are in the log
    M13
    /// reads are served without asking anybody
    M14a
    /// one answer confirms a read, of however many
    M14b
    /// answers of the round before confirm a read
    M14c
    /// a new leader serves reads before an entry of its term is committed
    M16
    /// a snapshot replaces a log that has more
    M17
    /// a snapshot leaves a log that conflicts with it
    M18
    /// recovery ends the log at the first batch that is not whole, wherever that is
    M21
    /// a new segment's name is not synced
    M22a
    /// a new snapshot's name is not synced
    M22b
    /// an error of fsync is ignored
    M23a
    /// an fsync that failed is tried again
    M23b
    /// the checksum of a record leaves out its length, batch and kind
    M24a
    /// checksums neither continue the one before nor know the folder
    M24b
    /// the log goes before the snapshot is durable
    M25
    /// sessions are missing in snapshots
    M26a
    /// what was answered in a session is run again when it is repeated
    M26b
    /// whoever proposed an entry is known by its index alone
    M27
    /// votes of strangers count
    M28
    /// a pre-vote is refused in the term of whoever asks
    M29a
    /// the later term in a refused pre-vote is ignored
    M29b
    /// the window stays as it was when requests are lost
    M30a
    /// a probe that is under way is so for ever
    M30b
    /// a snapshot that nobody sends is not told of if its peer was unreachable before in the same turn
    P1
    /// a node stops when the snapshot that it is to restore has given way to a newer one
    P2
    /// a heartbeat is answered for entries that are not durable
    P3
    /// the end of a write vouches for the entries that have replaced those it wrote
    P4
    /// a request that was forwarded twice runs twice
    P5
    /// a leader counts a node that has forgotten what it promised
    P6
    /// a node votes that has forgotten what it promised
    P7
}

/// Whether this bug is on.
#[cfg(not(feature = "mutants"))]
pub const fn mutant(_: Mutant) -> bool {
    false
}

/// Whether this bug is on.
///
/// # Panics
/// `RAFT_MUTANT` is not the name of a mutant.
#[cfg(feature = "mutants")]
pub fn mutant(which: Mutant) -> bool {
    static ON: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    let on = ON.get_or_init(|| {
        let wanted = std::env::var("RAFT_MUTANT").ok()?;
        let known = ALL.iter().find(|(_, name, _)| *name == wanted);
        Some(known.unwrap_or_else(|| panic!("RAFT_MUTANT={wanted} is not the name of a mutant")).0)
    });
    *on == Some(which)
}
