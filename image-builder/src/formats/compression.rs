//! What the archives inside of a package, the indexes of a suite and a kernel's modules are compressed with, undone in bounded memory.
//!
//! **One rule for what lies behind the end of a stream**, whichever the format: another stream of the same format, which is read on
//! (RFC 1952 2.2, RFC 8878 3.1, "The .xz File Format" 2); in xz, padding of zero bytes that is a multiple of four; in zstd, a frame to be
//! skipped. Anything else is refused, so that nobody reads less than another reader of the same bytes would.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::limits::{XZ_MEMORY_KIB_MAX, ZSTD_WINDOW_BYTES_MAX};

/// The ways that dpkg writes, and those that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    /// By what follows the archive's name; none if this version does not read it.
    pub(super) fn of(suffix: &str) -> Option<Self> {
        match suffix {
            "" => Some(Self::None),
            ".gz" => Some(Self::Gzip),
            ".xz" => Some(Self::Xz),
            ".zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What the member's bytes were before. Nothing is read yet.
    pub(super) fn open<'a>(self, member: impl Read + 'a) -> Box<dyn Read + 'a> {
        let format = match self {
            Self::None => return Box::new(BufReader::with_capacity(1 << 16, member)),
            Self::Gzip => Format::Gzip,
            Self::Xz => Format::Xz(XZ_MEMORY_KIB_MAX),
            Self::Zstd => Format::Zstd,
        };
        Box::new(Streams::new(format, member))
    }
}

/// What was compressed with xz, by a decoder that takes at most so much memory.
pub(crate) fn xz(compressed: impl Read, memory_kib_max: u32) -> impl Read {
    Streams::new(Format::Xz(memory_kib_max), compressed)
}

/// A format of compressed streams.
#[derive(Debug, Clone, Copy)]
enum Format {
    Gzip,
    /// With the memory of a decoder, in KiB.
    Xz(u32),
    Zstd,
}

/// Streams of one format, one behind the other.
struct Streams<R: Read> {
    format: Format,
    state: State<Ahead<R>>,
}

enum State<R: BufRead> {
    /// Before the first stream.
    Start(R),
    Gzip(Box<GzDecoder<R>>),
    Xz(Box<XzReader<R>>),
    Zstd(Box<StreamingDecoder<R, FrameDecoder>>),
    /// After the last one, or an error.
    Ended,
}

impl<R: Read> Streams<R> {
    fn new(format: Format, compressed: R) -> Self {
        let inner = BufReader::with_capacity(1 << 16, compressed);
        let state = State::Start(Ahead {
            inner,
            seen: Vec::new(),
        });
        Self { format, state }
    }

    /// The next stream, once the one before has ended; or the end of all.
    fn next(&self, mut rest: Ahead<R>, first: bool) -> io::Result<State<Ahead<R>>> {
        if !first && matches!(self.format, Format::Xz(_)) {
            skip_padding(&mut rest)?;
        }
        while matches!(self.format, Format::Zstd) && is_skippable(rest.peek(4)?) {
            skip_frame(&mut rest)?;
        }
        let magic: &[u8] = match self.format {
            Format::Gzip => b"\x1f\x8b",
            Format::Xz(_) => b"\xfd7zXZ\0",
            Format::Zstd => b"\x28\xb5\x2f\xfd",
        };
        match rest.peek(magic.len())? {
            [] if first => return Err(invalid("it is empty")),
            [] => return Ok(State::Ended),
            found if found == magic => {}
            _ if first => return Err(invalid("it does not begin as its name says")),
            _ => {
                return Err(invalid(
                    "it goes on behind its end with other bytes than a further stream",
                ));
            }
        }
        Ok(match self.format {
            Format::Gzip => State::Gzip(Box::new(GzDecoder::new(rest))),
            Format::Xz(kib) => State::Xz(Box::new(XzReader::new_mem_limit(rest, false, kib))),
            Format::Zstd => {
                let opened =
                    StreamingDecoder::new_with_max_window_size(rest, ZSTD_WINDOW_BYTES_MAX);
                State::Zstd(Box::new(
                    opened.map_err(|error| invalid(&error.to_string()))?,
                ))
            }
        })
    }
}

impl<R: Read> Read for Streams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let got = match &mut self.state {
                State::Start(_) => 0,
                State::Gzip(stream) => stream.read(buffer)?,
                State::Xz(stream) => stream.read(buffer)?,
                State::Zstd(stream) => stream.read(buffer)?,
                State::Ended => return Ok(0),
            };
            if got > 0 {
                return Ok(got);
            }
            let (rest, first) = match std::mem::replace(&mut self.state, State::Ended) {
                State::Start(rest) => (rest, true),
                State::Gzip(stream) => (stream.into_inner(), false),
                State::Xz(stream) => (stream.into_inner(), false),
                State::Zstd(stream) => (end_of_frame(*stream)?, false),
                State::Ended => return Ok(0),
            };
            self.state = self.next(rest, first)?;
        }
    }
}

