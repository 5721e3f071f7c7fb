//! A client of HTTP/1.1 that shows every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::cluster::PATIENCE;

/// One connection.
pub struct Http {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in small letters.
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Http {
    pub fn connect(address: SocketAddr) -> Http {
        Http::try_connect(address).expect("the HTTP port is open")
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Http> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Http { stream: BufReader::new(stream) })
    }

    pub fn close_sending_side(&self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).expect("the connection is open");
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the connection is open");
    }

    /// Sends a request whose head has these lines besides.
    pub fn send_request(&mut self, method: &str, target: &str, lines: &[&str], body: &str) {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
        lines.iter().for_each(|line| text += &format!("{line}\r\n"));
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send(text + "\r\n" + body);
    }

    /// The next answer; to a HEAD it has no body.
    pub fn receive(&mut self, head_only: bool) -> std::io::Result<Answer> {
        let mut line = || {
            let mut text = String::new();
            match self.stream.read_line(&mut text)? {
                0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
                _ => Ok(text.trim_end().to_owned()),
            }
        };
        let status = line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            let header = line()?;
            let Some((name, value)) = header.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        if !head_only {
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            answer.body = String::from_utf8(body).expect("text");
        }
        Ok(answer)
    }

    pub fn ask(&mut self, method: &str, target: &str, lines: &[&str], body: &str) -> Answer {
        self.send_request(method, target, lines, body);
        self.receive(method == "HEAD").expect("an answer")
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, &[], "")
    }

    pub fn put(&mut self, target: &str, body: &str) -> Answer {
        self.ask("PUT", target, &[], body)
    }

    pub fn post(&mut self, target: &str, body: &str) -> Answer {
        self.ask("POST", target, &[], body)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Status, body, and the word for the failure.
    pub fn shown(&self) -> (u16, &str, Option<&str>) {
        (self.status, &self.body, self.header("raft-error"))
    }
}
