//! One file over HTTP into a partial file, resumed where an earlier try stopped.
//!
//! Trusts the lock for size and digest, and the mirror for nothing: it may ignore `Range` and send everything, send another
//! range, too much, too little or something else. Promises that on `Ok` the partial file is whole, checked and on disk. On
//! an error the partial file holds either bytes worth resuming from or does not exist. Being killed at any point is the
//! same as a broken connection.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Body, BodyReader};

use super::{FetchError, MirrorFault, Progress};
use crate::error::Error;
use crate::files;
use crate::formats::metered::{Metered, TooLong};
use crate::limits::{CHUNK_BYTES, CONNECT_TIMEOUT, READ_TIMEOUT, RESPONSE_TIMEOUT, RESUMES_MAX};
use registers::Digest32;

/// An HTTP client that trusts the system's certificate store, as networks that re-sign TLS require; the digest decides anyway.
pub(crate) struct Agent(ureq::Agent);

impl Agent {
    pub(crate) fn new() -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            // A compressed body would have another size and digest.
            .accept_encoding("identity")
            .user_agent("chrysalis-image-builder")
            .build();
        Self(config.into())
    }
}

/// A file as a lock or a checked index describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    pub(crate) bytes: u64,
    pub(crate) sha256: Digest32,
}

/// Fetches `wanted` into `partial` until it is exactly that.
pub(crate) fn download(
    agent: &Agent,
    wanted: Wanted<'_>,
    partial: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    let mut download = Download {
        agent,
        wanted,
        partial: Partial::open(partial, wanted.bytes)?,
    };
    let mut resumes = 0;
    let mut restarted = false;
    loop {
        let before = download.partial.seen;
        match download.attempt(progress) {
            Ok(()) => return Ok(()),
            // Progress was made, so the mirror is alive: go on from there.
            Err(FetchError::Network { got, reason, .. })
                if got > before && resumes < RESUMES_MAX =>
            {
                resumes += 1;
                progress(Progress::Resuming { reason: &reason });
            }
            // The bytes from an earlier try may be the ones that are wrong: once, try without them.
            Err(FetchError::Mirror { fault, .. })
                if before > 0 && !restarted && is_about_content(&fault) =>
            {
                restarted = true;
                download.partial.restart()?;
                progress(Progress::Restarting {
                    reason: &fault.to_string(),
                });
            }
            Err(error) => {
                let worthless = match &error {
                    FetchError::Mirror { fault, .. } => is_about_content(fault),
                    _ => false,
                };
                // What a full disk took of it is good; how much that was, the next run counts.
                let ours = matches!(&error, FetchError::Other(_));
                if worthless || (download.partial.seen == 0 && !ours) {
                    files::remove(partial)?;
                }
                return Err(error);
            }
        }
    }
}

struct Download<'a> {
    agent: &'a Agent,
    wanted: Wanted<'a>,
    partial: Partial<'a>,
}

