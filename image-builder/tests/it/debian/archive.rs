//! A Debian mirror on the loopback: files by path, one thread.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The server. Its thread ends with the process.
pub struct Archive {
    url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    /// Of these paths only so many bytes are sent, once.
    cuts: BTreeMap<String, usize>,
    /// Of these paths only so many bytes are sent, and then nothing happens.
    stalls: BTreeMap<String, usize>,
    asked: Vec<String>,
    /// Connections that are kept open.
    stalled: Vec<TcpStream>,
}

impl Archive {
    /// An archive with nothing in it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let url = format!("http://{}/debian", listener.local_addr().expect("bound"));
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // The client may hang up first, which is its right.
                let _ = answer(stream, &served);
            }
        });
        Self { url, shared }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its paths outside Debian's lie.
    pub fn base(&self) -> &str {
        self.url.trim_end_matches("/debian")
    }

    /// Puts a file there, in place of one that was.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.shared().files.insert(path.into(), bytes.to_vec());
    }

    /// What lies there.
    pub fn get(&self, path: &str) -> Vec<u8> {
        self.shared().files[path].clone()
    }

    /// Takes a file away.
    pub fn drop(&self, path: &str) {
        self.shared().files.remove(path);
    }

    /// Breaks the next connection for `path` after so many bytes, and those that try to resume.
    pub fn cut(&self, path: &str, bytes: usize) {
        self.shared().cuts.insert(path.into(), bytes);
    }

    /// Sends only so many bytes of `path` and then neither goes on nor ends.
    pub fn stall(&self, path: &str, bytes: usize) {
        self.shared().stalls.insert(path.into(), bytes);
    }

    /// Lets connections live again.
    pub fn mend(&self) {
        self.shared().cuts.clear();
        self.shared().stalls.clear();
    }

    /// What was asked for so far, with the range if there was one.
    pub fn asked(&self) -> Vec<String> {
        self.shared().asked.clone()
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic while held")
    }
}

fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let (path, from) = read_request(&stream);
    let mut shared = shared.lock().expect("no panic while held");
    shared.asked.push(match from {
        Some(from) => format!("{path} from {from}"),
        None => path.clone(),
    });
    let Some(body) = shared.files.get(&path) else {
        return stream
            .write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let total = body.len();
    let start = from.unwrap_or(0).min(total);
    let status = match from {
        Some(_) => format!(
            "206 Part\r\nContent-Range: bytes {start}-{}/{total}",
            total - 1
        ),
        None => "200 OK".into(),
    };
    let length = total - start;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if let Some(end) = shared.stalls.get(&path) {
        stream.write_all(&body[start..start.max(*end)])?;
        shared.stalled.push(stream);
        return Ok(());
    }
    let end = shared.cuts.get(&path).map_or(total, |end| start.max(*end));
    stream.write_all(&body[start..end])
}

fn read_request(stream: &TcpStream) -> (String, Option<usize>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default();
    let path = path.strip_prefix("/debian/").unwrap_or(path).to_owned();
    let mut from = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
    }
    (path, from)
}
