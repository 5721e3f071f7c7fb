//! A socket that gives up on a client that does not take what is written to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::traffic::Traffic;

/// A socket whose writes fail once none has got on for a while.
pub struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write waits.
    limit: Option<Pin<Box<Sleep>>>,
    traffic: Arc<Traffic>,
}

impl Patient {
    /// A socket whose bytes are counted.
    pub fn new(stream: TcpStream, patience: Duration, traffic: Arc<Traffic>) -> Self {
        Patient { stream, patience, limit: None, traffic }
    }

    /// What a write came to: an error if it has waited too long.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &written {
            self.traffic.sent_bytes.add(*written.as_ref().unwrap_or(&0) as u64);
            self.limit = None;
        }
        if written.is_ready() {
            return written;
        }
        let patience = self.patience;
        ready!(self.limit.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.traffic.received_bytes.add((into.filled().len() - before) as u64);
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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
            let stream = TcpStream::from_std(server).unwrap();
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
