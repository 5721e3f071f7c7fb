//! The loop that carries a load to etcd: a task for each client and one for each connection, in one thread.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{self, Connection, SendRequest};
use hyper::{Request as Head, StatusCode};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::{self, AbortHandle, JoinSet, LocalSet};
use tokio::time;

use super::connection::{Lost, PAUSE, RECONNECT_PAUSE};
use super::course::{Course, Phase, Request};
use super::grpc;
use super::load::{TICK, Teller};
use super::options::{Kind, Options};
use super::reply::{Malformed, Reply};
use super::summary::Summary;

/// What may arrive before the server has to be told that there is room: of one answer, and of all on a connection.
const WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The longest answer that is waited for.
const ANSWER_BYTES: usize = 64 << 20;

/// What all tasks share.
struct Load {
    options: Options,
    course: RefCell<Course>,
    /// Requests that wait for their answers.
    waiting: Cell<usize>,
}

/// One connection, as its clients see it.
struct Line {
    sender: SendRequest<Bytes>,
    put: Head<()>,
    get: Head<()>,
    /// What carries its bytes.
    driver: AbortHandle,
    /// Why it is of no more use.
    lost: OnceCell<&'static str>,
}

impl From<h2::Error> for Lost {
    fn from(_: h2::Error) -> Self {
        Lost("LOST")
    }
}

impl From<Malformed> for Lost {
    fn from(_: Malformed) -> Self {
        Lost("PROTOCOL")
    }
}

/// Runs a load, and returns what it came to.
pub fn load(options: &Options, mut teller: Teller<'_>) -> io::Result<Summary> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let (course, waiting) = (RefCell::new(Course::new(options)), Cell::new(0));
    let load = Rc::new(Load { options: options.clone(), course, waiting });
    let tasks = LocalSet::new();
    for clients in options.shares() {
        tasks.spawn_local(Rc::clone(&load).keep_connected(clients));
    }
    tasks.block_on(&runtime, async {
        let mut ticks = time::interval(TICK);
        while !load.is_over() {
            ticks.tick().await;
            let (now, mut course) = (Instant::now(), load.course.borrow_mut());
            course.advance(now);
            teller.look(&mut course, now);
        }
    });
    Ok(load.course.replace(Course::new(options)).summary)
}

impl Load {
    fn is_over(&self) -> bool {
        self.is_ending() && self.waiting.get() == 0
    }

    fn is_ending(&self) -> bool {
        self.course.borrow().phase() == Phase::Ending
    }

    /// Carries the requests of so many clients, over one connection after the other.
    async fn keep_connected(self: Rc<Self>, clients: usize) {
        for turn in 0.. {
            if let Ok(line) = self.connect(turn).await {
                let line = Rc::new(line);
                let mut tasks = JoinSet::new();
                for _ in 0..clients {
                    tasks.spawn_local(Rc::clone(&self).client(Rc::clone(&line)));
                }
                while tasks.join_next().await.is_some() {}
            }
            if self.is_ending() {
                return;
            }
            self.course.borrow_mut().lost_connection();
            time::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn connect(&self, turn: usize) -> Result<Line, Lost> {
        let addresses = &self.options.addresses;
        let address = *addresses.get(turn % addresses.len().max(1)).ok_or(Lost("LOST"))?;
        let head = |method| {
            let uri = format!("http://{address}/etcdserverpb.KV/{method}");
            let head = Head::post(uri).header("content-type", "application/grpc").header("te", "trailers");
            head.body(()).map_err(|_| Lost("LOST"))
        };
        let (sender, connection) =
            time::timeout(self.options.timeout, handshake(address)).await.map_err(|_| Lost("TIMEOUT"))??;
        // What goes wrong with it is seen by the requests.
        let driver = task::spawn_local(async { drop(connection.await) }).abort_handle();
        Ok(Line { sender, put: head("Put")?, get: head("Range")?, driver, lost: OnceCell::new() })
    }

    /// Sends one request after the other, until there are no more, or the connection is lost.
    async fn client(self: Rc<Self>, line: Rc<Line>) {
        while line.lost.get().is_none() {
            let mut message = Vec::new();
            let Some(request) = self.course.borrow_mut().next(Instant::now(), &mut message) else { return };
            self.waiting.update(|count| count + 1);
            let answer = time::timeout(self.options.timeout, line.exchange(request, message.into())).await;
            self.waiting.update(|count| count - 1);
            let rests = self.note(request, answer.unwrap_or(Err(Lost("TIMEOUT"))), &line);
            if rests {
                time::sleep(PAUSE).await;
            }
        }
    }

    /// What became of a request, and whether its client has to rest. All that waits fails with the connection, by the same word.
    fn note(&self, request: Request, answer: Result<Reply<'_>, Lost>, line: &Line) -> bool {
        let (now, mut course) = (Instant::now(), self.course.borrow_mut());
        match answer {
            Ok(reply) => course.answered(request, reply, now),
            Err(Lost(word)) => {
                course.failed(request, line.lost.get_or_init(|| word), now);
                line.driver.abort();
            }
        }
        matches!(answer, Ok(Reply::Error(_)))
    }
}

async fn handshake(address: std::net::SocketAddr) -> Result<(SendRequest<Bytes>, Connection<TcpStream, Bytes>), Lost> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut builder = client::Builder::new();
    builder.enable_push(false).initial_window_size(WINDOW_BYTES);
    builder.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(builder.handshake(stream).await?)
}

impl Line {
    async fn exchange(&self, request: Request, message: Bytes) -> Result<Reply<'static>, Lost> {
        let mut sender = self.sender.clone().ready().await?;
        let head = match request.kind {
            Kind::Put => &self.put,
            Kind::Get => &self.get,
        };
        let (response, mut stream) = sender.send_request(head.clone(), false)?;
        stream.send_data(message, true)?;
        let (head, mut body) = response.await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Lost("PROTOCOL"));
        }
        let mut answer = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            answer.extend_from_slice(&part);
            if answer.len() > ANSWER_BYTES {
                return Err(Lost("PROTOCOL"));
            }
        }
        // A server that has nothing to send but a status sends it with the head.
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        match (grpc::error(&trailers)?, request.kind) {
            (Some(error), _) => Ok(Reply::Error(error)),
            (None, Kind::Put) => Ok(Reply::Done),
            (None, Kind::Get) => Ok(grpc::found(&answer)?),
        }
    }
}
