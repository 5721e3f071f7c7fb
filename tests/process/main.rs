//! Real processes: clusters over TCP and over standard input and output, driven by our client, by other people's, and by
//! attackers. They run one at a time: on two cores their timing is part of what they test.

mod asynchronous;
mod attack;
mod clients;
mod cluster;
mod crash;
mod data;
mod elections;
mod folder;
mod full_disk;
mod http;
mod identity;
mod in_memory;
mod linearizability;
mod maelstrom;
mod peers;
mod queue;
mod redis_commands;
mod redis_twin;
mod scenarios;
mod sessions;
mod shell;
mod snapshot;
mod snapshot_attack;
mod support;
mod workloads;
