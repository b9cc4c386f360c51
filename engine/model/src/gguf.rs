//! GGUF, versions 2 and 3: metadata and tensors of a model in one file.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  values u64
//! values   × (key, type u32, value)                         [`Value`]
//! tensors  × (name, dimensions u32, extents u64, type u32, offset u64)
//! padding to `general.alignment`, then the tensors' bytes, each padded to it
//! ```
//! Source: docs/gguf.md of ggml, and what its `gguf.cpp` refuses. Promises that the tensors cover the bytes behind the header one
//! after another, without a gap beyond padding and without two sharing a byte, and end with the file; that each is whole blocks of a
//! type that is read here; that no name and no key stands twice. Lists of tokens are skipped and can be read later ([`Array`]).

mod array;
pub mod config;
pub mod names;
mod reader;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;

use crate::dtype::Dtype;
use crate::limits::{GGUF_TENSORS_MAX, GGUF_VALUES_MAX};
use crate::whole::{Flaw, begin};

use reader::Reader;

pub use array::Array;
pub use value::{Element, Value};

/// A header that fits its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    values: BTreeMap<String, Value>,
    tensors: Vec<Tensor>,
    bytes: u64,
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, as the file has it.
    pub name: String,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Its extent in each dimension, the rows first: the reverse of the file's order.
    pub shape: Vec<usize>,
    /// Its bytes, counted from the end of the header.
    pub data: Range<u64>,
}

impl Header {
    /// Reads the header of a file of `bytes` bytes, and the padding behind it. Many small reads: hand in a buffer.
    pub fn read(bytes: u64, content: impl Read) -> Result<Self, Flaw> {
        let (start, content) = begin(content)?;
        if start.is_empty() {
            return Err(Flaw::Empty);
        }
        let mut reader = Reader::new(bytes, content);
        let (tensors, values) = preamble(&mut reader)?;
        let values = value::read(&mut reader, values)?;
        let alignment = alignment(&values)?;
        let listed = (0..tensors).map(|_| Listed::read(&mut reader));
        let listed = listed.collect::<Result<Vec<_>, _>>()?;
        let unaligned = reader.at();
        let mut bytes_before = unaligned.next_multiple_of(alignment);
        if listed.is_empty() {
            bytes_before = bytes_before.min(bytes);
        }
        let data = bytes.checked_sub(bytes_before);
        let data = data.ok_or_else(|| refuse("it ends within its header: it was cut short"))?;
        reader.skip(bytes_before - unaligned)?;
        Ok(Header {
            values,
            tensors: placed(listed, alignment, data)?,
            bytes: bytes_before,
        })
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A value that is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A value that is a whole number from 0 on, of any type.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.value(key)?.number()
    }

    /// A value that is a number of any type.
    pub fn float(&self, key: &str) -> Option<f64> {
        self.value(key)?.float()
    }

    /// A value that is true or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A value that is a list too long to be held: a vocabulary's.
    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.value(key)? {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The model's architecture, as GGUF calls it: `llama`.
    pub fn architecture(&self) -> Option<&str> {
        self.text("general.architecture")
    }

    /// Its tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor called so.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Bytes before the first tensor's.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Tensors and values that follow.
fn preamble(reader: &mut Reader<impl Read>) -> Result<(u64, u64), Flaw> {
    if reader.array("its first four bytes")? != *b"GGUF" {
        return Err(refuse("it does not begin with `GGUF`"));
    }
    match reader.u32("its version")? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err(refuse(
                "it is big-endian, and only little-endian files are read",
            ));
        }
        version => {
            return Err(refuse(format!(
                "it has version {version}; versions 2 and 3 are read"
            )));
        }
    }
    let mut count = |what: &'static str, max: u64| match reader.u64(what)? {
        count if count <= max => Ok(count),
        count => Err(refuse(format!(
            "it claims {count} {what}; at most {max} are allowed"
        ))),
    };
    Ok((
        count("tensors", GGUF_TENSORS_MAX)?,
        count("values", GGUF_VALUES_MAX)?,
    ))
}

fn alignment(values: &BTreeMap<String, Value>) -> Result<u64, Flaw> {
    let Some(value) = values.get("general.alignment") else {
        return Ok(32);
    };
    let fits = |alignment: &u64| alignment.is_power_of_two() && (8..=1 << 16).contains(alignment);
    let alignment = value.number().filter(fits);
    alignment.ok_or_else(|| refuse("`general.alignment` is no power of two from 8 to 65536"))
}

