//! A completion's ids become text as they come: whole characters only, and nothing from a stop sequence on. Where the model thinks,
//! its thought is told from what it says, and where tools were offered, so are calls.

use model::text::Detokeniser;
use model::text::form::Grammar;
use model::text::thoughts::Thoughts;
use model::text::tools::{Format, Parser, Piece};
use std::sync::Arc;

/// The text of one completion, as far as its ids have come.
pub(crate) struct Completion {
    detokeniser: Detokeniser,
    stops: Vec<String>,
    /// Text that may be the beginning of a stop sequence.
    held: String,
    stopped: bool,
    /// The stop sequence that came.
    stop: Option<String>,
    alternatives: u8,
    thoughts: Option<Thoughts>,
    /// Tokens of the thought with its marks.
    thought_tokens: u32,
    calls: Option<Calls>,
    /// What the guest was made to answer.
    grammar: Option<Arc<Grammar>>,
}

/// Calls of tools in a completion.
struct Calls {
    parser: Parser,
    /// Whether the first one ends the completion.
    one: bool,
    /// Whether nothing more is shown.
    done: bool,
}

impl Completion {
    /// A completion that ends before any of `stops`.
    pub(crate) fn new(detokeniser: Detokeniser, stops: Vec<String>) -> Self {
        Completion {
            detokeniser,
            stops,
            held: String::new(),
            stopped: false,
            stop: None,
            alternatives: 0,
            thoughts: None,
            thought_tokens: 0,
            calls: None,
            grammar: None,
        }
    }

    /// With so many alternatives of each token, where log probabilities come with them.
    pub(crate) fn with_alternatives(mut self, alternatives: u8) -> Self {
        self.alternatives = alternatives;
        self
    }

    /// Which may begin with a thought.
    pub(crate) fn with_thoughts(mut self, thoughts: Option<Thoughts>) -> Self {
        self.thoughts = thoughts;
        self
    }

    /// With calls of this form, of which there may be several or `one`.
    pub(crate) fn with_calls(mut self, format: Format, one: bool) -> Self {
        let parser = Parser::new(format);
        self.calls = Some(Calls {
            parser,
            one,
            done: false,
        });
        self
    }

    /// Which the guest is made to answer by this.
    pub(crate) fn with_grammar(mut self, grammar: Option<Arc<Grammar>>) -> Self {
        self.grammar = grammar;
        self
    }

    /// Why these ids are not what the guest was made to answer, `whole` if it says that they are all of it.
    pub(crate) fn strays(&self, ids: &[u32], whole: bool) -> Option<String> {
        let grammar = self.grammar.as_ref()?;
        match grammar.check(ids) {
            Err(place) => Some(format!(
                "completion token {place} is not of the form that was asked for"
            )),
            Ok(()) if !whole || !self.stops.is_empty() => None,
            Ok(()) => match ids.last().is_some_and(|last| grammar.is_end(*last)) {
                true => None,
                false => Some("it ends before it is of the form that was asked for".into()),
            },
        }
    }

    /// Alternatives of each token that are shown.
    pub(crate) fn alternatives(&self) -> u8 {
        self.alternatives
    }

    /// What may be shown once these ids have come.
    pub(crate) fn push(&mut self, ids: &[u32]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for id in ids {
            self.held += &self.detokeniser.push(*id);
            let text = self.release(false);
            let within = self.is_within();
            for piece in self.told(text, false) {
                join(&mut pieces, piece);
            }
            self.thought_tokens += u32::from(within || self.is_within());
        }
        pieces
    }

    /// Tokens of the thought, as far as they have come.
    pub(crate) fn thought_tokens(&self) -> u32 {
        self.thought_tokens
    }

    fn is_within(&self) -> bool {
        self.thoughts.as_ref().is_some_and(Thoughts::is_within)
    }

