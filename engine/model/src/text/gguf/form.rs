//! `tokenizer.json` and `tokenizer_config.json` as the crate `tokenizers` and the package `transformers` read them. The keys
//! come in the order of the fields, so the bytes are the same everywhere.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// `tokenizer.json`
#[derive(Serialize)]
pub(super) struct TokenizerFile<'a> {
    pub version: &'static str,
    pub truncation: (),
    pub padding: (),
    pub added_tokens: Vec<Added<'a>>,
    pub normalizer: Option<Normalizer>,
    pub pre_tokenizer: Option<PreTokenizer>,
    pub post_processor: Option<PostProcessor<'a>>,
    pub decoder: Decoder,
    pub model: Model<'a>,
}

/// A token that is found in a text before anything else is done with it.
#[derive(Serialize)]
pub(super) struct Added<'a> {
    id: usize,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

impl<'a> Added<'a> {
    pub(super) fn of(id: usize, content: &'a str, special: bool) -> Self {
        Added {
            id,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum Normalizer {
    Sequence {
        normalizers: Vec<Normalizer>,
    },
    #[serde(rename = "NFC")]
    Nfc,
    Prepend {
        prepend: &'static str,
    },
    Replace(Replace),
    #[serde(rename = "BertNormalizer")]
    Bert {
        clean_text: bool,
        handle_chinese_chars: bool,
        strip_accents: (),
        lowercase: bool,
    },
}

impl Normalizer {
    /// Spaces as U+2581, and one before the text where the model was trained so.
    pub(super) fn sentence_piece(space_prefix: bool) -> Self {
        let space = Normalizer::Replace(Replace::of(" ", SPACE));
        let prefix = space_prefix.then_some(Normalizer::Prepend { prepend: SPACE });
        Normalizer::Sequence {
            normalizers: prefix.into_iter().chain([space]).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    Split {
        pattern: Pattern,
        behavior: &'static str,
        invert: bool,
    },
    ByteLevel {
        add_prefix_space: bool,
        trim_offsets: bool,
        use_regex: bool,
    },
    Digits {
        individual_digits: bool,
    },
    Punctuation {
        behavior: &'static str,
    },
    #[serde(rename = "BertPreTokenizer")]
    Bert,
}

impl PreTokenizer {
    /// Each match of a regular expression is a piece, and so is what lies between them.
    pub(super) fn split(regex: &'static str) -> Self {
        PreTokenizer::Split {
            pattern: Pattern::Regex(regex),
            behavior: "Isolated",
            invert: false,
        }
    }

    /// Bytes as characters, after the split of GPT-2 if `use_regex`.
    pub(super) fn byte_level(use_regex: bool) -> Self {
        PreTokenizer::ByteLevel {
            add_prefix_space: false,
            trim_offsets: true,
            use_regex,
        }
    }
}

#[derive(Serialize)]
pub(super) enum Pattern {
    Regex(&'static str),
    String(&'static str),
}

#[derive(Serialize)]
pub(super) struct Replace {
    pattern: Pattern,
    content: &'static str,
}

impl Replace {
    fn of(from: &'static str, to: &'static str) -> Self {
        Replace {
            pattern: Pattern::String(from),
            content: to,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum Decoder {
    Sequence {
        decoders: Vec<Decoder>,
    },
    Replace(Replace),
    ByteFallback,
    Fuse,
    Strip {
        content: &'static str,
        start: usize,
        stop: usize,
    },
    ByteLevel {
        add_prefix_space: bool,
        trim_offsets: bool,
        use_regex: bool,
    },
    WordPiece {
        prefix: &'static str,
        cleanup: bool,
    },
}

impl Decoder {
    pub(super) fn sentence_piece(space_prefix: bool) -> Self {
        let strip = space_prefix.then_some(Decoder::Strip {
            content: " ",
            start: 1,
            stop: 0,
        });
        let spaces = Decoder::Replace(Replace::of(SPACE, " "));
        let decoders = [spaces, Decoder::ByteFallback, Decoder::Fuse];
        Decoder::Sequence {
            decoders: decoders.into_iter().chain(strip).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum Model<'a> {
    #[serde(rename = "BPE")]
    Bpe {
        dropout: (),
        unk_token: Option<&'a str>,
        continuing_subword_prefix: (),
        end_of_word_suffix: (),
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        vocab: Vocab<'a>,
        merges: Vec<(&'a str, &'a str)>,
    },
    WordPiece {
        unk_token: &'a str,
        continuing_subword_prefix: &'static str,
        max_input_chars_per_word: usize,
        vocab: Vocab<'a>,
    },
}

/// From each token to its id, in the order of the ids.
pub(super) struct Vocab<'a>(pub &'a [String]);

impl Serialize for Vocab<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().enumerate().map(|(id, token)| (token, id)))
    }
}

/// What stands around a text that is not a conversation.
#[derive(Serialize)]
#[serde(tag = "type", rename = "TemplateProcessing")]
pub(super) struct PostProcessor<'a> {
    single: Vec<Around<'a>>,
    pair: Vec<Around<'a>>,
    special_tokens: BTreeMap<&'a str, Special<'a>>,
}

#[derive(Serialize, Clone, Copy)]
enum Around<'a> {
    SpecialToken { id: &'a str, type_id: u32 },
    Sequence { id: &'static str, type_id: u32 },
}

#[derive(Serialize)]
struct Special<'a> {
    id: &'a str,
    ids: [usize; 1],
    tokens: [&'a str; 1],
}

/// A text with a token before it and one behind it.
pub(super) fn around<'a>(
    before: Option<(usize, &'a str)>,
    after: Option<(usize, &'a str)>,
) -> PostProcessor<'a> {
    let special = |(_, id), type_id| Around::SpecialToken { id, type_id };
    let one = |id, type_id, before: Option<(usize, &'a str)>| {
        let text = Around::Sequence { id, type_id };
        let before = before.map(|token| special(token, type_id));
        let after = after.map(|token| special(token, type_id));
        before.into_iter().chain([text]).chain(after)
    };
    // The second of a pair begins with what stands before a text only in models that end none (BERT ends both and begins one).
    let second = if after.is_some() { None } else { before };
    let listed = before.into_iter().chain(after).map(|(number, id)| {
        let (ids, tokens) = ([number], [id]);
        (id, Special { id, ids, tokens })
    });
    PostProcessor {
        single: one("A", 0, before).collect(),
        pair: one("A", 0, before).chain(one("B", 1, second)).collect(),
        special_tokens: listed.collect(),
    }
}

/// `tokenizer_config.json`
#[derive(Serialize)]
pub(super) struct ConfigFile<'a> {
    pub add_bos_token: bool,
    pub add_eos_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<Templates<'a>>,
    pub clean_up_tokenization_spaces: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cls_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sep_token: Option<&'a str>,
    pub tokenizer_class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unk_token: Option<&'a str>,
}

/// One template, or several by name: `default`, `tool_use`, …
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Templates<'a> {
    One(&'a str),
    Named(Vec<Named<'a>>),
}

#[derive(Serialize)]
pub(super) struct Named<'a> {
    name: &'a str,
    template: &'a str,
}

impl<'a> Templates<'a> {
    pub(super) fn of(main: Option<&'a str>, others: BTreeMap<&'a str, &'a str>) -> Option<Self> {
        if others.is_empty() {
            return main.map(Templates::One);
        }
        let main = main.map(|template| ("default", template));
        let named = main.into_iter().chain(others);
        let named = named.map(|(name, template)| Named { name, template });
        Some(Templates::Named(named.collect()))
    }
}

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";