/// What follows a frame, if its checksum is right, or it has none.
fn end_of_frame<R: BufRead>(stream: StreamingDecoder<R, FrameDecoder>) -> io::Result<R> {
    let decoder = &stream.decoder;
    let stated = decoder.get_checksum_from_data();
    if stated.is_some() && stated != decoder.get_calculated_checksum() {
        return Err(invalid("its checksum is another"));
    }
    Ok(stream.into_inner())
}

/// Zero bytes behind an xz stream ("The .xz File Format", 2.2).
fn skip_padding(rest: &mut Ahead<impl Read>) -> io::Result<()> {
    while let [first, ..] = rest.peek(4)? {
        if *first != 0 {
            return Ok(());
        }
        if rest.peek(4)? != [0; 4] {
            return Err(invalid(
                "it has padding behind its end that is not a multiple of four zero bytes",
            ));
        }
        rest.consume(4);
    }
    Ok(())
}

/// RFC 8878, 3.1.2.
fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

fn skip_frame(rest: &mut Ahead<impl Read>) -> io::Result<()> {
    let mut header = [0; 8];
    rest.read_exact(&mut header)?;
    let [_, _, _, _, length @ ..] = header;
    let length = u64::from(u32::from_le_bytes(length));
    match io::copy(&mut rest.take(length), &mut io::sink())? == length {
        true => Ok(()),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

/// A reader that tells what comes next.
struct Ahead<R> {
    inner: BufReader<R>,
    /// Read from `inner`, and not taken yet.
    seen: Vec<u8>,
}

impl<R: Read> Ahead<R> {
    /// The next bytes, fewer than asked for only at the end.
    fn peek(&mut self, bytes: usize) -> io::Result<&[u8]> {
        let missing = bytes.saturating_sub(self.seen.len()) as u64;
        (&mut self.inner)
            .take(missing)
            .read_to_end(&mut self.seen)?;
        Ok(&self.seen[..bytes.min(self.seen.len())])
    }
}

impl<R: Read> BufRead for Ahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.seen.is_empty() {
            true => self.inner.fill_buf(),
            false => Ok(&self.seen),
        }
    }

    fn consume(&mut self, bytes: usize) {
        match self.seen.is_empty() {
            true => self.inner.consume(bytes),
            false => drop(self.seen.drain(..bytes)),
        }
    }
}

impl<R: Read> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.fill_buf()?.read(buffer)?;
        self.consume(got);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let how = Compression::of(name.trim_start_matches("data.tar")).expect("one that is read");
        let mut found = Vec::new();
        let read = how.open(bytes).read_to_end(&mut found);
        read.map(|_| found).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_compressed_comes_out() {
        let text: Vec<u8> = (0..300_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        assert_eq!(read("data.tar", &text).as_ref(), Ok(&text));
        assert_eq!(read("data.tar.gz", &gzip(&text)).as_ref(), Ok(&text));
        assert_eq!(read("data.tar.zst", &zstd(&text)).as_ref(), Ok(&text));
        assert_eq!(Compression::of(".bz2"), None);
    }

    #[test]
    fn a_changed_byte_or_a_cut_is_an_error_or_changes_nothing() {
        let text =
            b"a text that is long enough to have a repetition, a text that is long".repeat(9);
        for (name, packed) in [("data.tar.gz", gzip(&text)), ("data.tar.zst", zstd(&text))] {
            for at in 0..packed.len() {
                for bit in [0x01, 0x80] {
                    let mut bytes = packed.clone();
                    bytes[at] ^= bit;
                    // A header has bits that only describe, as the time in gzip's.
                    if let Ok(found) = read(name, &bytes) {
                        assert!(
                            found == text,
                            "{name} with byte {at} changed is another text"
                        );
                    }
                }
                assert!(read(name, &packed[..at]).is_err(), "{name} cut at {at}");
            }
            let longer = [&packed[..], b"x"].concat();
            assert!(read(name, &longer).is_err(), "{name} with a byte behind it");
        }
    }

    #[test]
    fn a_frame_that_asks_for_more_memory_than_is_given_is_refused() {
        // Magic, a descriptor without flags, a window of 2^(10 + 31) bytes and seven eighths more, an empty last block.
        let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00];
        let refused = read("data.tar.zst", &greedy).unwrap_err();
        assert!(refused.to_lowercase().contains("window"), "{refused}");
    }
}
