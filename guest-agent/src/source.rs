//! Where the agent reads its configuration from, or asks a simulator: a path, or a vsock port of the host.
//!
//! The peer is unauthenticated. How much is read and how long that may take is bounded here; whether the bytes are
//! trusted is decided by the caller.

use crate::chunked_writer::CHUNK_BYTES_MAX;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long connecting may take, and then one answer. It is generous because a guest's clock belongs to its host, and
/// runs several times too fast in an emulated machine.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The pause between two attempts to reach a vsock port. The host's side may still be coming up; where nobody listens,
/// `vhost-device-vsock` 0.3.0 answers nothing, and the kernel gives up one attempt after two seconds of the guest's clock.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// `PATH` or `vsock:CID:PORT`. The host is CID 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file to read, or a Unix socket to ask.
    Path(PathBuf),
    /// A vsock port.
    Vsock {
        /// The context id of its machine.
        cid: u32,
        /// The port.
        port: u32,
    },
}

/// Text that is not a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a path nor vsock:CID:PORT")]
pub struct SourceError(String);

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let bad = || SourceError(text.into());
        let Some(vsock) = text.strip_prefix("vsock:") else {
            return match text.is_empty() {
                true => Err(bad()),
                false => Ok(Source::Path(text.into())),
            };
        };
        let (cid, port) = vsock.split_once(':').ok_or_else(bad)?;
        Ok(Source::Vsock {
            cid: decimal(cid).ok_or_else(bad)?,
            port: decimal(port).ok_or_else(bad)?,
        })
    }
}

/// Digits only: `parse` alone takes a sign too.
fn decimal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Path(path) => path.display().fmt(f),
            Source::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

impl Source {
    /// Everything there is, up to one byte more than `bytes_max`, by which the caller sees that it is too long.
    pub fn read(&self, bytes_max: usize) -> io::Result<Vec<u8>> {
        let limit = bytes_max + 1;
        match self {
            Source::Path(path) => {
                let mut bytes = Vec::new();
                File::open(path)?
                    .take(limit as u64)
                    .read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Source::Vsock { .. } => {
                let deadline = Instant::now() + ANSWER_TIME;
                self.connect()?.read_to_end_by(deadline, limit)
            }
        }
    }

    /// A connection to what listens there: a Unix socket, or a vsock port.
    pub fn connect(&self) -> io::Result<Connection> {
        let socket: OwnedFd = match self {
            Source::Path(path) => UnixStream::connect(path)?.into(),
            Source::Vsock { cid, port } => reach(&VsockAddr::new(*cid, *port))?,
        };
        let time = TimeVal::new(ANSWER_TIME.as_secs() as i64, 0);
        setsockopt(&socket, SendTimeout, &time)?;
        let connection = Connection(socket.into());
        connection.wait_at_most(ANSWER_TIME)?;
        Ok(connection)
    }
}

/// A connected socket whose reads and writes end after a minute, and whose writes are as small as vsock needs them.
#[derive(Debug)]
pub struct Connection(File);

impl Connection {
    /// Limits the next read.
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        // Zero would mean for ever.
        let time = time.max(Duration::from_millis(1));
        let time = TimeVal::new(time.as_secs() as i64, time.subsec_micros().into());
        Ok(setsockopt(&self.0, ReceiveTimeout, &time)?)
    }

    /// Reads to the end or to `limit` bytes, and fails when the deadline passes first, however the bytes trickle in.
    fn read_to_end_by(mut self, deadline: Instant, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        while bytes.len() < limit {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.wait_at_most(left)?;
            let room = chunk.len().min(limit - bytes.len());
            match self.0.read(&mut chunk[..room]) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

impl Read for Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(CHUNK_BYTES_MAX)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn reach(address: &VsockAddr) -> io::Result<OwnedFd> {
    let deadline = Instant::now() + ANSWER_TIME;
    loop {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
        match connect(socket.as_raw_fd(), address) {
            Ok(()) => return Ok(socket),
            // This machine has no vsock device, and none will come.
            Err(Errno::ENODEV) => return Err(Errno::ENODEV.into()),
            Err(errno) if Instant::now() >= deadline => return Err(errno.into()),
            Err(_) => std::thread::sleep(CONNECT_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_or_a_vsock_port() {
        let check = |text: &str| text.parse::<Source>().ok();
        let vsock = |cid, port| Some(Source::Vsock { cid, port });
        let path = |text: &str| Some(Source::Path(text.into()));
        assert_eq!(check("vsock:2:9101"), vsock(2, 9101));
        assert_eq!(check("vsock:0:4294967295"), vsock(0, u32::MAX));
        assert_eq!(check("config.json"), path("config.json"));
        assert_eq!(check("a/vsock:2:3"), path("a/vsock:2:3"));
        for bad in [
            "",
            "vsock:",
            "vsock:2",
            "vsock:2:",
            "vsock::2",
            "vsock:2:3:4",
            "vsock:+2:3",
            "vsock:2: 3",
            "vsock:x:3",
            "vsock:2:4294967296",
        ] {
            assert_eq!(check(bad), None, "{bad}");
        }
        for text in ["vsock:2:9101", "a/b"] {
            assert_eq!(check(text).unwrap().to_string(), text);
        }
    }

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection(File::from(OwnedFd::from(ours))), theirs)
    }

    #[test]
    fn reading_stops_at_the_end_at_the_limit_and_at_the_deadline() {
        let soon = || Instant::now() + Duration::from_millis(200);

        let (ours, mut theirs) = pair();
        theirs.write_all(b"configuration").unwrap();
        drop(theirs);
        assert_eq!(ours.read_to_end_by(soon(), 100).unwrap(), b"configuration");

        let (ours, mut theirs) = pair();
        theirs.write_all(&[7; 5000]).unwrap();
        assert_eq!(ours.read_to_end_by(soon(), 4999).unwrap(), [7; 4999]);
        drop(theirs);

        // One byte now and then, each in time, must not keep the reader for longer than the deadline.
        let (ours, mut theirs) = pair();
        let trickle = std::thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let started = Instant::now();
        let late = ours.read_to_end_by(soon(), 1 << 20).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(5));
        trickle.join().unwrap();

        let (ours, theirs) = pair();
        let silent = ours.read_to_end_by(soon(), 100).unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::TimedOut);
        drop(theirs);
    }

    #[test]
    fn a_file_is_read_up_to_one_byte_above_the_limit() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 100]).unwrap();
        let source = Source::Path(file.path().into());
        for (limit, expected) in [(99, 100), (100, 100), (98, 99), (1000, 100)] {
            assert_eq!(source.read(limit).unwrap().len(), expected, "{limit}");
        }
        assert!(Source::Path("/nowhere/at/all".into()).read(1).is_err());
    }
}
