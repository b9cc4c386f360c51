//! Tokens to text, as they come.

use std::sync::Arc;

use tokenizers::{DecoderWrapper, Tokenizer};

use crate::ModelError;
use crate::vocabulary::MARKS;

/// The bytes that each token stands for. Control tokens stand for none.
pub(super) struct Spelling {
    tokens: Vec<Vec<u8>>,
    /// Whether a text begins with a space that nobody wrote.
    space_before: bool,
}

impl Spelling {
    /// Of a tokenizer whose vocabulary is known to be bounded: one of bytes, or one of SentencePiece with bytes for what has no piece.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        let (piece, space_before): (fn(&str) -> Vec<u8>, bool) = match tokenizer.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => {
                (|token| token.chars().flat_map(bytes_of).collect(), false)
            }
            Some(decoder) => (bytes_of_piece, sentence_piece(decoder)?),
            None => return Err(ModelError::Unsupported("no decoder".into())),
        };
        let vocabulary = tokenizer.get_vocab(true);
        let largest = vocabulary.values().max().map_or(0, |id| *id as usize);
        let mut tokens = vec![Vec::new(); largest + 1];
        let control = tokenizer.get_added_tokens_decoder();
        for (token, id) in vocabulary {
            tokens[id as usize] = match control.get(&id) {
                Some(added) if added.special && !MARKS.contains(&token.as_str()) => Vec::new(),
                // SentencePiece's own added pieces may hold its sign for a space, others hold text.
                Some(_) => token.replace(SPACE, " ").into_bytes(),
                None => piece(&token),
            };
        }
        Ok(Spelling {
            tokens,
            space_before,
        })
    }

    /// Whether a text begins with a space that nobody wrote.
    pub(super) fn space_before(&self) -> bool {
        self.space_before
    }

    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        self.tokens.get(token as usize).map_or(&[], Vec::as_slice)
    }
}

/// Whether a decoder is that of SentencePiece as Hugging Face converts it, and if so whether it drops a space at the beginning.
fn sentence_piece(decoder: &DecoderWrapper) -> Result<bool, ModelError> {
    let unsupported = || {
        let what = "a decoder other than ByteLevel and SentencePiece's with byte fallback";
        ModelError::Unsupported(what.into())
    };
    // The parts of a sequence are private, and what they say is not.
    let json = serde_json::to_value(decoder).map_err(|_| unsupported())?;
    let parts = json["decoders"].as_array().ok_or_else(unsupported)?;
    let kinds: Vec<&str> = parts
        .iter()
        .filter_map(|part| part["type"].as_str())
        .collect();
    let spaces = parts
        .first()
        .is_some_and(|first| first["pattern"]["String"] == SPACE && first["content"] == " ");
    match (spaces, kinds.as_slice()) {
        (true, ["Replace", "ByteFallback", "Fuse"]) => Ok(false),
        (true, ["Replace", "ByteFallback", "Fuse", "Strip"]) => {
            let strip = &parts[3];
            let one = strip["content"] == " " && strip["start"] == 1 && strip["stop"] == 0;
            one.then_some(true).ok_or_else(unsupported)
        }
        _ => Err(unsupported()),
    }
}

/// `<0x0A>` stands for a byte, any other piece for its text.
fn bytes_of_piece(piece: &str) -> Vec<u8> {
    let hex = piece
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    let hex = hex.filter(|hex| hex.len() == 2);
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => piece.replace(SPACE, " ").into_bytes(),
    }
}

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

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
///
/// A run of bytes that are no UTF-8 becomes one U+FFFD for each part that is none, where Hugging Face's decoder of SentencePiece has
/// one for each byte of the whole run, which it knows only at its end.
pub struct Detokeniser {
    spelling: Arc<Spelling>,
    held: Vec<u8>,
    /// Whether the next byte is the first, and a space that nobody wrote.
    space_before: bool,
}

impl Detokeniser {
    pub(super) fn new(spelling: Arc<Spelling>) -> Self {
        Detokeniser {
            space_before: spelling.space_before,
            spelling,
            held: Vec::new(),
        }
    }

    /// The text that `token` completes.
    pub fn push(&mut self, token: u32) -> String {
        let mut bytes = self.spelling.bytes(token);
        if self.space_before && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.space_before = false;
        }
        self.held.extend_from_slice(bytes);
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
        let spelling = Spelling {
            tokens: (0..=u8::MAX).map(|byte| vec![byte]).collect(),
            space_before: false,
        };
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
