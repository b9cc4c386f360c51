//! Pre-tokenizers by the names that llama.cpp gives them in `tokenizer.ggml.pre`: how a text falls apart before pieces are
//! merged.
//!
//! Sources: `llama-vocab.cpp` of llama.cpp for which names mean the same, and the models' own `tokenizer.json` for how it is
//! said, quoted there in comments. Names whose rule llama.cpp itself only approximates, or writes as code, are left out.

use super::form::PreTokenizer;

/// How a text falls apart.
pub(super) struct Rule {
    /// In order.
    pub steps: PreTokenizer,
    /// Whether a piece that is a token as a whole stays one, whatever the merges say.
    pub whole_words: bool,
    /// Whether characters are composed first. llama.cpp leaves that out; the models' own tokenizers do it.
    pub nfc: bool,
}

/// The rule called so.
pub(super) fn by_name(name: &str) -> Option<Rule> {
    let split = |patterns: &[&'static str]| {
        let split = patterns.iter().map(|pattern| PreTokenizer::split(pattern));
        split.chain([PreTokenizer::byte_level(false)]).collect()
    };
    let steps: Vec<PreTokenizer> = match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling"
        | "exaone4" | "a.x-4.0" | "mellum" | "gigachat" | "modern-bert" => {
            vec![PreTokenizer::byte_level(true)]
        }
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => vec![digits(true), PreTokenizer::byte_level(true)],
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" | "glm5" => split(&[LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan"
        | "solar-open" | "grok-2" => split(&[QWEN2]),
        "qwen35" => split(&[QWEN35]),
        "tekken" => split(&[TEKKEN]),
        "gpt-4o" | "llama4" | "kanana2" => split(&[GPT_4O]),
        "seed-coder" => split(&[SEED_CODER]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => split(&DEEPSEEK_V3),
        "deepseek-llm" => DEEPSEEK_LLM
            .into_iter()
            .map(PreTokenizer::split)
            .chain([digits(true), PreTokenizer::byte_level(false)])
            .collect(),
        "deepseek-coder" => DEEPSEEK_CODER
            .into_iter()
            .map(PreTokenizer::split)
            .chain([digits(true), PreTokenizer::byte_level(false)])
            .collect(),
        "falcon" => vec![
            PreTokenizer::Punctuation {
                behavior: "Contiguous",
            },
            PreTokenizer::byte_level(true),
            digits(false),
            PreTokenizer::split("[0-9][0-9][0-9]"),
        ],
        _ => return None,
    };
    Some(Rule {
        steps: PreTokenizer::Sequence {
            pretokenizers: steps,
        },
        whole_words: adds_bos(Some(name)) || matches!(name, "glm4" | "glm5"),
        nfc: matches!(
            name,
            "qwen2" | "deepseek-r1-qwen" | "mpt" | "olmo" | "stablelm2"
        ),
    })
}

/// Whether a text begins with a token of its own where the file does not say. The same models look up whole words first.
pub(super) fn adds_bos(name: Option<&str>) -> bool {
    matches!(
        name,
        Some(
            "llama-bpe"
                | "llama3"
                | "llama-v3"
                | "falcon3"
                | "falcon-h1"
                | "pixtral"
                | "midm-2.0"
                | "lfm2"
                | "tekken"
        )
    )
}

fn digits(individual_digits: bool) -> PreTokenizer {
    PreTokenizer::Digits { individual_digits }
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];
const DEEPSEEK_CODER: [&str; 4] = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"];
const DEEPSEEK_LLM: [&str; 5] = [
    "[\r\n]",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-퟿]+",
];
