//! The text side of a GGUF file in the two files that everybody else reads: `tokenizer.json` and `tokenizer_config.json`.
//!
//! ```text
//! tokenizer.ggml.model    tokenizer.json
//! gpt2                    byte-level BPE with the merges of the file; `tokenizer.ggml.pre` names the pre-tokenizer ([`pre`])
//! llama                   SentencePiece's BPE with byte fallback; merges from the scores, as Hugging Face converts it ([`merges`])
//! gemma4                  the same with merges in the file
//! bert                    WordPiece, lower case
//! ```
//! Anything else is refused by name, also a GGUF without a pre-tokenizer's name: guessing one makes other tokens. The same
//! metadata gives the same bytes, so that two people who pack one file publish one digest.
//!
//! A token is special (a text cannot spell it, see [`super`]) if the file calls it a control or unknown token, if it is named as
//! one that ends a text, if another `…_token_id` key names it and it looks like `<…>` or `[…]`, or if it was added and looks like
//! `<|…|>`: files made by old converters do not tell control tokens from others.

mod form;
mod merges;
mod pre;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};

use crate::gguf::config::END_TEXTS;
use crate::gguf::{Header, Value};
use crate::{Flaw, ModelError, limits};

use form::{Added, Decoder, Model, Normalizer, PreTokenizer, TokenizerFile, around};

