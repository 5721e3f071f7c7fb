//! A client's socket: gives up on one that does not take what is written to it, and tells whether it is still there.

use std::future::pending;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::traffic::Traffic;

/// A socket whose writes fail once none has got on for a while. Its bytes are counted.
pub struct Patient {
    stream: Arc<TcpStream>,
    patience: Duration,
    /// Runs while a write waits.
    limit: Option<Pin<Box<Sleep>>>,
    traffic: Arc<Traffic>,
}

/// Who sent a request.
#[derive(Clone)]
pub struct Client {
    /// The number of its connection, unique in this process.
    pub connection: u64,
    /// `None`: it is always there.
    stream: Option<Arc<TcpStream>>,
}

impl Client {
    /// The client at the other end of a socket.
    pub fn new(connection: u64, stream: Option<Arc<TcpStream>>) -> Self {
        Client { connection, stream }
    }

    /// Is done when the client has closed the connection, or its sending side: it waits for nothing any more. Never, where it
    /// has sent the next request already: then nobody can say.
    pub async fn gone(&self) {
        match &self.stream {
            Some(stream) if matches!(stream.peek(&mut [0]).await, Ok(0) | Err(_)) => {}
            _ => pending().await,
        }
    }

    /// Whether it is [gone](Self::gone) by now.
    pub fn is_gone(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| match SockRef::from(&**stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        })
    }
}

impl Patient {
    pub fn new(stream: Arc<TcpStream>, patience: Duration, traffic: Arc<Traffic>) -> Self {
        Patient { stream, patience, limit: None, traffic }
    }

    /// Writes as soon as the socket takes something: an error if it does not in time.
    fn poll_written(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while let Poll::Ready(ready) = self.stream.poll_write_ready(context) {
            match ready.and_then(|()| write(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.limit = None;
                    self.traffic.sent_bytes.add(*written.as_ref().unwrap_or(&0) as u64);
                    return Poll::Ready(written);
                }
            }
        }
        let patience = self.patience;
        ready!(self.limit.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(bytes) => {
                    self.traffic.received_bytes.add(bytes as u64);
                    into.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::thread;

    use super::*;

    #[test]
    fn only_a_client_that_takes_nothing_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        const MANY: usize = 64 << 20;
        let reader = thread::spawn(move || {
            client.read_exact(&mut vec![0; MANY]).unwrap();
            client
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let traffic = Arc::new(Traffic::default());
            let stream = Arc::new(TcpStream::from_std(server).unwrap());
            let mut server = Patient::new(stream, Duration::from_millis(500), Arc::clone(&traffic));
            let bytes = vec![0; 1 << 20];
            let error = loop {
                match poll_fn(|context| Pin::new(&mut server).poll_write(context, &bytes)).await {
                    Ok(written) => assert!(written > 0),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(traffic.sent_bytes.get() >= MANY as u64, "not before its client had stopped to read");
        });
        drop(reader.join());
    }
}
