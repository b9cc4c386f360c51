//! What a tokenizer's file says about ids, for whoever never sees text: how many there are and which are special.
//!
//! A table of embeddings may have more rows than the tokenizer has tokens (Qwen's are padded). No text has such an id, so it is
//! neither taken nor chosen.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{ModelError, json, limits};

/// Marks that chat templates have models write inside of their answers: around calls of tools and around thoughts. Some tokenizers
/// list them as special tokens; a completion may hold these all the same, and their text is shown.
pub const MARKS: [&str; 6] = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<think>",
    "</think>",
];

/// The ids of a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    size: usize,
    special: BTreeSet<u32>,
    control: BTreeSet<u32>,
}

/// The parts of `tokenizer.json` that are read.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(default)]
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    vocab: Largest,
}

/// The largest id of a vocabulary, which is a map from token to id, or a list whose places are the ids.
struct Largest(Option<u32>);

impl Vocabulary {
    /// Reads `tokenizer.json`, all of whose ids must be below `rows`, the rows of the table of embeddings.
    pub fn parse(tokenizer: &[u8], rows: usize) -> Result<Self, ModelError> {
        let wrong = |error: String| ModelError::Tokenizer(error);
        json::check_object(tokenizer).map_err(|flaw| wrong(flaw.to_string()))?;
        let file = serde_json::from_slice::<File>(tokenizer);
        let file = file.map_err(|error| wrong(error.to_string()))?;
        let added = file.added_tokens.iter().map(|token| token.id);
        let largest = added.chain(file.model.vocab.0).max();
        let size = largest.map_or(0, |id| id as usize + 1);
        if size > rows {
            return Err(ModelError::Tokenizer(format!(
                "it has a token {}; the model's vocabulary has {rows} entries",
                size - 1
            )));
        }
        let special = { file.added_tokens.iter() }.filter(|token| token.special);
        let control = special
            .clone()
            .filter(|token| !MARKS.contains(&token.content.as_str()));
        Ok(Vocabulary {
            size,
            control: control.map(|token| token.id).collect(),
            special: special.map(|token| token.id).collect(),
        })
    }

    /// One more than the largest id.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The ids that `tokenizer.json` lists in `added_tokens` with `"special": true`.
    pub fn special(&self) -> &BTreeSet<u32> {
        &self.special
    }

    /// The special ids without [`MARKS`]: those that a completion holds at its end or not at all.
    pub fn control(&self) -> &BTreeSet<u32> {
        &self.control
    }

    /// Whether it has all of these ids. Every id is compared, so that the time tells nothing of where a foreign one is.
    pub fn has(&self, ids: &[u32]) -> bool {
        let size = u32::try_from(self.size).unwrap_or(u32::MAX);
        // The borrow of `id - size` in the high half: set where the id is below the size.
        let below = |id: &u32| (u64::from(*id).wrapping_sub(u64::from(size))) >> 63;
        ids.iter().fold(1, |all, id| all & below(id)) == 1
    }
}

/// The rows of the table of embeddings, by `config.json` of any architecture.
pub fn rows(config: &[u8]) -> Result<usize, ModelError> {
    #[derive(Deserialize)]
    struct Config {
        vocab_size: usize,
    }
    let config: Config =
        serde_json::from_slice(config).map_err(|error| ModelError::Config(error.to_string()))?;
    crate::decoder::bounded("vocab_size", config.vocab_size, limits::VOCABULARY_MAX)
}

impl<'de> Deserialize<'de> for Largest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Ids)
    }
}

struct Ids;

impl<'de> Visitor<'de> for Ids {
    type Value = Largest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from token to id, or a list of tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Largest, A::Error> {
        let mut largest = None;
        while let Some((IgnoredAny, id)) = map.next_entry::<IgnoredAny, u32>()? {
            largest = largest.max(Some(id));
        }
        Ok(Largest(largest))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Largest, A::Error> {
        let mut tokens = 0u32;
        while list.next_element::<IgnoredAny>()?.is_some() {
            tokens = tokens.saturating_add(1);
        }
        Ok(Largest(tokens.checked_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Vocabulary, ModelError> {
        Vocabulary::parse(json.as_bytes(), 100)
    }

    #[test]
    fn the_largest_id_and_the_special_ones_are_found_in_each_form_of_vocabulary() {
        let special = r#""added_tokens": [{"id": 7, "special": true}, {"id": 12, "special": false}, {"id": 3}]"#;
        for (vocabulary, size) in [
            (r#"{"a": 0, "b": 4, "[UNK]": 20}"#, 21),
            (r#"{"a": 0}"#, 13),
            (r#"[["<unk>", 0.0], ["a", -1.5]]"#, 13),
            ("{}", 13),
            ("[]", 13),
        ] {
            let json =
                format!(r#"{{{special}, "model": {{"type": "BPE", "vocab": {vocabulary}}}}}"#);
            let read = parse(&json).unwrap();
            assert_eq!(read.size(), size, "{vocabulary}");
            assert_eq!(read.special(), &BTreeSet::from([7]));
            assert_eq!(read.control(), read.special());
        }
        assert_eq!(parse(r#"{"model": {"vocab": {}}}"#).unwrap().size(), 0);
    }

    #[test]
    fn marks_of_calls_and_thoughts_are_special_and_may_stand_inside() {
        let added = |id: usize, content: &str| {
            format!(r#"{{"id": {id}, "content": "{content}", "special": true}}"#)
        };
        let mut listed: Vec<String> = { MARKS.iter().enumerate() }
            .map(|(id, mark)| added(id, mark))
            .collect();
        listed.extend([added(6, "<|im_end|>"), added(7, "<tool_calls>")]);
        let json = format!(
            r#"{{"added_tokens": [{}], "model": {{"vocab": {{}}}}}}"#,
            listed.join(",")
        );
        let read = parse(&json).unwrap();
        assert_eq!(read.special().len(), 8);
        assert_eq!(read.control(), &BTreeSet::from([6, 7]));
    }

    #[test]
    fn a_file_that_does_not_fit_or_is_none_is_refused() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"model": {"vocab": {"a": 100}}}"#,
            r#"{"model": {"vocab": {"a": -1}}}"#,
            r#"{"model": {"vocab": {"a": 4294967295}}}"#,
            r#"{"model": {"vocab": {"a": "b"}}}"#,
            r#"{"model": {"vocab": 7}}"#,
            r#"{"added_tokens": [{"id": 100}], "model": {"vocab": {}}}"#,
        ] {
            assert!(
                matches!(parse(json), Err(ModelError::Tokenizer(_))),
                "{json}"
            );
        }
        assert!(parse(r#"{"model": {"vocab": {"a": 99}}}"#).is_ok());
        assert_eq!(rows(br#"{"vocab_size": 70}"#), Ok(70));
        assert!(rows(br#"{"vocab_size": 0}"#).is_err());
        assert!(rows(b"{}").is_err());
    }

    #[test]
    fn an_id_is_there_up_to_the_largest() {
        let vocabulary = parse(r#"{"model": {"vocab": {"a": 9}}}"#).unwrap();
        assert!(vocabulary.has(&[0, 9]) && vocabulary.has(&[]));
        for odd in [10, u32::MAX, 1 << 31] {
            assert!(!vocabulary.has(&[1, odd, 2]) && !vocabulary.has(&[odd]));
        }
    }
}
