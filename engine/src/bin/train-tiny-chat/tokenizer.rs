//! Makes the model's vocabulary: byte-level pair encoding, so that any text can be written with it.

use std::collections::HashSet;

use anyhow::anyhow;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, Trainer};

/// Ends a text and pads a batch.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Begins a message.
pub const MESSAGE_START: &str = "<|im_start|>";
/// Ends a message.
pub const MESSAGE_END: &str = "<|im_end|>";

/// ChatML. The model's end token closes the assistant's message.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Learns `vocabulary` entries from `texts`.
pub fn learn(texts: &[String], vocabulary: usize) -> anyhow::Result<Tokenizer> {
    let bytes = ByteLevel::new(false, false, true);
    let control =
        [END_OF_TEXT, MESSAGE_START, MESSAGE_END].map(|token| AddedToken::from(token, true));
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .min_frequency(2)
        .initial_alphabet(alphabet)
        .special_tokens(control.to_vec())
        .build();
    trainer
        .feed(texts.iter(), |text| {
            let mut pieces = tokenizers::PreTokenizedString::from(text);
            tokenizers::PreTokenizer::pre_tokenize(&bytes, &mut pieces)?;
            Ok(pieces
                .get_splits(
                    tokenizers::OffsetReferential::Original,
                    tokenizers::OffsetType::Byte,
                )
                .into_iter()
                .map(|(piece, _, _)| piece.to_owned())
                .collect())
        })
        .map_err(|error| anyhow!("splitting the text: {error}"))?;
    let mut model = BPE::default();
    let control = trainer
        .train(&mut model)
        .map_err(|error| anyhow!("learning the vocabulary: {error}"))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_pre_tokenizer(Some(bytes))
        .with_decoder(Some(bytes));
    tokenizer
        .add_special_tokens(control)
        .map_err(|error| anyhow!("adding the control tokens: {error}"))?;
    Ok(tokenizer)
}

/// `tokenizer_config.json` for the result.
pub fn config(context: usize) -> serde_json::Value {
    serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": false,
        "eos_token": MESSAGE_END,
        "pad_token": END_OF_TEXT,
        "chat_template": CHAT_TEMPLATE,
    })
}
