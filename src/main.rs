//! The `raft` binary: runs a node, or a whole cluster.

mod cli;

/// The system's own allocator tidies up for tens of milliseconds at a time while a snapshot of a large state is made: see
/// docs/PERFORMANCE.md, "Snapshots".
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
