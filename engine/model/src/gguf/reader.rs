//! Bytes of a header, counted and never beyond the end of the file.

use std::io::{ErrorKind, Read};

use super::refuse;
use crate::limits::{
    GGUF_HEADER_BYTES_MAX, GGUF_KEPT_BYTES_MAX, GGUF_NAME_BYTES_MAX, GGUF_TEXT_BYTES_MAX,
};
use crate::whole::Flaw;

pub(super) struct Reader<R> {
    content: R,
    at: u64,
    end: u64,
    kept: u64,
    kept_max: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(bytes: u64, content: R) -> Self {
        Reader {
            content,
            at: 0,
            end: bytes.min(GGUF_HEADER_BYTES_MAX),
            kept: 0,
            kept_max: GGUF_KEPT_BYTES_MAX,
        }
    }

    /// Of one list, whose length was judged before.
    pub(super) fn of_array(bytes: u64, content: R) -> Self {
        let kept_max = u64::MAX;
        Reader {
            kept_max,
            ..Self::new(bytes, content)
        }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Flaw> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Flaw> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Flaw> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A name of a tensor or a key: short.
    pub(super) fn name(&mut self, what: &str) -> Result<String, Flaw> {
        self.text(what, GGUF_NAME_BYTES_MAX)
    }

    /// A text that is kept.
    pub(super) fn long_text(&mut self, what: &str) -> Result<String, Flaw> {
        self.text(what, GGUF_TEXT_BYTES_MAX)
    }

    fn text(&mut self, what: &str, bytes_max: u64) -> Result<String, Flaw> {
        let length = self.u64(what)?;
        if length > bytes_max {
            return Err(refuse(format!(
                "{what} has {length} bytes; at most {bytes_max} are allowed"
            )));
        }
        self.within(length, what)?;
        self.keep(length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes).map_err(|_| refuse(format!("{what} is no UTF-8")))
    }

    /// Counts what is held in memory.
    pub(super) fn keep(&mut self, bytes: u64) -> Result<(), Flaw> {
        // What a value costs besides its bytes.
        self.kept = self.kept.saturating_add(bytes).saturating_add(64);
        match self.kept <= self.kept_max {
            true => Ok(()),
            false => Err(refuse(format!(
                "its names and values have more than {GGUF_KEPT_BYTES_MAX} bytes together"
            ))),
        }
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Flaw> {
        self.within(bytes, "its header")?;
        let skipped = std::io::copy(&mut (&mut self.content).take(bytes), &mut std::io::sink());
        self.at += bytes;
        match skipped.map_err(Flaw::unreadable)? == bytes {
            true => Ok(()),
            false => Err(cut("its header")),
        }
    }

    fn fill(&mut self, out: &mut [u8], what: &str) -> Result<(), Flaw> {
        self.within(out.len() as u64, what)?;
        self.at += out.len() as u64;
        self.content
            .read_exact(out)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => cut(what),
                kind => Flaw::Unreadable(kind),
            })
    }

    fn within(&self, bytes: u64, what: &str) -> Result<(), Flaw> {
        match self.at.checked_add(bytes) {
            Some(end) if end <= self.end => Ok(()),
            _ if self.end == GGUF_HEADER_BYTES_MAX => Err(refuse(format!(
                "its header has more than {GGUF_HEADER_BYTES_MAX} bytes"
            ))),
            _ => Err(cut(what)),
        }
    }
}

fn cut(what: &str) -> Flaw {
    refuse(format!("it ends within {what}: it was cut short"))
}
