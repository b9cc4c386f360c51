//! What an answer must be, as an automaton over the tokens of a model: a JSON object, JSON that satisfies a schema, a text that a
//! regular expression matches, or calls of tools.
//!
//! ```text
//! schema, expression ─► Nfa ─► Dfa over bytes ─► Grammar over tokens ─► words in a request
//! ```
//! The guest that gets the words never sees the form, and cannot answer anything else: from every state an end is reached, and an end
//! is allowed only behind a whole text of the form. A guest that answers otherwise is found out, since [`Grammar::check`]
//! walks the answer's tokens again.
//!
//! A form is somebody's input. Its depth, its nodes, its states and the steps of its making are bounded, and what is not
//! supported or does not fit is refused with its path.

mod calls;
mod chars;
mod dfa;
mod format;
mod nfa;
mod number;
mod pattern;
mod schema;
mod tokens;
mod value;

use thiserror::Error;

use super::{Json, Text, TextError};
use chars::Place;
use dfa::Dfa;
use nfa::{Nfa, Part};
use schema::Scope;
use tokens::{MARK_MIN, Maker, NEVER};

pub(super) use tokens::Tokens;

/// What an answer must be.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// A JSON object.
    Object,
    /// JSON that satisfies a schema.
    Schema(&'a Json),
    /// A text that all of a regular expression matches.
    Regex(&'a str),
    /// At least one call of these tools, and nothing else.
    Calls {
        /// Each with the path of its schema in the request.
        tools: &'a [CallForm<'a>],
        /// Whether there may be several calls.
        several: bool,
    },
}

/// A tool that may be called.
#[derive(Debug, Clone, Copy)]
pub struct CallForm<'a> {
    /// Its name.
    pub name: &'a str,
    /// A JSON Schema of its arguments; without one there are none.
    pub parameters: Option<&'a Json>,
    /// Where the request has that schema, such as `tools[0].function.parameters`.
    pub path: &'a str,
}

/// Why a form does not become an automaton.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{at}` {flaw}")]
pub struct FormError {
    /// Where in the request, such as `response_format.json_schema.schema.properties.a.pattern`.
    pub at: String,
    /// What is wrong there.
    pub flaw: FormFlaw,
}

impl From<FormFlaw> for FormError {
    /// Whoever knows where it is says so.
    fn from(flaw: FormFlaw) -> Self {
        let at = String::new();
        FormError { at, flaw }
    }
}

/// What is wrong with a part of a form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum FormFlaw {
    #[error("is not supported")]
    Unsupported,
    #[error("may be {0}")]
    Value(&'static str),
    #[error("may be a whole number from 0 to {0}")]
    Count(usize),
    #[error("may have 1 to {0} entries")]
    Items(usize),
    #[error("is not supported beside `{0}`")]
    Beside(&'static str),
    #[error("refers to a schema that it is a part of; recursive schemas are not supported")]
    Recursive,
    #[error("may be satisfied together with another branch, which oneOf forbids; use anyOf")]
    Overlap,
    #[error("is nested deeper than {0}")]
    Deep(usize),
    #[error("has {bytes} bytes; at most {bytes_max} are allowed")]
    Bytes { bytes: usize, bytes_max: usize },
    #[error("is not a regular expression that is supported: {0}")]
    Pattern(String),
    #[error("is too large or takes too long to compile")]
    TooLarge,
    #[error("needs more than {0} states of an automaton; make it smaller")]
    States(usize),
    #[error("tells more than {0} classes of tokens apart; make it smaller")]
    Classes(usize),
    #[error("allows no text")]
    Empty,
    #[error("cannot be written with the tokens of the model")]
    Vocabulary,
    #[error("cannot be asked of the model: {0}")]
    Model(TextError),
}

impl FormError {
    /// The same at this path, if it has none.
    fn or_at(self, path: &str) -> Self {
        match self.at.is_empty() {
            true => FormError {
                at: path.to_owned(),
                ..self
            },
            false => self,
        }
    }
}

impl FormFlaw {
    fn is_of_size(&self) -> bool {
        matches!(self, Self::States(_) | Self::Classes(_) | Self::TooLarge)
    }
}

/// How much a form leaves to the model where its author says nothing. A smaller one is tried if the larger does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Degree {
    /// Whether digits are counted, so that no number goes on for ever.
    counted: bool,
    /// How deep values may nest that no schema describes.
    nesting: usize,
    /// Whether tokens that end within a character are left out.
    whole: bool,
}

