//! Values of GGUF's metadata.

use std::collections::BTreeMap;
use std::io::Read;

use super::array::Array;
use super::reader::Reader;
use super::refuse;
use crate::limits::GGUF_LIST_MAX;
use crate::whole::Flaw;

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `u8`, `u16`, `u32`, `u64`
    Unsigned(u64),
    /// `i8`, `i16`, `i32`, `i64`
    Signed(i64),
    /// `f32`, `f64`
    Float(f64),
    /// `bool`
    Bool(bool),
    /// `string`
    Text(String),
    /// A short list of numbers or flags: one for each layer.
    List(Vec<Value>),
    /// Any other list. It was passed over.
    Array(Array),
}

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

impl Value {
    /// As a whole number from 0 on.
    pub fn number(&self) -> Option<u64> {
        match self {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// As a number.
    pub fn float(&self) -> Option<f64> {
        match self {
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }
}

impl Element {
    /// `enum gguf_type`; 9 is a list, and lists of lists are not read.
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Element::U8,
            1 => Element::I8,
            2 => Element::U16,
            3 => Element::I16,
            4 => Element::U32,
            5 => Element::I32,
            6 => Element::F32,
            7 => Element::Bool,
            8 => Element::Text,
            10 => Element::U64,
            11 => Element::I64,
            12 => Element::F64,
            _ => return None,
        })
    }

    /// Bytes of one; `None` of a text.
    pub(super) fn bytes(self) -> Option<u64> {
        Some(match self {
            Element::U8 | Element::I8 | Element::Bool => 1,
            Element::U16 | Element::I16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
            Element::Text => return None,
        })
    }

    pub(super) fn read(self, reader: &mut Reader<impl Read>) -> Result<Value, Flaw> {
        let what = "a value";
        Ok(match self {
            Element::U8 => Value::Unsigned(u8::from_le_bytes(reader.array(what)?).into()),
            Element::I8 => Value::Signed(i8::from_le_bytes(reader.array(what)?).into()),
            Element::U16 => Value::Unsigned(u16::from_le_bytes(reader.array(what)?).into()),
            Element::I16 => Value::Signed(i16::from_le_bytes(reader.array(what)?).into()),
            Element::U32 => Value::Unsigned(u32::from_le_bytes(reader.array(what)?).into()),
            Element::I32 => Value::Signed(i32::from_le_bytes(reader.array(what)?).into()),
            Element::F32 => Value::Float(f32::from_le_bytes(reader.array(what)?).into()),
            Element::Bool => match reader.array(what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(refuse(format!("a flag is {other}, must be 0 or 1"))),
            },
            Element::Text => Value::Text(reader.long_text(what)?),
            Element::U64 => Value::Unsigned(u64::from_le_bytes(reader.array(what)?)),
            Element::I64 => Value::Signed(i64::from_le_bytes(reader.array(what)?)),
            Element::F64 => Value::Float(f64::from_le_bytes(reader.array(what)?)),
        })
    }
}

/// Reads so many keys with their values.
pub(super) fn read(
    reader: &mut Reader<impl Read>,
    count: u64,
) -> Result<BTreeMap<String, Value>, Flaw> {
    let mut values = BTreeMap::new();
    for _ in 0..count {
        let key = reader.name("a key")?;
        let value = one(reader, &key)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(refuse(format!("the key `{key}` stands twice")));
        }
    }
    Ok(values)
}

fn one(reader: &mut Reader<impl Read>, key: &str) -> Result<Value, Flaw> {
    const LIST: u32 = 9;
    let element = |number| {
        let unknown = || {
            refuse(format!(
                "`{key}` has the type {number}, which is not read here"
            ))
        };
        Element::of(number).ok_or_else(unknown)
    };
    let number = reader.u32("the type of a value")?;
    if number != LIST {
        let element = element(number)?;
        reader.keep(8)?;
        return element.read(reader);
    }
    let element = element(reader.u32("the type of a list")?)?;
    let count = reader.u64("the length of a list")?;
    if count <= GGUF_LIST_MAX && element != Element::Text {
        reader.keep(32 * count)?;
        let list = (0..count).map(|_| element.read(reader));
        return Ok(Value::List(list.collect::<Result<_, _>>()?));
    }
    let start = reader.at();
    match element.bytes() {
        Some(bytes) => {
            let bytes = bytes.checked_mul(count);
            reader.skip(
                bytes.ok_or_else(|| refuse(format!("`{key}` has {count} entries, too many")))?,
            )?;
        }
        None => {
            for _ in 0..count {
                let length = reader.u64("the length of a text")?;
                reader.skip(length)?;
            }
        }
    }
    let bytes = start..reader.at();
    Ok(Value::Array(Array {
        element,
        count,
        bytes,
    }))
}