/// A tensor as the header lists it.
struct Listed {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: u64,
    offset: u64,
}

impl Listed {
    fn read(reader: &mut Reader<impl Read>) -> Result<Self, Flaw> {
        let name = reader.name("the name of a tensor")?;
        let about = |problem: String| refuse(format!("its tensor `{name}` {problem}"));
        let dimensions = reader.u32("the dimensions of a tensor")?;
        if !(1..=4).contains(&dimensions) {
            return Err(about(format!(
                "has {dimensions} dimensions; 1 to 4 are allowed"
            )));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let extent = reader.u64("the extents of a tensor")?;
            let extent = usize::try_from(extent).ok().filter(|extent| *extent > 0);
            shape.push(extent.ok_or_else(|| about("has an extent out of bounds".into()))?);
        }
        let number = reader.u32("the type of a tensor")?;
        let dtype = dtype(number).map_err(|name| {
            about(format!(
                "is stored as {name}; {} are read",
                list(&Dtype::ALL)
            ))
        })?;
        let row = dtype.row_bytes(shape[0]).ok_or_else(|| {
            about(format!(
                "has rows of {} numbers, which are no whole blocks of {dtype}",
                shape[0]
            ))
        })?;
        let bytes = shape[1..]
            .iter()
            .try_fold(row as u64, |all, one| all.checked_mul(*one as u64));
        let bytes = bytes.filter(|bytes| *bytes <= i64::MAX as u64);
        let bytes = bytes.ok_or_else(|| about(format!("has {shape:?} numbers, too many")))?;
        shape.reverse();
        let offset = reader.u64("the offset of a tensor")?;
        Ok(Listed {
            name,
            dtype,
            shape,
            bytes,
            offset,
        })
    }
}

/// Holds what a header lists against the `data` bytes behind it.
fn placed(mut listed: Vec<Listed>, alignment: u64, data: u64) -> Result<Vec<Tensor>, Flaw> {
    listed.sort_by_key(|tensor| tensor.offset);
    let mut names = BTreeSet::new();
    let (mut end, mut padded) = (0u64, 0u64);
    let mut tensors = Vec::with_capacity(listed.len());
    for Listed {
        name,
        dtype,
        shape,
        bytes,
        offset,
    } in listed
    {
        let refuse = |problem: String| Err(refuse(format!("its tensor `{name}` {problem}")));
        if !names.insert(name.clone()) {
            return refuse("stands twice".into());
        }
        if offset != padded {
            let what = if offset < end {
                "shares bytes with another"
            } else {
                "does not follow the one before it"
            };
            return refuse(format!(
                "{what}: it begins at byte {offset}, expected {padded}"
            ));
        }
        end = match offset.checked_add(bytes) {
            Some(end) if end <= data => end,
            _ => {
                return refuse(format!(
                    "has {bytes} bytes from byte {offset} on, and there are {data}: the file was cut short"
                ));
            }
        };
        padded = end.next_multiple_of(alignment);
        tensors.push(Tensor {
            name,
            dtype,
            shape,
            data: offset..end,
        });
    }
    match data == end || data == padded {
        true => Ok(tensors),
        false => Err(refuse(format!(
            "its tensors end at byte {end} of the data, and there are {data}"
        ))),
    }
}

/// `enum ggml_type`, or the name of a type that is not read here.
fn dtype(number: u32) -> Result<Dtype, String> {
    Ok(match number {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::Q4_0,
        3 => Dtype::Q4_1,
        8 => Dtype::Q8_0,
        12 => Dtype::Q4K,
        14 => Dtype::Q6K,
        30 => Dtype::Bf16,
        _ => {
            let known = OTHER_TYPES.iter().find(|(one, _)| *one == number);
            return Err(known.map_or_else(|| format!("type {number}"), |(_, name)| (*name).into()));
        }
    })
}

fn list(types: &[Dtype]) -> String {
    let names: Vec<&str> = types.iter().map(|one| one.name()).collect();
    names.join(", ")
}

fn refuse(problem: impl Into<String>) -> Flaw {
    Flaw::Gguf(problem.into())
}

/// Types of ggml that are refused by name.
const OTHER_TYPES: [(u32, &str); 25] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (13, "Q5_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];