const fn degree(counted: bool, nesting: usize, whole: bool) -> Degree {
    Degree {
        counted,
        nesting,
        whole,
    }
}

const DEGREES: [Degree; 8] = [
    degree(true, 3, false),
    degree(true, 3, true),
    degree(false, 3, false),
    degree(false, 3, true),
    degree(false, 2, false),
    degree(false, 2, true),
    degree(false, 1, true),
    degree(false, 0, true),
];

/// Which token may follow which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar {
    classes: Vec<u16>,
    rows: Vec<Vec<u16>>,
    start: u16,
    ends: Vec<u32>,
}

/// The tokens of a model as forms need them.
pub(super) struct FormTokens {
    tokens: Tokens,
    /// Whether a text loses a space at its beginning.
    space_before: bool,
    /// Marks of calls that are tokens, each by its place in this list.
    marks: Vec<&'static str>,
}

/// Marks of calls that are tokens in some vocabularies.
const CALL_MARKS: [&str; 4] = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]"];

impl Text {
    /// The automaton of a form that the request has at `path`. It takes up to some seconds and 200 MB.
    pub fn grammar(&self, form: &Form<'_>, path: &str) -> Result<Grammar, FormError> {
        self.grammar_of_any(&[(*form, path)])
    }

    /// The automaton of any of these forms, each with its path.
    pub fn grammar_of_any(&self, forms: &[(Form<'_>, &str)]) -> Result<Grammar, FormError> {
        let path = forms.first().map_or("", |(_, path)| path);
        let here = |flaw| FormError {
            at: path.to_owned(),
            flaw,
        };
        let tokens = self
            .form_tokens()
            .map_err(|error| here(FormFlaw::Model(error)))?;
        let mut last = FormError::from(FormFlaw::TooLarge);
        for degree in DEGREES {
            let mut nfa = Nfa::default();
            let parts = forms.iter().map(|(form, path)| {
                let part = self.part(&mut nfa, tokens, form, path, degree);
                part.map_err(|error| error.or_at(path))
            });
            let parts = parts.collect::<Result<Vec<_>, _>>();
            let made = parts.and_then(|parts| {
                let part = nfa.either(&parts)?;
                Ok(grammar(&nfa, part, tokens, degree)?)
            });
            match made {
                Ok(grammar) => return Ok(grammar),
                // A smaller degree may fit.
                Err(error) if error.flaw.is_of_size() => last = error,
                Err(error) => return Err(error.or_at(path)),
            }
        }
        Err(last.or_at(path))
    }

    fn part(
        &self,
        nfa: &mut Nfa,
        tokens: &FormTokens,
        form: &Form<'_>,
        path: &str,
        degree: Degree,
    ) -> Result<Part, FormError> {
        let here = |flaw| FormError {
            at: path.to_owned(),
            flaw,
        };
        match form {
            Form::Object => {
                let values = degree.nesting.saturating_sub(1);
                value::object(nfa, |nfa| value::any(nfa, values)).map_err(here)
            }
            Form::Schema(schema) => schema::part(nfa, &Scope::new(schema, path, degree), schema),
            Form::Regex(pattern) => pattern::part(nfa, Place::Text, pattern).map_err(here),
            Form::Calls { tools, several } => {
                let format = self.calls().map_err(|error| here(FormFlaw::Model(error)))?;
                calls::part(nfa, tokens, format, tools, *several, degree)
            }
        }
    }

    fn form_tokens(&self) -> Result<&FormTokens, TextError> {
        let spelling = &self.chat()?.spelling;
        Ok(self.form_tokens.get_or_init(|| {
            let added = self.tokenizer.get_added_tokens_decoder();
            let is_token = |mark: &&str| added.values().any(|token| token.content == **mark);
            let marks: Vec<&'static str> = CALL_MARKS.into_iter().filter(is_token).collect();
            let spelled = (0..self.vocabulary.size() as u32).filter_map(|token| {
                let Some(added) = added.get(&token) else {
                    let bytes = spelling.bytes(token);
                    let text = bytes.iter().all(|byte| *byte < MARK_MIN);
                    return text.then(|| (bytes.to_vec(), token));
                };
                let mark = marks.iter().position(|mark| *mark == added.content)?;
                Some((vec![MARK_MIN + mark as u8], token))
            });
            FormTokens {
                tokens: Tokens::new(spelled.collect(), self.ends(), self.vocabulary.size()),
                space_before: spelling.space_before(),
                marks,
            }
        }))
    }

    /// The tokens that may end a completion: special ones, and whatever the template names.
    fn ends(&self) -> Vec<u32> {
        let named = { self.chat().ok() }.and_then(|chat| chat.template.special("eos_token"));
        let named = named.and_then(|token| self.tokenizer.token_to_id(token));
        let mut ends: Vec<u32> = self.vocabulary.control().iter().copied().collect();
        ends.extend(named);
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

fn grammar(
    nfa: &Nfa,
    part: Part,
    tokens: &FormTokens,
    degree: Degree,
) -> Result<Grammar, FormFlaw> {
    let mut dfa = Dfa::of(nfa, part)?;
    if dfa.start == dfa::DEAD {
        return Err(FormFlaw::Empty);
    }
    if tokens.space_before {
        dfa = dfa.behind_a_space();
    }
    Maker::new(&dfa, &tokens.tokens, degree.whole).make()
}

impl FormTokens {
    /// A mark, which is one token or a text.
    fn mark(&self, mark: &str) -> Vec<u8> {
        match self.marks.iter().position(|one| *one == mark) {
            Some(place) => vec![MARK_MIN + place as u8],
            None => mark.as_bytes().to_vec(),
        }
    }

    fn has(&self, mark: &str) -> bool {
        self.marks.contains(&mark)
    }
}

impl Grammar {
    /// The words of a request, as `kernels::sampling::automaton` reads them: states and classes, the first state, the class
    /// of each token, and state by state the next state of each class.
    pub fn words(&self) -> Vec<u32> {
        let width = self.rows.first().map_or(0, Vec::len);
        let mut words = vec![
            self.rows.len() as u32 | (width as u32) << 16,
            self.start.into(),
        ];
        let table = self.rows.concat();
        for halves in [&self.classes, &table] {
            let pairs = halves.chunks(2);
            words.extend(pairs.map(|pair| {
                let high = pair.get(1).copied().unwrap_or(0);
                u32::from(pair[0]) | u32::from(high) << 16
            }));
        }
        words
    }

    /// States and classes.
    pub fn size(&self) -> (usize, usize) {
        (self.rows.len(), self.rows.first().map_or(0, Vec::len))
    }

    /// The state before the first token.
    pub fn start(&self) -> u16 {
        self.start
    }

    /// The state behind a token, if it may follow in a state.
    pub fn next(&self, state: u16, token: u32) -> Option<u16> {
        let class = self.classes.get(token as usize)?;
        let next = self
            .rows
            .get(usize::from(state))?
            .get(usize::from(*class))?;
        (*next != NEVER).then_some(*next)
    }

    /// Whether a text may end in a state.
    pub fn may_end(&self, state: u16) -> bool {
        self.ends.iter().any(|end| self.next(state, *end).is_some())
    }

    /// Whether a token ends a completion.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Holds a completion against this, whose last token may end it. `Err`: the place of the first token that may not stand there.
    pub fn check(&self, completion: &[u32]) -> Result<(), usize> {
        let mut state = self.start;
        for (place, token) in completion.iter().enumerate() {
            state = self.next(state, *token).ok_or(place)?;
            if self.ends.contains(token) && place + 1 < completion.len() {
                return Err(place);
            }
        }
        Ok(())
    }

    /// Whether a state leads to no end.
    fn has_dead_end(&self) -> bool {
        let mut alive: Vec<bool> = (0..self.rows.len() as u16)
            .map(|state| self.may_end(state))
            .collect();
        loop {
            let reaches = |state: usize| {
                let next = { self.rows[state].iter() }.filter(|next| **next != NEVER);
                alive[state] || next.clone().any(|next| alive[usize::from(*next)])
            };
            let more: Vec<bool> = (0..self.rows.len()).map(reaches).collect();
            if more == alive {
                return !alive.iter().all(|alive| *alive);
            }
            alive = more;
        }
    }
}

#[cfg(test)]
mod tests;
