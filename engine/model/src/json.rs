//! JSON that every reader understands alike: one value and nothing behind it, and no key twice in one object.
//!
//! Parsers differ in what they make of a key that stands twice (the first value, the last, an error), of a byte order mark and of
//! `NaN`. A file in which they could differ is refused, so that whoever packed a model and whoever runs it saw the same one.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::whole::{Flaw, begin};

/// What a JSON text is at its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    /// `{…}`
    Object,
    /// Anything else.
    Other,
}

/// Reads one JSON text to its end, and keeps none of it but the keys of the objects that are open.
pub fn check(content: impl Read) -> Result<Top, Flaw> {
    let (start, content) = begin(content)?;
    match start.as_slice() {
        [] => return Err(Flaw::Empty),
        [0xef, 0xbb, 0xbf, ..] => return Err(Flaw::ByteOrderMark),
        _ => {}
    }
    let content = io::BufReader::with_capacity(1 << 16, content);
    let mut parser = serde_json::Deserializer::from_reader(content);
    let read = Top::deserialize(&mut parser).and_then(|top| parser.end().map(|()| top));
    read.map_err(|error| match error.io_error_kind() {
        Some(kind) => Flaw::Unreadable(kind),
        None => Flaw::Json(error.to_string()),
    })
}

/// The same for a file that has to be an object.
pub fn check_object(content: impl Read) -> Result<(), Flaw> {
    match check(content)? {
        Top::Object => Ok(()),
        Top::Other => Err(Flaw::Json("expected an object, `{…}`".into())),
    }
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Top;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                let key: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format_args!(
                    "the key `{key}` stands twice in one object"
                )));
            }
            keys.insert(key);
            map.next_value::<Top>()?;
        }
        Ok(Top::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Top, A::Error> {
        while seq.next_element::<Top>()?.is_some() {}
        Ok(Top::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Top, E> {
        Ok(Top::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Top, E> {
        Ok(Top::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Top, E> {
        Ok(Top::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Top, E> {
        Ok(Top::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Top, E> {
        Ok(Top::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Top, E> {
        Ok(Top::Other)
    }
}