    /// What is left when no id follows.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        self.held += &self.detokeniser.finish();
        let text = self.release(true);
        self.told(text, true)
    }

    /// Thoughts, calls and what is said around them.
    fn told(&mut self, mut text: String, last: bool) -> Vec<Piece> {
        // Nothing follows a stop sequence, either.
        let last = last || self.stopped;
        let mut pieces = Vec::new();
        if let Some(thoughts) = &mut self.thoughts {
            let told = thoughts.push(&text, last);
            text = told.said;
            pieces.extend(
                Some(told.thought)
                    .filter(|thought| !thought.is_empty())
                    .map(Piece::Thought),
            );
        }
        let Some(calls) = &mut self.calls else {
            pieces.extend(Some(text).filter(|text| !text.is_empty()).map(Piece::Text));
            return pieces;
        };
        if calls.done {
            return pieces;
        }
        pieces.extend(calls.parser.push(&text));
        if last {
            pieces.extend(calls.parser.finish());
            calls.done = true;
        }
        let called = { pieces.iter() }.position(|piece| matches!(piece, Piece::Call(_)));
        if let (true, Some(at)) = (calls.one, called) {
            pieces.truncate(at + 1);
            calls.done = true;
            self.stopped = true;
        }
        pieces
    }

    /// Whether a stop sequence came: what follows it is shown to nobody.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// The stop sequence that came, if one did.
    pub(crate) fn stop(&self) -> Option<&str> {
        self.stop.as_deref()
    }

    fn release(&mut self, last: bool) -> String {
        if self.stopped {
            self.held.clear();
            return String::new();
        }
        let found = self
            .stops
            .iter()
            .filter_map(|stop| Some((self.held.find(stop)?, stop)))
            .min();
        let shown = match found {
            Some((at, stop)) => {
                self.stopped = true;
                self.stop = Some(stop.clone());
                at
            }
            None if last => self.held.len(),
            None => self.held.len() - self.may_begin_a_stop(),
        };
        let rest = self.held.split_off(shown);
        std::mem::replace(&mut self.held, rest)
    }

    /// Bytes at the end of what is held that are the beginning of a stop sequence.
    fn may_begin_a_stop(&self) -> usize {
        let begins = |stop: &String| {
            let proper = stop.char_indices().map(|(at, _)| at);
            { proper.rev() }
                .find(|at| self.held.ends_with(&stop[..*at]))
                .unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

/// Puts a piece behind others, of which the last may go on.
fn join(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (Some(Piece::Text(before)), Piece::Text(more))
        | (Some(Piece::Thought(before)), Piece::Thought(more)) => before.push_str(&more),
        (_, piece) => pieces.push(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::text::Text;

    /// A tokenizer with one token for each of these texts.
    fn completion(tokens: &[&str], stops: &[&str]) -> Completion {
        let vocabulary: serde_json::Map<_, _> = { tokens.iter().enumerate() }
            .map(|(id, token)| (token.to_string(), id.into()))
            .collect();
        let tokenizer = serde_json::json!({"version": "1.0", "added_tokens": [], "normalizer": null,
            "truncation": null, "padding": null, "post_processor": null,
            "pre_tokenizer": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": tokens[0]}});
        let template = br#"{"chat_template": "x"}"#;
        let text = Text::parse(tokenizer.to_string().as_bytes(), Some(&template[..])).unwrap();
        let stops = stops.iter().map(|stop| stop.to_string()).collect();
        Completion::new(text.detokeniser().unwrap(), stops)
    }

    /// Calls as `«name(arguments)»`.
    fn written(pieces: Vec<Piece>) -> String {
        let pieces = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Thought(text) => format!("({text})"),
            Piece::Call(call) => format!("«{}({})»", call.name, call.arguments),
        });
        pieces.collect()
    }

    #[test]
    fn calls_are_told_from_text_and_one_may_be_the_end() {
        let call = r#"<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>"#;
        let tokens = [
            "hm",
            &call[..9],
            &call[9..],
            "<tool_call>{\"name\":\"g\"}</tool_call>",
            "!",
        ];
        let shown = |one, stops: &[&str]| {
            let mut completion = completion(&tokens, stops).with_calls(Format::Hermes, one);
            let ids = 0..tokens.len() as u32;
            let mut shown: String = ids.map(|id| written(completion.push(&[id]))).collect();
            shown += &written(completion.finish());
            (shown, completion.stopped())
        };
        let both = "hm«f({\"a\":1})»«g({})»!".to_owned();
        assert_eq!(shown(false, &[]), (both, false));
        let first = "hm«f({\"a\":1})»".to_owned();
        assert_eq!(shown(true, &[]), (first, true));
        // A stop sequence ends it before the call is whole: what came of it is text.
        assert_eq!(
            shown(false, &["name"]),
            ("hm<tool_call>{\"".to_owned(), true)
        );
    }

    #[test]
    fn a_thought_comes_before_calls_and_its_tokens_are_counted() {
        let tokens = [
            "<think>",
            "\nhm",
            " <tool_call>",
            "\n</think>",
            "\n\nYes",
            "<tool_call>",
            "{\"name\":\"f\"}",
            "</tool_call>",
        ];
        for (within, thought, counted) in [
            (false, "hm <tool_call>", 4),
            (true, "<think>\nhm <tool_call>", 4),
        ] {
            for ids in [1, 3, tokens.len()] {
                let mut completion = completion(&tokens, &[])
                    .with_thoughts(Some(Thoughts::new(within)))
                    .with_calls(Format::Hermes, false);
                let all: Vec<u32> = (0..tokens.len() as u32).collect();
                let mut pieces: Vec<Piece> = Vec::new();
                for part in all.chunks(ids) {
                    completion
                        .push(part)
                        .into_iter()
                        .for_each(|piece| join(&mut pieces, piece));
                }
                completion
                    .finish()
                    .into_iter()
                    .for_each(|piece| join(&mut pieces, piece));
                assert_eq!(written(pieces), format!("({thought})Yes«f({{}})»"));
                assert_eq!(completion.thought_tokens(), counted);
            }
        }
    }

    /// What is shown after each id and at the end.
    fn shown(tokens: &[&str], stops: &[&str]) -> (Vec<String>, bool) {
        let mut completion = completion(tokens, stops);
        let ids = 0..tokens.len() as u32;
        let mut shown: Vec<String> = ids.map(|id| written(completion.push(&[id]))).collect();
        shown.push(written(completion.finish()));
        (shown, completion.stopped())
    }

    #[test]
    fn nothing_of_a_stop_sequence_or_behind_it_is_shown_however_it_is_cut() {
        for (tokens, stops, expected) in [
            (&["ab", "cd", "ef"][..], &["cd"][..], "ab"),
            (&["ab", "c", "d", "ef"], &["cd"], "ab"),
            (&["abc", "def"], &["cd"], "ab"),
            (&["abcdef"], &["cd"], "ab"),
            (&["abc", "x", "cd"], &["cd"], "abcx"),
            (&["aab", "aabc"], &["aabc"], "aab"),
            (&["aa", "ab"], &["aab"], "a"),
            (&["ab", "cd"], &["d", "bc"], "a"),
            (&["ab", "c"], &["cd"], "abc"),
            (&["ab"], &[], "ab"),
        ] {
            let (pieces, stopped) = shown(tokens, stops);
            assert_eq!(pieces.concat(), expected, "{tokens:?} {stops:?}");
            assert_eq!(stopped, expected != tokens.concat(), "{tokens:?} {stops:?}");
        }
    }

    #[test]
    fn text_that_cannot_begin_a_stop_sequence_is_shown_at_once() {
        assert_eq!(shown(&["ab", "c", "x"], &["cd"]).0, ["ab", "", "cx", ""]);
        assert_eq!(shown(&["ab", "cd"], &[]).0, ["ab", "cd", ""]);
    }

    #[test]
    fn a_character_that_two_tokens_spell_is_shown_whole() {
        // U+00E9 is the bytes c3 a9, which the byte-level alphabet writes as these two characters.
        assert_eq!(shown(&["Ã", "©", "a"], &["é!"]).0, ["", "", "éa", ""]);
        assert_eq!(shown(&["Ã", "©"], &[]).0, ["", "é", ""]);
        assert_eq!(shown(&["a", "Ã"], &[]).0, ["a", "", "\u{fffd}"]);
    }
}
