//! The `raft` binary: runs a node, or a whole cluster.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
