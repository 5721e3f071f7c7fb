//! The workbench with real nodes: every workload, some of it under faults. They run one at a time: on two cores their timing is part
//! of what they test. The whole matrix of workloads, faults and sizes is `cargo xtask workbench`.

#![cfg(feature = "cli")]

mod command;
mod course;
mod support;
mod workloads;
