//! Links between the nodes of a cluster that can be cut: what one node sends to another goes through a proxy, which holds
//! back everything while the link is cut. Nothing is reset: as on a real network, nobody is told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::cluster::{Cluster, label};

/// A link for each node to each other one. They end when this is dropped.
pub struct Links {
    links: BTreeMap<(u64, u64), Arc<Link>>,
    inis: BTreeMap<u64, PathBuf>,
}

struct Link {
    at: SocketAddr,
    to: SocketAddr,
    is_cut: Mutex<bool>,
    healed: Condvar,
    /// How often it has held something back.
    held: AtomicU64,
    ended: AtomicBool,
}

impl Links {
    /// Links for a cluster of which no node was started. Each node gets a raft.ini of its own, in which the others are where
    /// its links begin.
    pub fn of(cluster: &Cluster) -> Links {
        let text = std::fs::read_to_string(cluster.ini()).expect("raft.ini");
        let (mut links, mut inis) = (BTreeMap::new(), BTreeMap::new());
        for from in cluster.ids() {
            let mut own = text.clone();
            for to in cluster.ids().into_iter().filter(|to| *to != from) {
                let target = cluster.peer_address(to);
                let link = Link::open(target);
                let client_port = cluster.client_address(to).port();
                let there = format!("\nPort = {}\n", target.port());
                assert!(own.contains(&there), "{own}");
                let here = format!(
                    "\nPort = {}\nClientPort = {client_port}\nHttpPort = {}\n",
                    link.at.port(),
                    client_port + 1000
                );
                own = own.replace(&there, &here);
                links.insert((from, to), link);
            }
            let ini = cluster.ini().with_file_name(format!("raft-{}.ini", label(from)));
            std::fs::write(&ini, own).expect("raft.ini is written");
            inis.insert(from, ini);
        }
        Links { links, inis }
    }

    /// Starts a node behind its links.
    pub fn spawn(&self, cluster: &mut Cluster, id: u64) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raft"));
        command.arg("-c").arg(&self.inis[&id]).args(["-n", &id.to_string()]);
        cluster.spawn_by(id, command);
    }

    /// Cuts a node off from all others, in both directions.
    pub fn cut_off(&self, id: u64) {
        self.of_node(id).for_each(|link| link.set_cut(true));
    }

    /// Heals all links of a node. What was held back arrives.
    pub fn heal(&self, id: u64) {
        self.of_node(id).for_each(|link| link.set_cut(false));
    }

    /// How often the links of a node have held something back so far.
    pub fn held(&self, id: u64) -> u64 {
        self.of_node(id).map(|link| link.held.load(Ordering::SeqCst)).sum()
    }

    fn of_node(&self, id: u64) -> impl Iterator<Item = &Arc<Link>> {
        self.links.iter().filter(move |((from, to), _)| *from == id || *to == id).map(|(_, link)| link)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for link in self.links.values() {
            link.set_cut(false);
            link.ended.store(true, Ordering::SeqCst);
            // Wakes the thread that accepts.
            let _ = TcpStream::connect(link.at);
        }
    }
}

impl Link {
    fn open(to: SocketAddr) -> Arc<Link> {
        let listener = TcpListener::bind((to.ip(), 0)).expect("a free port");
        let link = Arc::new(Link {
            at: listener.local_addr().expect("an address"),
            to,
            is_cut: Mutex::new(false),
            healed: Condvar::new(),
            held: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&link);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let link = Arc::clone(&accepting);
                thread::spawn(move || link.forward(connection));
            }
        });
        link
    }

    fn set_cut(&self, cut: bool) {
        *self.is_cut.lock().expect("no thread panicked") = cut;
        self.healed.notify_all();
    }

    /// Returns when the link is whole.
    fn pass(&self) {
        let is_cut = self.is_cut.lock().expect("no thread panicked");
        if *is_cut {
            self.held.fetch_add(1, Ordering::SeqCst);
            drop(self.healed.wait_while(is_cut, |is_cut| *is_cut).expect("no thread panicked"));
        }
    }

    fn forward(&self, near: TcpStream) {
        self.pass();
        // The other node may be down: then the connection just ends.
        let Ok(far) = TcpStream::connect(self.to) else { return };
        for stream in [&near, &far] {
            stream.set_nodelay(true).expect("an option of a socket");
        }
        thread::scope(|scope| {
            scope.spawn(|| self.pump(&near, &far));
            self.pump(&far, &near);
        });
    }

    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.pass();
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
