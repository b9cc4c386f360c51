//! What the archives inside of a package are compressed with, told by their names (deb(5)), and undone in bounded memory.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
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

    /// What the member's bytes were before. Nothing is read yet but a header.
    pub(super) fn open<'a>(self, member: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let member = BufReader::with_capacity(1 << 16, member);
        Ok(match self {
            Self::None => Box::new(member),
            Self::Gzip => Box::new(MultiGzDecoder::new(member)),
            Self::Xz => Box::new(XzReader::new_mem_limit(member, false, XZ_MEMORY_KIB_MAX)),
            Self::Zstd => Box::new(Zstd::open(member)?),
        })
    }
}

/// One frame (RFC 8878), with nothing behind it, and with its checksum if it has one.
struct Zstd<R: BufRead>(StreamingDecoder<R, FrameDecoder>);

impl<R: BufRead> Zstd<R> {
    fn open(member: R) -> io::Result<Self> {
        StreamingDecoder::new_with_max_window_size(member, ZSTD_WINDOW_BYTES_MAX)
            .map(Self)
            .map_err(|error| io::Error::other(error.to_string()))
    }

    fn end(&mut self) -> io::Result<()> {
        let decoder = &self.0.decoder;
        let stated = decoder.get_checksum_from_data();
        if stated.is_some() && stated != decoder.get_calculated_checksum() {
            return Err(io::Error::other("its checksum is another"));
        }
        match self.0.get_mut().fill_buf()? {
            [] => Ok(()),
            _ => Err(io::Error::other("it goes on behind its end")),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(buffer)?;
        if got == 0 && !buffer.is_empty() {
            self.end()?;
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::deb::compression;
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
        let how = compression(name, "data.tar").expect("it is the data");
        let how = how.map_err(|e| e.to_string())?;
        let mut found = Vec::new();
        let mut reader = how.open(bytes).map_err(|e| e.to_string())?;
        reader.read_to_end(&mut found).map_err(|e| e.to_string())?;
        Ok(found)
    }

    #[test]
    fn what_was_compressed_comes_out() {
        let text: Vec<u8> = (0..300_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        assert_eq!(read("data.tar", &text).as_ref(), Ok(&text));
        assert_eq!(read("data.tar.gz", &gzip(&text)).as_ref(), Ok(&text));
        assert_eq!(read("data.tar.zst", &zstd(&text)).as_ref(), Ok(&text));
        assert!(compression("control.tar.xz", "data.tar").is_none());
        let other = read("data.tar.bz2", b"").unwrap_err();
        assert!(other.contains("`data.tar.bz2`"), "{other}");
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
