//! The process's limit of open files: raised as far as the clients of raft.ini need, and never used up by them, for a node
//! that cannot open a file of its log has to stop.

use raft::config::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For all that is no client: the log, peers, and strangers at their port.
const RESERVED: u64 = 256;

/// Raises the limit if it must be, and if it may. Otherwise lowers `MaxConnections`, and says so.
pub fn provide(limits: &mut Limits) {
    let wanted = (limits.max_connections as u64).saturating_add(RESERVED);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is as good as the largest.
    let (mut current, maximum) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    if current < wanted {
        let raised = wanted.min(maximum);
        let limit = Rlimit { current: Some(raised), maximum: (maximum != u64::MAX).then_some(maximum) };
        match setrlimit(Resource::Nofile, limit) {
            Ok(()) => current = raised,
            Err(error) => log::warn!("cannot raise the limit of open files to {raised}: {error}"),
        }
    }
    let room = room_for_clients(current);
    if room < limits.max_connections as u64 {
        log::warn!(
            "this process may open {current} files: it serves {room} clients at a time, fewer than MaxConnections = {}; \
             raise the limit with `ulimit -Hn {wanted}`",
            limits.max_connections
        );
        limits.max_connections = room as usize;
    }
}

/// How many clients there may be with so many files: at least half of it is theirs.
fn room_for_clients(files: u64) -> u64 {
    files.saturating_sub(RESERVED).max(files / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_some_for_others() {
        assert_eq!(room_for_clients(10_256), 10_000);
        assert_eq!(room_for_clients(1024), 768);
        assert_eq!(room_for_clients(100), 50);
        assert_eq!(room_for_clients(u64::MAX), u64::MAX - RESERVED);
    }
}
