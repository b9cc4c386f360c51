//! A long list in a GGUF file, read when somebody needs it.

use std::io::Read;
use std::ops::Range;

use super::reader::Reader;
use super::refuse;
use super::value::{Element, Value};
use crate::limits::{GGUF_ARRAY_BYTES_MAX, GGUF_ARRAY_MAX};
use crate::whole::Flaw;

/// A list that was passed over, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// What it is of.
    pub element: Element,
    /// Its length.
    pub count: u64,
    /// Its bytes in the file.
    pub bytes: Range<u64>,
}

impl Array {
    /// A list of texts, out of the file from its first byte on.
    pub fn texts(&self, content: impl Read) -> Result<Vec<String>, Flaw> {
        let texts = self.read(content)?.into_iter().map(|value| match value {
            Value::Text(text) => Ok(text),
            other => Err(refuse(format!("a list has {other:?} where a text is due"))),
        });
        texts.collect()
    }

    /// A list of whole numbers.
    pub fn integers(&self, content: impl Read) -> Result<Vec<i64>, Flaw> {
        let numbers = self.read(content)?.into_iter().map(|value| {
            let number = match value {
                Value::Signed(number) => Some(number),
                Value::Unsigned(number) => i64::try_from(number).ok(),
                _ => None,
            };
            number.ok_or_else(|| refuse("a list has something else where a whole number is due"))
        });
        numbers.collect()
    }

    /// A list of numbers.
    pub fn floats(&self, content: impl Read) -> Result<Vec<f64>, Flaw> {
        let numbers = self.read(content)?.into_iter().map(|value| {
            let due = || refuse("a list has something else where a number is due");
            value.float().ok_or_else(due)
        });
        numbers.collect()
    }

    fn read(&self, mut content: impl Read) -> Result<Vec<Value>, Flaw> {
        let bytes = self.bytes.end - self.bytes.start;
        if bytes > GGUF_ARRAY_BYTES_MAX || self.count > GGUF_ARRAY_MAX {
            return Err(refuse(format!(
                "a list has {} entries of {bytes} bytes; at most {GGUF_ARRAY_MAX} of {GGUF_ARRAY_BYTES_MAX} are read",
                self.count
            )));
        }
        let before = &mut (&mut content).take(self.bytes.start);
        std::io::copy(before, &mut std::io::sink()).map_err(Flaw::unreadable)?;
        let mut reader = Reader::of_array(bytes, std::io::BufReader::new(content));
        (0..self.count)
            .map(|_| self.element.read(&mut reader))
            .collect()
    }
}