impl Download<'_> {
    /// One request, unless everything is there already, and the check of the whole.
    fn attempt(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), FetchError> {
        let total = self.wanted.bytes;
        if self.partial.seen < total {
            let mut response = self.request()?;
            progress(Progress::Starting {
                url: self.wanted.url,
                got: self.partial.seen,
                total,
            });
            self.receive(response.body_mut().as_reader(), progress)?;
        }
        let got = Digest32(self.partial.hasher.clone().finalize().into());
        if got != self.wanted.sha256 {
            return Err(self.mirror(MirrorFault::WrongDigest {
                got,
                expected: self.wanted.sha256,
            }));
        }
        let synced = self.partial.file.sync_all();
        Ok(synced.map_err(Error::disk("syncing", self.partial.path))?)
    }

    /// Asks for what is missing and makes the partial file agree with where the answer starts.
    fn request(&mut self) -> Result<Response<Body>, FetchError> {
        let seen = self.partial.seen;
        let mut request = self.agent.0.get(self.wanted.url);
        if seen > 0 {
            request = request.header("Range", format!("bytes={seen}-"));
        }
        let response = request
            .call()
            .map_err(|error| self.network(error.to_string()))?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        match response.status().as_u16() {
            206 if seen > 0 => {
                let range = header("content-range").unwrap_or("no Content-Range");
                if !range_starts_at(range, seen, self.wanted.bytes) {
                    return Err(self.mirror(MirrorFault::Range {
                        got: range.chars().take(80).collect(),
                    }));
                }
            }
            // A mirror that ignores Range sends the whole file: then its first byte is the file's first byte.
            200 => self.partial.restart()?,
            status => return Err(self.mirror(MirrorFault::Status(status))),
        }
        let expected = self.wanted.bytes - self.partial.seen;
        match response.body().content_length() {
            Some(got) if got != expected => Err(self.mirror(MirrorFault::Length { got, expected })),
            _ => Ok(response),
        }
    }

    fn receive(
        &mut self,
        body: BodyReader<'_>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), FetchError> {
        let total = self.wanted.bytes;
        let hasher = self.partial.hasher.clone();
        let mut metered = Metered::after(body, hasher, self.partial.seen, total);
        let mut buffer = vec![0; CHUNK_BYTES];
        let ended = loop {
            match metered.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(got) => {
                    let written = self.partial.file.write_all(&buffer[..got]);
                    written.map_err(Error::disk("writing", self.partial.path))?;
                    progress(Progress::Received {
                        got: metered.seen(),
                        total,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        (self.partial.seen, self.partial.hasher) = metered.into_state();
        match ended {
            Err(error) if TooLong::is(&error) => {
                Err(self.mirror(MirrorFault::TooLong { expected: total }))
            }
            Err(error) => Err(self.network(error.to_string())),
            Ok(()) if self.partial.seen < total => {
                Err(self.network("the connection ended early".into()))
            }
            Ok(()) => Ok(()),
        }
    }

    fn mirror(&self, fault: MirrorFault) -> FetchError {
        FetchError::Mirror {
            url: self.wanted.url.to_owned(),
            fault,
        }
    }

    fn network(&self, reason: String) -> FetchError {
        let (got, expected) = (self.partial.seen, self.wanted.bytes);
        FetchError::Network {
            url: self.wanted.url.to_owned(),
            got,
            expected,
            reason,
        }
    }
}

/// Fetches a small file of which no digest is known, into memory.
pub(crate) fn get(agent: &Agent, url: &str, bytes_max: u64) -> Result<Vec<u8>, FetchError> {
    get_as(agent, url, None, bytes_max)
}

/// The same, of the kind that is asked for.
pub(crate) fn get_as(
    agent: &Agent,
    url: &str,
    accept: Option<&str>,
    bytes_max: u64,
) -> Result<Vec<u8>, FetchError> {
    let network = |reason: String| FetchError::Network {
        url: url.to_owned(),
        got: 0,
        expected: bytes_max,
        reason,
    };
    let mirror = |fault| FetchError::Mirror {
        url: url.to_owned(),
        fault,
    };
    let mut request = agent.0.get(url);
    if let Some(accept) = accept {
        request = request.header("Accept", accept);
    }
    let mut response = request.call().map_err(|error| network(error.to_string()))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(mirror(MirrorFault::Status(status)));
    }
    let mut bytes = Vec::new();
    let body = response.body_mut().as_reader();
    match body.take(bytes_max + 1).read_to_end(&mut bytes) {
        Err(error) => Err(network(error.to_string())),
        Ok(got) if got as u64 > bytes_max => Err(mirror(MirrorFault::Endless { bytes_max })),
        Ok(_) => Ok(bytes),
    }
}

/// The file under way, with the hash state of what is in it.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    seen: u64,
    hasher: Sha256,
}

impl<'a> Partial<'a> {
    /// Opens or creates it and hashes what is there; more than the whole is worth nothing.
    fn open(path: &'a Path, bytes_max: u64) -> Result<Self, Error> {
        let opened = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = opened.map_err(Error::disk("opening", path))?;
        let mut metered = Metered::new(&file, bytes_max);
        let read = io::copy(&mut metered, &mut io::sink());
        let (seen, hasher) = metered.into_state();
        let mut partial = Self {
            path,
            file,
            seen,
            hasher,
        };
        match read {
            Ok(_) => Ok(partial),
            Err(error) if TooLong::is(&error) => partial.restart().map(|()| partial),
            Err(error) => Err(Error::disk("reading", path)(error)),
        }
    }

    fn restart(&mut self) -> Result<(), Error> {
        let emptied = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(Error::disk("emptying", self.path))?;
        self.seen = 0;
        self.hasher = Sha256::new();
        Ok(())
    }
}

/// Whether the bytes at hand are in doubt. A mirror that is merely out of order leaves them worth keeping; 416 says that
/// there is nothing where our bytes end, so they cannot be its file's.
fn is_about_content(fault: &MirrorFault) -> bool {
    match fault {
        MirrorFault::Status(status) => *status == 416,
        MirrorFault::Length { .. } | MirrorFault::TooLong { .. } => true,
        MirrorFault::Range { .. } | MirrorFault::WrongDigest { .. } => true,
        MirrorFault::Endless { .. } => true,
    }
}

/// Whether a Content-Range says `bytes START-.../TOTAL` (RFC 9110, section 14.4); the total may be `*`.
fn range_starts_at(range: &str, start: u64, total: u64) -> bool {
    let Some((first, rest)) = range
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('-'))
    else {
        return false;
    };
    let Some((_, of)) = rest.split_once('/') else {
        return false;
    };
    first.parse() == Ok(start) && (of == "*" || of.parse() == Ok(total))
}
