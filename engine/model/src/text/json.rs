//! JSON that keeps the order of its keys: a chat template writes tools and arguments in the order in which they came.

use std::fmt;

use minijinja::Value;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// A JSON value. No object has a key twice.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number without a point.
    Integer(i64),
    /// A number from 2^63 on.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// `[…]`
    List(Vec<Json>),
    /// `{…}`
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one JSON text.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// An object.
    pub fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, Json)>) -> Self {
        let pairs = pairs.into_iter();
        Json::Object(pairs.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// The value of a key, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Json> {
        let Json::Object(pairs) = self else {
            return None;
        };
        let found = pairs.iter().find(|(one, _)| one == key);
        found.map(|(_, value)| value)
    }

    /// If this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same with every string and every key replaced. `change` is told whether it is a key.
    pub(super) fn map(&self, change: &mut impl FnMut(&str, bool) -> String) -> Self {
        match self {
            Json::Text(text) => Json::Text(change(text, false)),
            Json::List(list) => Json::List(list.iter().map(|one| one.map(change)).collect()),
            Json::Object(pairs) => {
                let pairs = pairs.iter();
                let pairs = pairs.map(|(key, value)| (change(key, true), value.map(change)));
                Json::Object(pairs.collect())
            }
            other => other.clone(),
        }
    }

    /// Hands every string and every key to `look`.
    pub(super) fn each<'a>(&'a self, look: &mut impl FnMut(&'a str)) {
        match self {
            Json::Text(text) => look(text),
            Json::List(list) => list.iter().for_each(|one| one.each(look)),
            Json::Object(pairs) => {
                for (key, value) in pairs {
                    look(key);
                    value.each(look);
                }
            }
            _ => {}
        }
    }

    /// As a template sees it.
    pub(super) fn value(&self) -> Value {
        match self {
            Json::Null => Value::from(()),
            Json::Bool(value) => Value::from(*value),
            Json::Integer(value) => Value::from(*value),
            Json::Unsigned(value) => Value::from(*value),
            Json::Float(value) => Value::from(*value),
            Json::Text(value) => Value::from(value.as_str()),
            Json::List(list) => list.iter().map(Json::value).collect(),
            Json::Object(pairs) => {
                let pairs = pairs.iter();
                Value::from_pairs(pairs.map(|(key, value)| (key.as_str(), value.value())))
            }
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::Text(text.to_owned())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Integer(value) => serializer.serialize_i64(*value),
            Json::Unsigned(value) => serializer.serialize_u64(*value),
            Json::Float(value) => serializer.serialize_f64(*value),
            Json::Text(value) => serializer.serialize_str(value),
            Json::List(list) => serializer.collect_seq(list),
            Json::Object(pairs) => {
                serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Unsigned(value), Json::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let (mut pairs, mut keys) = (Vec::new(), std::collections::HashSet::new());
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                let key: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format_args!(
                    "the key `{key}` stands twice in one object"
                )));
            }
            pairs.push((key, map.next_value()?));
        }
        Ok(Json::Object(pairs))
    }
}
