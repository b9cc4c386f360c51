//! A mirror on the loopback: one thread, one scripted reply for each connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the mirror does with one request.
#[derive(Clone, Copy)]
pub enum Reply {
    /// 200 with everything, Range or not.
    Whole,
    /// 206 with what was asked for.
    Range,
    /// 206 from another byte than was asked for.
    RangeFrom(usize),
    /// 200 that announces everything and stops after so many bytes.
    Cut(usize),
    /// The same with a flipped bit in the first byte.
    CutSpoilt(usize),
    /// 200 with one flipped bit in the middle.
    Spoilt,
    /// 200 with one byte more, announced.
    Longer,
    /// 200 with one byte more and no length.
    LongerUnannounced,
    /// No answer.
    Close,
    /// A status and no body.
    Status(u16),
}

/// The server. Its thread ends when the script does.
pub struct Mirror {
    url: String,
    requests: Arc<Mutex<Vec<Option<String>>>>,
}

impl Mirror {
    /// Serves `body` by the script.
    pub fn start(body: Vec<u8>, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for reply in replies {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                let range = read_request(&stream);
                seen.lock()
                    .expect("no panic while held")
                    .push(range.clone());
                // The client may hang up first, which is its right.
                let _ = answer(stream, &body, reply, range.as_deref());
            }
        });
        Self { url, requests }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The Range header of each request so far.
    pub fn requests(&self) -> Vec<Option<String>> {
        self.requests.lock().expect("no panic while held").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<String> {
    let mut range = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap_or_default().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("range: ") {
            range = Some(value.to_owned());
        }
    }
    range
}

fn answer(
    mut stream: TcpStream,
    body: &[u8],
    reply: Reply,
    range: Option<&str>,
) -> std::io::Result<()> {
    let asked = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let total = body.len();
    let mut spoilt = body.to_vec();
    let (head, sent): (String, &[u8]) = match reply {
        Reply::Whole => (whole(total), body),
        Reply::Range => part(body, asked.unwrap_or(0)),
        Reply::RangeFrom(start) => part(body, start),
        Reply::Cut(bytes) => (whole(total), &body[..bytes]),
        Reply::CutSpoilt(bytes) => {
            spoilt[0] ^= 1;
            (whole(total), &spoilt[..bytes])
        }
        Reply::Spoilt => {
            spoilt[total / 2] ^= 1;
            (whole(total), &spoilt)
        }
        Reply::Longer => {
            spoilt.push(0);
            (whole(total + 1), &spoilt)
        }
        Reply::LongerUnannounced => {
            spoilt.push(0);
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".into(),
                &spoilt,
            )
        }
        Reply::Close => return Ok(()),
        Reply::Status(status) => (
            format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            &[],
        ),
    };
    stream.write_all(head.as_bytes())?;
    stream.write_all(sent)
}

fn whole(bytes: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n")
}

fn part(body: &[u8], start: usize) -> (String, &[u8]) {
    let (length, total, last) = (body.len() - start, body.len(), body.len() - 1);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {start}-{last}/{total}\r\n\
         Connection: close\r\n\r\n"
    );
    (head, &body[start..])
}
