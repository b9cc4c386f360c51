//! What a model thinks before it answers, told from its answer as it comes.
//!
//! ```text
//! <think> thought </think> answer        Qwen3, SmolLM3, DeepSeek-R1: whoever's chat template knows these marks
//! thought </think> answer                the same, where the template wrote the first mark at the end of the prompt
//! ```
//! A thought is the first thing of a completion or there is none: a mark further on is text. White space around marks belongs to
//! neither. A completion that ends before its thought does has no answer. Marks are held until they are whole, white space until
//! something follows; each byte is looked at a bounded number of times.

/// Tells a thought from the answer while a completion comes.
#[derive(Debug)]
pub struct Thoughts {
    state: State,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space and what may be the first mark has come.
    Before,
    /// Within the thought, of which nothing was told yet.
    Begins,
    Within,
    /// Behind the second mark, before the answer.
    Behind,
    Answer,
}

/// What became known.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Of the thought.
    pub thought: String,
    /// Of the answer.
    pub said: String,
}

impl Thoughts {
    /// Before the first text of a completion, which may begin `within` a thought.
    pub fn new(within: bool) -> Self {
        let state = match within {
            true => State::Begins,
            false => State::Before,
        };
        Thoughts {
            state,
            held: String::new(),
        }
    }

    /// Whether the thought has begun and not ended.
    pub fn is_within(&self) -> bool {
        matches!(self.state, State::Begins | State::Within)
    }

    /// What is known once this text has come, the `last` or not.
    pub fn push(&mut self, text: &str, last: bool) -> Told {
        self.held.push_str(text);
        let mut told = Told::default();
        while self.step(&mut told, last) {}
        told
    }

    /// Takes what it can off the text that is held; whether there is more to take.
    fn step(&mut self, told: &mut Told, last: bool) -> bool {
        let white = self.held.len() - self.held.trim_start().len();
        let rest = &self.held[white..];
        // Nobody begins with so much white space.
        let undecided = !last && white < WHITE_BYTES_MAX;
        match self.state {
            State::Before if rest.starts_with(BEGIN) => {
                self.held.drain(..white + BEGIN.len());
                self.state = State::Begins;
            }
            State::Before if undecided && BEGIN.starts_with(rest) => return false,
            State::Before => self.state = State::Answer,
            State::Begins | State::Behind => {
                let empty = rest.is_empty();
                self.held.drain(..white);
                if empty {
                    return false;
                }
                self.state = match self.state {
                    State::Begins => State::Within,
                    _ => State::Answer,
                };
            }
            State::Within => return self.thought(told, last),
            State::Answer => {
                told.said.push_str(&std::mem::take(&mut self.held));
                return false;
            }
        }
        true
    }

    fn thought(&mut self, told: &mut Told, last: bool) -> bool {
        if let Some(at) = self.held.find(END) {
            told.thought.push_str(self.held[..at].trim_end());
            self.held.drain(..at + END.len());
            self.state = State::Behind;
            return true;
        }
        let begun = |length: &usize| self.held.ends_with(&END[..*length]);
        let mark = match last {
            true => 0,
            false => (1..END.len()).rev().find(begun).unwrap_or(0),
        };
        let known = &self.held[..self.held.len() - mark];
        let mut shown = known.trim_end().len();
        if !last && known.len() - shown > WHITE_BYTES_MAX {
            shown = known.len();
        }
        told.thought.extend(self.held.drain(..shown));
        false
    }
}

/// What begins a thought.
pub(super) const BEGIN: &str = "<think>";
/// What ends it.
pub(super) const END: &str = "</think>";
/// White space that is held.
const WHITE_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Thought and answer, the same for every cut.
    fn told(within: bool, text: &str) -> (String, String) {
        let mut whole = Thoughts::new(within);
        let Told { thought, said } = whole.push(text, true);
        let chars: Vec<char> = text.chars().collect();
        for step in 1..9 {
            let mut thoughts = Thoughts::new(within);
            let mut got = Told::default();
            let mut add = |told: Told| {
                got.thought += &told.thought;
                got.said += &told.said;
            };
            for chunk in chars.chunks(step) {
                add(thoughts.push(&chunk.iter().collect::<String>(), false));
            }
            add(thoughts.push("", true));
            let expected = (thought.as_str(), said.as_str());
            assert_eq!(
                (got.thought.as_str(), got.said.as_str()),
                expected,
                "{step}"
            );
        }
        (thought, said)
    }

    fn check(within: bool, text: &str, thought: &str, said: &str) {
        assert_eq!(
            told(within, text),
            (thought.into(), said.into()),
            "{text:?}"
        );
    }

    #[test]
    fn a_thought_is_told_from_the_answer_however_the_completion_is_cut() {
        check(
            false,
            "<think>\nhm\n\nso\n</think>\n\nYes. \n",
            "hm\n\nso",
            "Yes. \n",
        );
        check(false, "\n <think>hm</think>Yes.", "hm", "Yes.");
        check(true, "hm <b>\n</think>\nYes.", "hm <b>", "Yes.");
        check(false, "<think>\n\n</think>\n\nYes.", "", "Yes.");
        // Cut short within, or with the mark half there.
        check(false, "<think>hm\n", "hm", "");
        check(false, "<think>hm</thin", "hm</thin", "");
        check(true, "", "", "");
    }

    #[test]
    fn what_is_no_thought_at_the_beginning_is_text() {
        for text in [
            "Yes.",
            "  Yes.",
            "<thin",
            "<thinks> Yes.",
            "Yes. <think>hm</think>",
            "</think>",
            "",
        ] {
            check(false, text, "", text);
        }
        check(
            false,
            "<think>a</think>b<think>c</think>",
            "a",
            "b<think>c</think>",
        );
        check(true, "a<think>b</think>c", "a<think>b", "c");
    }

    #[test]
    fn nothing_of_a_mark_is_told_and_text_is_told_at_once() {
        let mut thoughts = Thoughts::new(false);
        let mut push = |text: &str| {
            let Told { thought, said } = thoughts.push(text, false);
            (thought, said)
        };
        let pair = |thought: &str, said: &str| (thought.to_owned(), said.to_owned());
        assert_eq!(push("<thi"), pair("", ""));
        assert_eq!(push("nk>\nhm"), pair("hm", ""));
        assert_eq!(push(" so\n</"), pair(" so", ""));
        assert_eq!(push("b>"), pair("\n</b>", ""));
        assert_eq!(push("\n</think"), pair("", ""));
        assert_eq!(push(">\n"), pair("", ""));
        assert_eq!(push("Yes"), pair("", "Yes"));
        assert_eq!(push("\n"), pair("", "\n"));
    }

    #[test]
    fn white_space_is_held_within_bounds() {
        let mut thoughts = Thoughts::new(true);
        thoughts.push("hm", false);
        for _ in 0..10_000 {
            thoughts.push(" ", false);
            assert!(thoughts.held.len() <= 2 * WHITE_BYTES_MAX);
        }
        let mut thoughts = Thoughts::new(false);
        assert_eq!(
            thoughts
                .push(&" ".repeat(WHITE_BYTES_MAX), false)
                .said
                .len(),
            WHITE_BYTES_MAX
        );
    }
}
