//! The header of a safetensors file: which tensors lie where behind it.
//!
//! Promises that the tensors cover the bytes behind the header exactly, from the first to the last, without a gap and without two
//! sharing a byte; that each has as many bytes as its shape and type call for; that no name stands twice. Source: the format's
//! description in the README of huggingface/safetensors, and what its version 0.7 refuses.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

use serde::Deserialize;

use crate::json;
use crate::limits::WEIGHTS_HEADER_BYTES_MAX;
use crate::whole::{Flaw, begin};

/// A header that fits its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    tensors: BTreeMap<String, Tensor>,
    bytes: u64,
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The type of its numbers, as the format spells it: `F32`.
    pub dtype: &'static str,
    /// Its extent in each dimension.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the end of the header.
    pub data: Range<u64>,
}

impl Header {
    /// Reads the header of a file of `bytes` bytes, and nothing behind it.
    pub fn read(bytes: u64, content: impl Read) -> Result<Self, Flaw> {
        let (start, content) = begin(content)?;
        if start.is_empty() {
            return Err(Flaw::Empty);
        }
        let length = start
            .first_chunk()
            .map(|length| u64::from_le_bytes(*length));
        let length = length.ok_or_else(|| refuse("it ends within the length of its header"))?;
        if length > WEIGHTS_HEADER_BYTES_MAX {
            return Err(refuse(format!(
                "its first eight bytes claim a header of {length} bytes; at most {WEIGHTS_HEADER_BYTES_MAX} are allowed"
            )));
        }
        if length > bytes.saturating_sub(8) {
            return Err(refuse(format!(
                "its header has {length} bytes and the file {bytes}: it was cut short"
            )));
        }
        let mut text = Vec::new();
        let read = content.take(8 + length).read_to_end(&mut text);
        read.map_err(Flaw::unreadable)?;
        let text = text.get(8..).filter(|text| text.len() as u64 == length);
        let text = text.ok_or_else(|| refuse("it ends within its header"))?;
        if text.first() != Some(&b'{') {
            return Err(refuse("its header does not begin with `{`"));
        }
        let wrong = |error: String| refuse(format!("its header {error}"));
        json::check_object(text).map_err(|flaw| wrong(flaw.to_string()))?;
        let listed = serde_json::from_slice::<Listed>(text);
        let listed = listed.map_err(|error| wrong(format!("lists no tensors: {error}")))?;
        let tensors = check(listed.tensors, bytes - 8 - length)?;
        Ok(Header {
            tensors,
            bytes: 8 + length,
        })
    }

    /// The tensor called so.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The names of its tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Bytes before the first tensor's.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Holds what a header lists against the `bytes` behind it.
fn check(listed: BTreeMap<String, Entry>, bytes: u64) -> Result<BTreeMap<String, Tensor>, Flaw> {
    if listed.is_empty() {
        return Err(refuse("it holds no tensor"));
    }
    let mut order: Vec<(&String, &Entry)> = listed.iter().collect();
    order.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    for (name, entry) in order {
        let (from, to) = entry.data_offsets;
        let refuse =
            |problem: String| Err(refuse(format!("its tensor `{}` {problem}", short(name))));
        if from != end {
            let what = if from < end {
                "shares bytes with another"
            } else {
                "leaves a gap before it"
            };
            return refuse(format!(
                "{what}: it begins at byte {from}, and the one before ends at {end}"
            ));
        }
        if to > bytes {
            return refuse(format!(
                "ends at byte {to} of the data, and there are {bytes}: the file was cut short"
            ));
        }
        let Some((dtype, bits)) = entry.dtype() else {
            return refuse(format!(
                "has the type `{}`, which the format does not know",
                short(&entry.dtype)
            ));
        };
        let numbers = entry
            .shape
            .iter()
            .try_fold(1u64, |all, one| all.checked_mul(*one));
        let needed = numbers.and_then(|numbers| numbers.checked_mul(bits));
        let needed = needed.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
        if needed.is_none() || needed != to.checked_sub(from) {
            return refuse(format!(
                "lies at bytes {from} to {to}, which is not the size of {:?} numbers of {dtype}",
                entry.shape
            ));
        }
        end = to;
    }
    if end != bytes {
        return Err(refuse(format!(
            "its tensors end at byte {end} of the data, and there are {bytes}"
        )));
    }
    let tensor = |entry: Entry| {
        let shape = entry.shape.iter().map(|one| usize::try_from(*one));
        Some(Tensor {
            dtype: entry.dtype()?.0,
            shape: shape.collect::<Result<_, _>>().ok()?,
            data: entry.data_offsets.0..entry.data_offsets.1,
        })
    };
    let tensors = listed
        .into_iter()
        .map(|(name, entry)| Some((name, tensor(entry)?)));
    tensors
        .collect::<Option<_>>()
        .ok_or_else(|| refuse("a tensor is too large for this machine"))
}

fn refuse(problem: impl Into<String>) -> Flaw {
    Flaw::Tensors(problem.into())
}

fn short(name: &str) -> String {
    name.chars().take(80).collect()
}

/// A tensor as the header lists it.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    /// Its type's name and the bits of one number.
    fn dtype(&self) -> Option<(&'static str, u64)> {
        DTYPES.iter().find(|(name, _)| *name == self.dtype).copied()
    }
}

#[derive(Deserialize)]
struct Listed {
    /// Free text for people, of which nothing is kept.
    #[serde(rename = "__metadata__")]
    _metadata: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Entry>,
}

/// The types of the format with the bits of one number (`Dtype` of safetensors 0.7).
const DTYPES: [(&str, u64); 20] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];