/// What a directory in Hugging Face's form has of a model's text side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFiles {
    /// `tokenizer.json`
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`
    pub tokenizer_config: Vec<u8>,
    /// Tokens that end a completion by what they are called ([`END_TEXTS`]), for `config.json`.
    pub end_tokens: Vec<u32>,
}

/// Makes both files. `open` opens the GGUF file whose header this is, at its first byte.
pub fn text_files<R: Read>(
    header: &Header,
    open: impl FnMut() -> io::Result<R>,
) -> Result<TextFiles, ModelError> {
    let pieces = Pieces::read(header, open)?;
    let tokenizer = to_json(&pieces.tokenizer()?)?;
    let bytes_max = limits::TOKENIZER_BYTES_MAX;
    if tokenizer.len() as u64 > bytes_max {
        return Err(wrong(format!(
            "made of the GGUF it has {} bytes; at most {bytes_max} are allowed",
            tokenizer.len()
        )));
    }
    Ok(TextFiles {
        tokenizer,
        tokenizer_config: to_json(&pieces.config(header)?)?,
        end_tokens: pieces.end_tokens(),
    })
}

/// The vocabulary of a GGUF file.
struct Pieces {
    kind: Kind,
    /// By id.
    tokens: Vec<String>,
    types: Vec<TokenType>,
    scores: Vec<f64>,
    merges: Vec<String>,
    pre: Option<String>,
    named: BTreeMap<&'static str, usize>,
    add_bos: bool,
    add_eos: bool,
    space_prefix: bool,
}

/// `tokenizer.ggml.model`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ByteLevel,
    SentencePiece,
    Gemma4,
    WordPiece,
}

/// `enum llama_token_type`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Pieces {
    fn read<R: Read>(
        header: &Header,
        mut open: impl FnMut() -> io::Result<R>,
    ) -> Result<Self, ModelError> {
        let kind = match text(header, "tokenizer.ggml.model")? {
            Some("gpt2") => Kind::ByteLevel,
            Some("llama") => Kind::SentencePiece,
            Some("gemma4") => Kind::Gemma4,
            Some("bert") => Kind::WordPiece,
            Some(other) => {
                return Err(ModelError::Unsupported(format!(
                    "the tokenizer `{}` of its GGUF",
                    shown(other)
                )));
            }
            None => return Err(missing("tokenizer.ggml.model")),
        };
        let mut read = || {
            let opened = open().map_err(Flaw::unreadable);
            opened.map_err(|flaw| wrong(flaw.to_string()))
        };
        let tokens = texts(header, "tokenizer.ggml.tokens", &mut read)?
            .ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        check(&tokens)?;
        let types = match numbers(header, "tokenizer.ggml.token_type", &mut read)? {
            Some(numbers) => numbers.into_iter().map(TokenType::of).collect(),
            None => vec![TokenType::Normal; tokens.len()],
        };
        let scores = match kind {
            Kind::SentencePiece => numbers(header, "tokenizer.ggml.scores", &mut read)?
                .ok_or_else(|| missing("tokenizer.ggml.scores"))?,
            _ => vec![0.0; tokens.len()],
        };
        for (key, length) in [("token_type", types.len()), ("scores", scores.len())] {
            if length != tokens.len() {
                return Err(wrong(format!(
                    "tokenizer.ggml.{key} has {length} entries for {} tokens",
                    tokens.len()
                )));
            }
        }
        let merges = match kind {
            Kind::ByteLevel | Kind::Gemma4 => texts(header, "tokenizer.ggml.merges", &mut read)?
                .ok_or_else(|| missing("tokenizer.ggml.merges"))?,
            _ => Vec::new(),
        };
        let pre = text(header, "tokenizer.ggml.pre")?.map(str::to_owned);
        let mut named = BTreeMap::new();
        for (key, name) in NAMED {
            if let Some(id) = number(header, key)? {
                let id = usize::try_from(id).ok().filter(|id| *id < tokens.len());
                let id = id.ok_or_else(|| wrong(format!("{key} is no token of the vocabulary")))?;
                named.insert(name, id);
            }
        }
        let by_default = pre::adds_bos(pre.as_deref()) || kind == Kind::SentencePiece;
        let mut pieces = Pieces {
            kind,
            tokens,
            types,
            scores,
            merges,
            pre,
            named,
            add_bos: flag(header, "tokenizer.ggml.add_bos_token")?.unwrap_or(by_default),
            add_eos: flag(header, "tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            space_prefix: flag(header, "tokenizer.ggml.add_space_prefix")?
                .unwrap_or(kind == Kind::SentencePiece),
        };
        if kind == Kind::WordPiece {
            pieces.with_marks()?;
        }
        Ok(pieces)
    }

    /// The pieces of a WordPiece vocabulary as Hugging Face spells them: GGUF marks the pieces that begin a word and not those
    /// that go on.
    fn with_marks(&mut self) -> Result<(), ModelError> {
        for token in &mut self.tokens {
            if token.starts_with('[') && token.ends_with(']') {
                continue;
            }
            *token = match token.strip_prefix('\u{2581}') {
                Some(begins) => begins.to_owned(),
                None => format!("##{token}"),
            };
        }
        check(&self.tokens)
    }

    fn is_special(&self, id: usize) -> bool {
        let token = &self.tokens[id];
        let within = |open, close| token.starts_with(open) && token.ends_with(close);
        let named = |ends: bool| {
            let mut named = self.named.iter().filter(|(_, named)| **named == id);
            named.any(|(name, _)| !ends || matches!(*name, "eos_token" | "eot_token" | "eom_token"))
        };
        matches!(self.types[id], TokenType::Control | TokenType::Unknown)
            || named(true)
            || (named(false) && (within("<", ">") || within("[", "]")))
            || (self.types[id] == TokenType::UserDefined && within("<|", "|>"))
    }

    fn end_tokens(&self) -> Vec<u32> {
        let ends =
            |id: &usize| END_TEXTS.contains(&self.tokens[*id].as_str()) && self.is_special(*id);
        let ids = (0..self.tokens.len()).filter(ends);
        ids.filter_map(|id| u32::try_from(id).ok()).collect()
    }

    fn tokenizer(&self) -> Result<TokenizerFile<'_>, ModelError> {
        let added = (0..self.tokens.len()).filter_map(|id| {
            let special = self.is_special(id);
            let listed = special || self.types[id] == TokenType::UserDefined;
            listed.then(|| Added::of(id, &self.tokens[id], special))
        });
        let (normalizer, pre_tokenizer, decoder, model) = match self.kind {
            Kind::ByteLevel => self.byte_level()?,
            Kind::SentencePiece | Kind::Gemma4 => self.sentence_piece()?,
            Kind::WordPiece => self.word_piece()?,
        };
        Ok(TokenizerFile {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: added.collect(),
            normalizer,
            pre_tokenizer,
            post_processor: self.post_processor()?,
            decoder,
            model,
        })
    }

    fn byte_level(&self) -> Result<Parts<'_>, ModelError> {
        let Some(pre) = &self.pre else {
            return Err(ModelError::Unsupported(
                "a tokenizer whose GGUF does not name its pre-tokenizer (tokenizer.ggml.pre)"
                    .into(),
            ));
        };
        let rule = pre::by_name(pre).ok_or_else(|| {
            ModelError::Unsupported(format!("the pre-tokenizer `{}` of its GGUF", shown(pre)))
        })?;
        let model = Model::Bpe {
            dropout: (),
            unk_token: None,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: rule.whole_words,
            vocab: form::Vocab(&self.tokens),
            merges: self.listed_merges()?,
        };
        let normalizer = rule.nfc.then_some(Normalizer::Nfc);
        let decoder = Decoder::ByteLevel {
            add_prefix_space: true,
            trim_offsets: true,
            use_regex: true,
        };
        Ok((normalizer, Some(rule.steps), decoder, model))
    }

    fn sentence_piece(&self) -> Result<Parts<'_>, ModelError> {
        let merges = match self.kind {
            Kind::SentencePiece => merges::by_score(&self.tokens, &self.scores, |id| {
                self.types[id] == TokenType::Normal && !self.is_special(id)
            })?,
            _ => self.listed_merges()?,
        };
        let unknown = self.types.iter().position(|one| *one == TokenType::Unknown);
        let unknown = unknown.or(self.named.get("unk_token").copied());
        let model = Model::Bpe {
            dropout: (),
            unk_token: unknown.map(|id| self.tokens[id].as_str()),
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: true,
            byte_fallback: true,
            ignore_merges: false,
            vocab: form::Vocab(&self.tokens),
            merges,
        };
        // Merges of gemma4 never cross a line end.
        let lines = (self.kind == Kind::Gemma4).then(|| PreTokenizer::Sequence {
            pretokenizers: vec![PreTokenizer::split("\n+")],
        });
        let (normalizer, decoder) = (
            Normalizer::sentence_piece(self.space_prefix),
            Decoder::sentence_piece(self.space_prefix),
        );
        Ok((Some(normalizer), lines, decoder, model))
    }

    fn word_piece(&self) -> Result<Parts<'_>, ModelError> {
        let unknown = self.named.get("unk_token").copied();
        let unknown = unknown.or_else(|| self.tokens.iter().position(|token| token == "[UNK]"));
        let unknown = unknown.ok_or_else(|| missing("tokenizer.ggml.unknown_token_id"))?;
        let model = Model::WordPiece {
            unk_token: &self.tokens[unknown],
            continuing_subword_prefix: "##",
            max_input_chars_per_word: 100,
            vocab: form::Vocab(&self.tokens),
        };
        let decoder = Decoder::WordPiece {
            prefix: "##",
            cleanup: true,
        };
        let normalizer = Normalizer::Bert {
            clean_text: true,
            handle_chinese_chars: true,
            strip_accents: (),
            lowercase: true,
        };
        Ok((Some(normalizer), Some(PreTokenizer::Bert), decoder, model))
    }

    /// Of two pieces with one space between them.
    fn listed_merges(&self) -> Result<Vec<(&str, &str)>, ModelError> {
        let pair = |merge: &'_ String| {
            // A piece may itself begin with a space.
            let space = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
            space.map(|(at, _)| at)
        };
        let merges = self.merges.iter().map(|merge| {
            let at = pair(merge).ok_or_else(|| wrong("a merge is no pair of pieces".into()))?;
            Ok((&merge[..at], &merge[at + 1..]))
        });
        merges.collect()
    }

    fn post_processor(&self) -> Result<Option<form::PostProcessor<'_>>, ModelError> {
        let named = |name| {
            self.named
                .get(name)
                .map(|id| (*id, self.tokens[*id].as_str()))
        };
        let needed = |name| {
            let missing = || wrong(format!("the GGUF adds a {name} and does not name one"));
            named(name).ok_or_else(missing).map(Some)
        };
        let (before, after) = match self.kind {
            Kind::WordPiece => (needed("cls_token")?, needed("sep_token")?),
            _ => (
                if self.add_bos {
                    needed("bos_token")?
                } else {
                    None
                },
                if self.add_eos {
                    needed("eos_token")?
                } else {
                    None
                },
            ),
        };
        Ok((before.is_some() || after.is_some()).then(|| around(before, after)))
    }

    /// `tokenizer_config.json`
    fn config<'a>(&'a self, header: &'a Header) -> Result<form::ConfigFile<'a>, ModelError> {
        let named = |name| self.named.get(name).map(|id| self.tokens[*id].as_str());
        let main = text(header, "tokenizer.chat_template")?;
        let prefix = "tokenizer.chat_template.";
        let others = header
            .keys()
            .filter_map(|key| Some((key, key.strip_prefix(prefix)?)));
        let mut templates = BTreeMap::new();
        for (key, name) in others {
            templates.insert(name, text(header, key)?.unwrap_or_default());
        }
        Ok(form::ConfigFile {
            add_bos_token: self.add_bos,
            add_eos_token: self.add_eos,
            bos_token: named("bos_token"),
            chat_template: form::Templates::of(main, templates),
            clean_up_tokenization_spaces: false,
            cls_token: named("cls_token"),
            eos_token: named("eos_token"),
            mask_token: named("mask_token"),
            pad_token: named("pad_token"),
            sep_token: named("sep_token"),
            tokenizer_class: "PreTrainedTokenizerFast",
            unk_token: named("unk_token"),
        })
    }
}

type Parts<'a> = (Option<Normalizer>, Option<PreTokenizer>, Decoder, Model<'a>);

impl TokenType {
    fn of(number: f64) -> Self {
        match number as i64 {
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => TokenType::Normal,
        }
    }
}

/// No token twice, none empty, all of them within their limits.
fn check(tokens: &[String]) -> Result<(), ModelError> {
    if !(1..=limits::VOCABULARY_MAX).contains(&tokens.len()) {
        return Err(wrong(format!(
            "the GGUF has {} tokens; 1 to {} are allowed",
            tokens.len(),
            limits::VOCABULARY_MAX
        )));
    }
    let mut seen = HashSet::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let problem = match token.len() {
            0 => "is empty",
            bytes if bytes > limits::PIECE_BYTES_MAX => "is too long",
            _ if !seen.insert(token.as_str()) => "stands twice",
            _ => continue,
        };
        return Err(wrong(format!("token {id} of the GGUF {problem}")));
    }
    Ok(())
}

fn texts<R: Read>(
    header: &Header,
    key: &str,
    open: &mut impl FnMut() -> Result<R, ModelError>,
) -> Result<Option<Vec<String>>, ModelError> {
    match header.value(key) {
        None => Ok(None),
        Some(Value::Array(array)) => {
            let read = array.texts(open()?);
            read.map(Some)
                .map_err(|flaw| wrong(format!("{key}: {flaw}")))
        }
        Some(_) => Err(wrong(format!("{key} of the GGUF is no list of texts"))),
    }
}

fn numbers<R: Read>(
    header: &Header,
    key: &str,
    open: &mut impl FnMut() -> Result<R, ModelError>,
) -> Result<Option<Vec<f64>>, ModelError> {
    let numbers = match header.value(key) {
        None => return Ok(None),
        Some(Value::List(list)) => list.iter().map(Value::float).collect(),
        Some(Value::Array(array)) => {
            let read = array.floats(open()?);
            Some(read.map_err(|flaw| wrong(format!("{key}: {flaw}")))?)
        }
        Some(_) => None,
    };
    let numbers = numbers.filter(|numbers: &Vec<f64>| numbers.iter().all(|one| !one.is_nan()));
    let numbers = numbers.ok_or_else(|| wrong(format!("{key} of the GGUF is no list of numbers")));
    numbers.map(Some)
}

fn text<'a>(header: &'a Header, key: &str) -> Result<Option<&'a str>, ModelError> {
    typed(header, key, header.text(key), "text")
}

fn number(header: &Header, key: &str) -> Result<Option<u64>, ModelError> {
    typed(header, key, header.number(key), "whole number from 0 on")
}

fn flag(header: &Header, key: &str) -> Result<Option<bool>, ModelError> {
    typed(header, key, header.flag(key), "flag")
}

fn typed<T>(
    header: &Header,
    key: &str,
    value: Option<T>,
    kind: &str,
) -> Result<Option<T>, ModelError> {
    match value.is_none() && header.value(key).is_some() {
        true => Err(wrong(format!("{key} of the GGUF is no {kind}"))),
        false => Ok(value),
    }
}

fn to_json(file: &impl serde::Serialize) -> Result<Vec<u8>, ModelError> {
    let mut bytes = serde_json::to_vec(file).map_err(|error| wrong(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn wrong(problem: String) -> ModelError {
    ModelError::Tokenizer(problem)
}

fn missing(key: &str) -> ModelError {
    wrong(format!("the GGUF has no {key}"))
}

fn shown(name: &str) -> String {
    name.chars()
        .take(80)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

/// Keys of the metadata, and what Hugging Face calls such a token. (The third is spelled so.)
const NAMED: [(&str, &str); 9] = [
    ("tokenizer.ggml.bos_token_id", "bos_token"),
    ("tokenizer.ggml.eos_token_id", "eos_token"),
    ("tokenizer.ggml.seperator_token_id", "sep_token"),
    ("tokenizer.ggml.unknown_token_id", "unk_token"),
    ("tokenizer.ggml.padding_token_id", "pad_token"),
    ("tokenizer.ggml.cls_token_id", "cls_token"),
    ("tokenizer.ggml.mask_token_id", "mask_token"),
    ("tokenizer.ggml.eot_token_id", "eot_token"),
    ("tokenizer.ggml.eom_token_id", "eom_token"),
];
