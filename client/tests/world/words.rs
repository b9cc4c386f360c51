//! What the made-up models speak: a few words for tests of the wire, or any text for applications that say what they like.

use super::{CHAT, EMBEDDER, RERANKER, SCRIPTED, SCRIPTED_EMBEDDER, forms, manifest};
use ed25519_dalek::SigningKey;
use serde_json::{Map, Value, json};
use settlement::{Address, ChainId, Nano};
use wire::{Digest, Endpoint, Keyset, ModelOffer, Padding, Prices, SealingKey};

const FEW: &str = r#"{"version":"1.0","truncation":null,"padding":null,
    "added_tokens":[{"id":0,"content":"<end>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
    "normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
    "post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}}],
        "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{}},"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
    "model":{"type":"WordLevel","vocab":{"<end>":0,"hello":1,"Ġworld":2,"[UNK]":3,"Ġhello":4},"unk_token":"[UNK]"}}"#;
const PLAIN: &str =
    r#"{"chat_template":"{% for m in messages %}{{ m.content }}{% endfor %}","eos_token":"<end>"}"#;

/// A template that writes out everything it is given, with calls in Hermes' form.
const TELLING: &str = "{%- if tools %}<|im_start|>tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}\
Call one with <tool_call>{\"name\": …, \"arguments\": …}</tool_call><|im_end|>\n{% endif %}\
{%- for m in messages %}<|im_start|>{{ m.role }}\n\
{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}\
{%- for call in m.tool_calls or [] %}<tool_call>{\"name\": \"{{ call.function.name }}\", \
\"arguments\": {{ call.function.arguments | tojson }}}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
{%- if add_generation_prompt %}<|im_start|>assistant\n\
{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}";

/// A vocabulary and a template.
pub struct Words {
    pub tokenizer: String,
    pub template: String,
    offers: Vec<(&'static str, Endpoint, u32)>,
    /// Whether the model that obeys grammars is offered, too.
    forms: bool,
    /// NanoTON for a million tokens of a prompt; one of a completion costs twice as much.
    price: u64,
    quantisation: &'static str,
}

impl Words {
    /// Four words.
    pub fn few() -> Self {
        Words {
            tokenizer: FEW.into(),
            template: PLAIN.into(),
            offers: vec![
                (CHAT, Endpoint::Chat, 512),
                (EMBEDDER, Endpoint::Embeddings, 64),
                (RERANKER, Endpoint::Rerank, 8),
            ],
            forms: true,
            price: 1_000_000_000,
            quantisation: "f32",
        }
    }

    /// Any text, with a token for each two bytes at best, as coding agents' prompts of some 60 kB need it.
    pub fn any() -> Self {
        Words {
            tokenizer: byte_pairs().to_string(),
            template: json!({"chat_template": TELLING, "eos_token": END}).to_string(),
            offers: vec![
                (SCRIPTED, Endpoint::Chat, 65_536),
                (SCRIPTED_EMBEDDER, Endpoint::Embeddings, 64),
            ],
            forms: false,
            price: 1_000_000,
            quantisation: "scripted",
        }
    }

    /// The keyset of a guest that offers the models of these words.
    pub fn keyset(
        &self,
        lifetime_s: u32,
        sealing: &SealingKey,
        receipt_key: &SigningKey,
        payee: &SigningKey,
    ) -> Keyset {
        let account = Address {
            workchain: 0,
            hash: [5; 32],
        };
        let offers = self.offers.iter();
        let models = offers.map(|(id, endpoint, context_tokens)| ModelOffer {
            id: (*id).into(),
            endpoint: *endpoint,
            root: Digest([9; 32]),
            tokenizer: Digest::of(self.tokenizer.as_bytes()),
            config: Digest([8; 32]),
            template: Some(Digest::of(self.template.as_bytes())),
            context_tokens: *context_tokens,
            quantisation: self.quantisation.into(),
            determinism: "machine".into(),
            prices: Prices {
                prompt: Nano(self.price),
                cached: Nano(0),
                completion: Nano(2 * self.price),
            },
        });
        Keyset {
            version: 1,
            profile: "sim".into(),
            epoch: 0,
            lifetime_s,
            jobs_max: 1000,
            kem_keys: vec![sealing.public()],
            receipt_key: receipt_key.verifying_key().to_bytes(),
            models: models.chain(self.forms.then(forms::offer)).collect(),
            price_step: Nano(32_000),
            exposure_max: Nano(10_000_000),
            chain: ChainId::EMBEDDED,
            payee: account,
            payee_key: payee.verifying_key().to_bytes(),
            stake: account,
            registers: wire::registers_digest(manifest().registers()),
            gpus: Vec::new(),
            padding: Padding {
                step_bytes: 512,
                interval_ms: 10,
            },
        }
    }
}

const BEGIN: &str = "<|im_start|>";
/// What ends a message.
pub const END: &str = "<|im_end|>";

/// A byte-level tokenizer whose merges are all pairs of printable ASCII characters.
fn byte_pairs() -> Value {
    let mut vocabulary = Map::new();
    let mut add = |token: String| {
        let id = vocabulary.len();
        vocabulary.insert(token, id.into());
    };
    // Bytes that print stand for themselves, the others for the characters from U+0100 on: GPT-2's alphabet.
    let prints = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut spare = (256u32..).filter_map(char::from_u32);
    let letters: Vec<char> = (0..=255u8)
        .map(|byte| match prints(&byte) {
            true => char::from(byte),
            false => spare.next().unwrap(),
        })
        .collect();
    letters.iter().for_each(|letter| add(letter.to_string()));
    let mut merges = Vec::new();
    for first in 32..127 {
        for second in 32..127 {
            let pair = [letters[first].to_string(), letters[second].to_string()];
            add(pair.concat());
            merges.push(json!(pair));
        }
    }
    let special = [BEGIN, END].into_iter().zip(vocabulary.len()..);
    let special = special.map(|(content, id)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let special: Vec<Value> = special.collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": special, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
            "merges": merges}})
}
