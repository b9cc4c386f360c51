//! A source of collateral on loopback that replies as a test wants: well, badly, slowly, or not at all. It writes bytes to a
//! socket, so that it can break HTTP in ways that no library would.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it answers a request.
#[derive(Clone)]
pub enum Reply {
    /// A whole answer: status, headers, body.
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// A header that promises the body, and half of the body.
    Cut(Vec<u8>),
    /// Nothing, for ever.
    Nothing,
    /// A byte now and then.
    Drip,
    /// Bytes without end.
    Endless,
    /// Bytes that are no HTTP.
    NotHttp,
}

/// A server that ends with the test's process.
#[derive(Clone)]
pub struct FakeSource {
    pub address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Reply>>>,
    seen: Arc<Mutex<Vec<String>>>,
    down: Arc<Mutex<bool>>,
}

impl FakeSource {
    /// Listens. Any other path is 404.
    pub fn start() -> FakeSource {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let source = FakeSource {
            address: listener.local_addr().expect("bound"),
            answers: Arc::default(),
            seen: Arc::default(),
            down: Arc::default(),
        };
        let served = source.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.serve(stream));
            }
        });
        source
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, `path` (without its query) gets this answer.
    pub fn replies(&self, path: &str, reply: Reply) {
        self.answers
            .lock()
            .expect("whole")
            .insert(path.to_owned(), reply);
    }

    /// From now on, connections are closed unanswered, or no longer.
    pub fn is_down(&self, down: bool) {
        *self.down.lock().expect("whole") = down;
    }

    /// Paths with queries, in the order in which they came.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("whole").clone()
    }

    fn serve(&self, mut stream: TcpStream) {
        if *self.down.lock().expect("whole") {
            return;
        }
        let mut lines = BufReader::new(stream.try_clone().expect("a socket"));
        let mut request = String::new();
        let mut line = String::new();
        loop {
            line.clear();
            match lines.read_line(&mut line) {
                Ok(got) if got > 0 && line != "\r\n" => {
                    if request.is_empty() {
                        request.clone_from(&line);
                    }
                }
                _ => break,
            }
        }
        let target = request.split(' ').nth(1).unwrap_or("/").to_owned();
        self.seen.lock().expect("whole").push(target.clone());
        let path = target.split('?').next().unwrap_or_default();
        let reply = self.answers.lock().expect("whole").get(path).cloned();
        // The proxy may have hung up.
        let _ = answer(&mut stream, reply.unwrap_or(status(404)));
    }
}

/// An answer without a body.
pub fn status(status: u16) -> Reply {
    Reply::Whole(status, Vec::new(), Vec::new())
}

/// A whole answer of a kind.
pub fn body(kind: &str, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Whole(200, vec![("Content-Type".into(), kind.into())], body.into())
}

fn answer(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n";
    match reply {
        Reply::Whole(status, headers, body) => {
            write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\n")?;
            for (name, value) in headers {
                write!(stream, "{name}: {value}\r\n")?;
            }
            write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(&body)
        }
        Reply::Cut(body) => {
            stream.write_all(OK)?;
            write!(stream, "Content-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(&body[..body.len() / 2])
        }
        Reply::Nothing => {
            std::thread::sleep(Duration::from_secs(3600));
            Ok(())
        }
        Reply::Drip => {
            stream.write_all(OK)?;
            stream.write_all(b"Content-Length: 100000\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Reply::Endless => {
            stream.write_all(OK)?;
            stream.write_all(b"\r\n")?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }
        Reply::NotHttp => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"),
    }
}
