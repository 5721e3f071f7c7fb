//! Maelstrom's workloads against any program that speaks its protocol: what clients saw, and whether that may be.
//!
//! [`run`](run::run) starts the nodes ([`processes`]), carries their messages ([`router`]) over a [`network`] that delays and loses
//! them, breaks things on a plan drawn from the seed ([`nemesis`]), and asks what a [`workload`] asks ([`clients`]). A [`history`] is
//! what clients asked and were told; [`check`](mod@check) decides whether that may be, and [`verdict`] is what it says. A [`report`]
//! tells people, and so does a [`page`].

pub mod check;
pub mod clients;
mod delay;
pub mod history;
mod inbox;
mod message;
pub mod nemesis;
pub mod network;
pub mod options;
pub mod page;
pub mod processes;
pub mod report;
pub mod router;
pub mod run;
pub mod verdict;
pub mod workload;
