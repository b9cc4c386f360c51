//! Tokens to text, as they come.

use std::sync::Arc;

use tokenizers::{DecoderWrapper, Tokenizer};

use crate::ModelError;

/// The bytes that each token of a byte-level vocabulary stands for. Control tokens stand for none.
pub(super) struct Spelling(Vec<Vec<u8>>);

impl Spelling {
    /// Of a tokenizer whose vocabulary is known to be bounded.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        if !matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(ModelError::Unsupported(
                "a decoder other than ByteLevel".into(),
            ));
        }
        let vocabulary = tokenizer.get_vocab(true);
        let largest = vocabulary.values().max().map_or(0, |id| *id as usize);
        let mut spelling = vec![Vec::new(); largest + 1];
        let control = tokenizer.get_added_tokens_decoder();
        for (token, id) in vocabulary {
            spelling[id as usize] = match control.get(&id) {
                Some(added) if added.special => Vec::new(),
                Some(_) => token.into_bytes(),
                None => token.chars().flat_map(bytes_of).collect(),
            };
        }
        Ok(Spelling(spelling))
    }

    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        self.0.get(token as usize).map_or(&[], Vec::as_slice)
    }
}

/// The byte that a character of the byte-level alphabet stands for. Printable Latin-1 stands for itself; the other 68
/// bytes, in rising order, are written as the characters from U+0100 on.
fn bytes_of(character: char) -> Vec<u8> {
    let plain = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = character as u32;
    let byte = match code {
        0..=0xff => u8::try_from(code).ok().filter(plain),
        _ => (0..=u8::MAX)
            .filter(|byte| !plain(byte))
            .nth((code - 0x100) as usize),
    };
    // A character outside the alphabet stands for itself, as in the reference decoder.
    byte.map_or_else(|| character.to_string().into_bytes(), |byte| vec![byte])
}

/// Turns tokens into text as they come: what is returned is always whole characters, and all of it together is the
/// text. Bytes that are not UTF-8 become U+FFFD, as `String::from_utf8_lossy` would have it.
pub struct Detokeniser {
    spelling: Arc<Spelling>,
    held: Vec<u8>,
}

impl Detokeniser {
    pub(super) fn new(spelling: Arc<Spelling>) -> Self {
        Detokeniser {
            spelling,
            held: Vec::new(),
        }
    }

    /// The text that `token` completes.
    pub fn push(&mut self, token: u32) -> String {
        self.held.extend_from_slice(self.spelling.bytes(token));
        let whole = self.held.len() - unfinished(&self.held);
        let bytes: Vec<u8> = self.held.drain(..whole).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is left over when no token follows.
    pub fn finish(&mut self) -> String {
        let bytes = std::mem::take(&mut self.held);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// How many bytes at the end begin a character that further bytes could finish.
fn unfinished(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(_) => return 0,
            Err(error) => match error.error_len() {
                Some(bad) => rest = &rest[error.valid_up_to() + bad..],
                None => return rest.len() - error.valid_up_to(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token per byte, and the same text in any cut.
    fn spelled(bytes: &[u8]) -> (Arc<Spelling>, Vec<u32>) {
        let spelling = Spelling((0..=u8::MAX).map(|byte| vec![byte]).collect());
        (
            Arc::new(spelling),
            bytes.iter().map(|byte| u32::from(*byte)).collect(),
        )
    }

    #[test]
    fn steps_are_whole_characters_and_together_the_text() {
        let texts: [&[u8]; 6] = [
            "plain".as_bytes(),
            "żółw 🦋 \u{fffd} é".as_bytes(),
            &[0xf0, 0x9f, 0xa6],
            &[0xff, b'a', 0xe2, 0x82, b'b', 0xc3],
            &[0xe2, 0x82, 0xe2, 0x82, 0xac],
            &[],
        ];
        for text in texts {
            let (spelling, tokens) = spelled(text);
            let mut detokeniser = Detokeniser::new(spelling);
            let mut all: String = tokens
                .iter()
                .map(|token| detokeniser.push(*token))
                .collect();
            all += &detokeniser.finish();
            assert_eq!(all, String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_character_is_held_until_its_last_byte() {
        let (spelling, tokens) = spelled("🦋".as_bytes());
        let mut detokeniser = Detokeniser::new(spelling);
        let steps: Vec<String> = tokens.iter().map(|t| detokeniser.push(*t)).collect();
        assert_eq!(steps, ["", "", "", "🦋"]);
    }

    #[test]
    fn every_byte_has_one_character() {
        use tokenizers::pre_tokenizers::byte_level::ByteLevel;
        let mut bytes: Vec<u8> = ByteLevel::alphabet()
            .into_iter()
            .flat_map(bytes_of)
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
    }
}
