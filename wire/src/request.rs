//! The request inside the seal: token ids and parameters, of fixed width, so that no length and no branch of who reads it
//! depends on an id. Text, template and tokenizer are the client's.
//!
//! A header of 256 bytes, then arrays of words, then zeros up to a [`bucket`]. Everything is little-endian.
//!
//! ```text
//!   at  bytes                                      at  bytes
//!    0  4   version, 1                             52  4   top-k, 0 for all
//!    4  4   endpoint: 0 embeddings, 1 chat, 2 rerank 56  4   repetition penalty, f32, 1 for none
//!    8  4   flags: 1 seed, 2 parent, 4 prefix      60  4   presence penalty, f32
//!   12  4   choices, 1                             64  4   frequency penalty, f32
//!   16  4   texts                                  68  4   log probabilities: 0 none, else alternatives and 1
//!   20  4   prompt tokens of all texts             72  8   seed
//!   24  4   pairs of token and bias                80  32  model root
//!   28  4   stop sequences                        112  16  job that this one retries
//!   32  4   tokens of all stop sequences          128  32  handle of a cached prefix
//!   36  4   words of a grammar                    160  4   its tokens
//!   40  4   completion tokens at most             164  4   min-p, f32
//!   44  4   temperature, f32                      168  88  reserved, zeros
//!   48  4   top-p, f32                            256      the words: tokens of each text; prompt tokens; bias pairs
//!                                                          (token, f32); tokens of each stop; stop tokens; grammar
//! ```
//!
//! A rerank request has, behind the prompt tokens, how many tokens of each text belong to its first part, the query's.
//! An embeddings or rerank request has zeros from byte 12 to 16, from byte 24 to 80 and from byte 128 on. What the format has room for
//! and no guest computes yet is decoded and then refused by name ([`ChatRequest::unsupported`]), never ignored.

mod fields;

use crate::cbor::{self, Malformed};
use crate::limits::{
    BIAS_MAX, BIAS_VALUE_MAX, COMPLETION_TOKENS_MAX, GRAMMAR_WORDS_MAX, INPUTS_MAX, LOGPROBS,
    PENALTY_MAX, REQUEST_BYTES_MAX, REQUEST_HEADER_BYTES, REQUEST_WORDS_MAX, REQUEST_WORDS_MIN,
    STOP_TOKENS_MAX, STOPS_MAX, TEMPERATURE_MAX, TOP_P_MAX,
};
use crate::{Digest, Endpoint, JobRequest};
use fields::Fields;
use zeroize::Zeroizing;

const WHAT: &str = "sealed request";
const SEED: u32 = 1;
const PARENT: u32 = 2;
const PREFIX: u32 = 4;
/// Where the reserved bytes begin.
const RESERVED: usize = 168;

/// A request of any endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model's root, as in the envelope.
    pub model_root: Digest,
    /// The job that this one retries.
    pub parent: Option<[u8; 16]>,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked, in tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// `POST /v1/embeddings`: the tokens of 1 to [`INPUTS_MAX`] texts, the special ones included.
    Embeddings(Vec<Vec<u32>>),
    /// `POST /v1/chat/completions`
    Chat(ChatRequest),
    /// `POST /v1/rerank`: a query with each of 1 to [`INPUTS_MAX`] documents.
    Rerank(Vec<Pair>),
}

/// Two texts that are read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The tokens of both, the special ones included.
    pub tokens: Vec<u32>,
    /// How many of them belong to the first: at least one, and not all.
    pub first: u32,
}

/// A prompt to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The prompt, template and all.
    pub prompt: Vec<u32>,
    /// Completion tokens at most.
    pub tokens_max: u32,
    /// From 0, which always takes the likeliest token, to [`TEMPERATURE_MAX`].
    pub temperature: f32,
    /// The share of probability that is sampled from, above 0 and up to 1.
    pub top_p: f32,
    /// The likeliest tokens that are considered, 0 for all.
    pub top_k: u32,
    /// The share of the likeliest token's probability that another must have, from 0, for all, to below 1.
    pub min_p: f32,
    /// What divides the score of a token that occurred, 1 for none.
    pub repetition: f32,
    /// What is taken off the score of a token that the completion has.
    pub presence: f32,
    /// What is taken off for each time that the completion has it.
    pub frequency: f32,
    /// What is added to the scores of tokens.
    pub bias: Vec<(u32, f32)>,
    /// The sampling seed; the guest draws one where it is absent.
    pub seed: Option<u64>,
    /// Token sequences that end the completion; they count.
    pub stops: Vec<Vec<u32>>,
    /// Log probabilities of each token and of so many alternatives, one of [`crate::limits::LOGPROBS`], if any.
    pub logprobs: Option<u8>,
    /// A beginning of the prompt that the guest is to keep or to reuse, by its secret handle, and its tokens.
    pub prefix: Option<([u8; 32], u32)>,
    /// A [`crate::limits::GRAMMAR_WORDS_MAX`] at most: which token may follow which, as the engine's sampler reads it.
    pub grammar: Vec<u32>,
    /// Completions; this version makes one for each job.
    pub choices: u32,
}

impl ChatRequest {
    /// A request for the likeliest completion of `prompt`.
    pub fn new(prompt: Vec<u32>, tokens_max: u32) -> Self {
        ChatRequest {
            prompt,
            tokens_max,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition: 1.0,
            presence: 0.0,
            frequency: 0.0,
            bias: Vec::new(),
            seed: None,
            stops: Vec::new(),
            logprobs: None,
            prefix: None,
            grammar: Vec::new(),
            choices: 1,
        }
    }

    /// The first thing that this asks for and no guest of this version computes.
    pub fn unsupported(&self) -> Option<&'static str> {
        (self.choices != 1).then_some("choices")
    }

    fn check(&self) -> Result<(), Malformed> {
        let temperature = self.temperature;
        // NaN is in no range, and a negative zero would be a second encoding of zero.
        let penalty =
            |value: f32| (-PENALTY_MAX..=PENALTY_MAX).contains(&value) && canonical(value);
        let bias = |(_, bias): &(u32, f32)| {
            (-BIAS_VALUE_MAX..=BIAS_VALUE_MAX).contains(bias) && canonical(*bias)
        };
        let known = |count| LOGPROBS.contains(&usize::from(count));
        let stop = |stop: &Vec<u32>| (1..=STOP_TOKENS_MAX).contains(&stop.len());
        let fields = [
            ("prompt", !self.prompt.is_empty()),
            (
                "tokens_max",
                (1..=COMPLETION_TOKENS_MAX).contains(&self.tokens_max),
            ),
            (
                "temperature",
                (0.0..=TEMPERATURE_MAX).contains(&temperature) && canonical(temperature),
            ),
            ("top_p", self.top_p > 0.0 && self.top_p <= TOP_P_MAX),
            (
                "min_p",
                (0.0..1.0).contains(&self.min_p) && canonical(self.min_p),
            ),
            (
                "stops",
                self.stops.len() <= STOPS_MAX && self.stops.iter().all(stop),
            ),
            ("choices", self.choices > 0),
            (
                "repetition",
                self.repetition > 0.0 && self.repetition <= PENALTY_MAX,
            ),
            ("presence", penalty(self.presence)),
            ("frequency", penalty(self.frequency)),
            ("logprobs", self.logprobs.is_none_or(known)),
            (
                "bias",
                self.bias.len() <= BIAS_MAX && self.bias.iter().all(bias),
            ),
            ("grammar", self.grammar.len() <= GRAMMAR_WORDS_MAX),
        ];
        cbor::check(WHAT, 1, &fields)
    }
}

fn canonical(value: f32) -> bool {
    value != 0.0 || value.is_sign_positive()
}

/// The padded number of words, so that the length of a sealed request tells its bucket and no more.
pub fn bucket(words: usize) -> usize {
    padme(words.max(REQUEST_WORDS_MIN))
}

/// `size` with at most 12 % added, so that only the largest few binary digits of a length show.
/// Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", §4.
pub(crate) fn padme(size: usize) -> usize {
    let Some(exponent) = size.checked_ilog2() else {
        return size;
    };
    let digits = exponent.checked_ilog2().map_or(0, |digits| digits + 1);
    size.next_multiple_of(1 << exponent.saturating_sub(digits))
}

impl Request {
    /// What is asked for.
    pub fn endpoint(&self) -> Endpoint {
        match self.ask {
            Ask::Embeddings(_) => Endpoint::Embeddings,
            Ask::Chat(_) => Endpoint::Chat,
            Ask::Rerank(_) => Endpoint::Rerank,
        }
    }

    /// Prompt tokens: what the client sealed is what is computed, counted and charged.
    pub fn prompt_tokens(&self) -> usize {
        match &self.ask {
            Ask::Embeddings(inputs) => inputs.iter().map(Vec::len).sum(),
            Ask::Chat(chat) => chat.prompt.len(),
            Ask::Rerank(pairs) => pairs.iter().map(|pair| pair.tokens.len()).sum(),
        }
    }

    /// The encoding: the body of a [`JobRequest`]. An error names what is out of range.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        self.check()?;
        let words = self.sizes().words();
        if words > REQUEST_WORDS_MAX {
            return Err(too_long(REQUEST_HEADER_BYTES + 4 * words));
        }
        let bytes = REQUEST_HEADER_BYTES + 4 * bucket(words);
        let mut out = Zeroizing::new(Vec::with_capacity(bytes));
        self.put_header(&mut out);
        out.resize(REQUEST_HEADER_BYTES, 0);
        self.put_words(&mut |word| out.extend_from_slice(&word.to_le_bytes()));
        out.resize(bytes, 0);
        Ok(out)
    }

    /// Decodes the body of a request to `endpoint` and checks every value against [`crate::limits`]. Token ids are
    /// copied and not looked at: whether a model has them is for whoever holds the model to say.
    pub fn decode(endpoint: Endpoint, bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(too_long(bytes.len()));
        }
        let cut = Malformed::NotDecodable { what: WHAT };
        let (header, words) = bytes
            .split_first_chunk::<REQUEST_HEADER_BYTES>()
            .ok_or_else(|| cut.clone())?;
        if header[RESERVED..].iter().any(|byte| *byte != 0) {
            return Err(Malformed::NotCanonical { what: WHAT });
        }
        let (words, rest) = words.as_chunks::<4>();
        let mut fields = Fields(header);
        let version = fields.u32();
        cbor::check(WHAT, version.into(), &[])?;
        if fields.u32() != endpoint as u32 {
            return Err(out_of_range("endpoint"));
        }
        let (flags, choices) = (fields.u32(), fields.u32());
        let sizes = Sizes::take(endpoint, &mut fields)?;
        let used = sizes.words();
        if !rest.is_empty() || used > REQUEST_WORDS_MAX || words.len() != bucket(used) {
            return Err(cut);
        }
        let mut words = Words(words);
        let lengths = words.take(sizes.inputs);
        let prompt = words.take(sizes.prompt);
        let request = match endpoint {
            Endpoint::Embeddings | Endpoint::Rerank => {
                let zeros = fields.bytes::<40>() == [0; 40] && choices == 0 && flags & SEED == 0;
                if !zeros || !sizes.prompt_alone() {
                    return Err(Malformed::NotCanonical { what: WHAT });
                }
                let inputs = split(&prompt, &lengths).ok_or_else(|| out_of_range("inputs"))?;
                match endpoint {
                    Endpoint::Rerank => Ask::Rerank(pairs(inputs, words.take(sizes.pairs))),
                    _ => Ask::Embeddings(inputs),
                }
            }
            Endpoint::Chat => {
                if lengths != [sizes.prompt as u32] {
                    return Err(out_of_range("inputs"));
                }
                let chat =
                    ChatRequest::take(prompt, choices, flags, &sizes, &mut fields, &mut words);
                Ask::Chat(chat?)
            }
        };
        let request = Request {
            model_root: Digest(fields.bytes()),
            parent: given(flags & PARENT, fields.bytes())?,
            ask: request,
        }
        .with_the_rest(
            given(flags & PREFIX, (fields.bytes(), fields.u32()))?,
            fields.f32(),
        )?;
        let known = SEED | PARENT | PREFIX;
        if flags & !known != 0 || words.0.iter().any(|word| *word != [0; 4]) {
            return Err(Malformed::NotCanonical { what: WHAT });
        }
        request.check()?;
        Ok(request)
    }

    /// Ready to be sealed.
    pub fn job(&self) -> Result<JobRequest, Malformed> {
        Ok(JobRequest {
            endpoint: self.endpoint(),
            body: self.encode()?,
        })
    }

    /// The fields behind those that both endpoints have.
    fn with_the_rest(
        mut self,
        prefix: Option<([u8; 32], u32)>,
        min_p: f32,
    ) -> Result<Self, Malformed> {
        match &mut self.ask {
            Ask::Chat(chat) => (chat.prefix, chat.min_p) = (prefix, min_p),
            _ if prefix.is_some() => return Err(out_of_range("prefix")),
            _ if min_p.to_bits() != 0 => return Err(out_of_range("min_p")),
            Ask::Embeddings(_) | Ask::Rerank(_) => {}
        }
        Ok(self)
    }

    fn check(&self) -> Result<(), Malformed> {
        match &self.ask {
            Ask::Embeddings(inputs) => {
                let whole = inputs.iter().all(|input| !input.is_empty());
                let within = (1..=INPUTS_MAX).contains(&inputs.len());
                cbor::check(WHAT, 1, &[("inputs", within && whole)])
            }
            Ask::Chat(chat) => chat.check(),
            Ask::Rerank(pairs) => {
                let parts = |pair: &Pair| (1..pair.tokens.len()).contains(&(pair.first as usize));
                let within = (1..=INPUTS_MAX).contains(&pairs.len());
                cbor::check(WHAT, 1, &[("inputs", within && pairs.iter().all(parts))])
            }
        }
    }

    fn sizes(&self) -> Sizes {
        match &self.ask {
            Ask::Embeddings(inputs) => Sizes {
                inputs: inputs.len(),
                prompt: inputs.iter().map(Vec::len).sum(),
                ..Sizes::default()
            },
            Ask::Rerank(pairs) => Sizes {
                inputs: pairs.len(),
                prompt: pairs.iter().map(|pair| pair.tokens.len()).sum(),
                pairs: pairs.len(),
                ..Sizes::default()
            },
            Ask::Chat(chat) => Sizes {
                inputs: 1,
                prompt: chat.prompt.len(),
                bias: chat.bias.len(),
                stops: chat.stops.len(),
                stop_tokens: chat.stops.iter().map(Vec::len).sum(),
                grammar: chat.grammar.len(),
                pairs: 0,
            },
        }
    }

    fn put_header(&self, out: &mut Vec<u8>) {
        let chat = match &self.ask {
            Ask::Chat(chat) => Some(chat),
            Ask::Embeddings(_) | Ask::Rerank(_) => None,
        };
        let seed = chat.and_then(|chat| chat.seed);
        let prefix = chat.and_then(|chat| chat.prefix);
        let set = |set: bool, flag| if set { flag } else { 0 };
        let flags = set(seed.is_some(), SEED)
            | set(self.parent.is_some(), PARENT)
            | set(prefix.is_some(), PREFIX);
        let choices = chat.map_or(0, |chat| chat.choices);
        let numbers = [1, self.endpoint() as u32, flags, choices];
        numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
        let sizes = self.sizes().all();
        sizes
            .iter()
            .for_each(|n| out.extend((*n as u32).to_le_bytes()));
        match chat {
            None => out.extend([0; 40]),
            Some(chat) => chat.put_parameters(out),
        }
        out.extend(self.model_root.0);
        out.extend(self.parent.unwrap_or_default());
        let (handle, tokens) = prefix.unwrap_or_default();
        out.extend(handle);
        out.extend(tokens.to_le_bytes());
        out.extend(chat.map_or(0.0, |chat| chat.min_p).to_le_bytes());
    }

    fn put_words(&self, put: &mut dyn FnMut(u32)) {
        let (inputs, chat): (Vec<&[u32]>, _) = match &self.ask {
            Ask::Embeddings(inputs) => (inputs.iter().map(Vec::as_slice).collect(), None),
            Ask::Chat(chat) => (vec![&chat.prompt], Some(chat)),
            Ask::Rerank(pairs) => (pairs.iter().map(|pair| &pair.tokens[..]).collect(), None),
        };
        inputs.iter().for_each(|input| put(input.len() as u32));
        inputs
            .iter()
            .copied()
            .flatten()
            .for_each(|token| put(*token));
        if let Ask::Rerank(pairs) = &self.ask {
            pairs.iter().for_each(|pair| put(pair.first));
        }
        let Some(chat) = chat else { return };
        for (token, bias) in &chat.bias {
            put(*token);
            put(bias.to_bits());
        }
        chat.stops.iter().for_each(|stop| put(stop.len() as u32));
        chat.stops.iter().flatten().for_each(|token| put(*token));
        chat.grammar.iter().for_each(|word| put(*word));
    }
}

impl ChatRequest {
    fn put_parameters(&self, out: &mut Vec<u8>) {
        out.extend(self.tokens_max.to_le_bytes());
        out.extend(self.temperature.to_le_bytes());
        out.extend(self.top_p.to_le_bytes());
        out.extend(self.top_k.to_le_bytes());
        for penalty in [self.repetition, self.presence, self.frequency] {
            out.extend(penalty.to_le_bytes());
        }
        let logprobs = self.logprobs.map_or(0, |count| u32::from(count) + 1);
        out.extend(logprobs.to_le_bytes());
        out.extend(self.seed.unwrap_or(0).to_le_bytes());
    }

    fn take(
        prompt: Vec<u32>,
        choices: u32,
        flags: u32,
        sizes: &Sizes,
        fields: &mut Fields<'_>,
        words: &mut Words<'_>,
    ) -> Result<Self, Malformed> {
        let (tokens_max, temperature, top_p) = (fields.u32(), fields.f32(), fields.f32());
        let (top_k, repetition) = (fields.u32(), fields.f32());
        let (presence, frequency, logprobs) = (fields.f32(), fields.f32(), fields.u32());
        let seed = given(flags & SEED, u64::from_le_bytes(fields.bytes()))?;
        let bias = words.take(2 * sizes.bias);
        let (bias, _) = bias.as_chunks::<2>();
        let lengths = words.take(sizes.stops);
        let stops = split(&words.take(sizes.stop_tokens), &lengths);
        Ok(ChatRequest {
            prompt,
            tokens_max,
            temperature,
            top_p,
            top_k,
            min_p: 0.0,
            repetition,
            presence,
            frequency,
            bias: { bias.iter() }
                .map(|[token, bias]| (*token, f32::from_bits(*bias)))
                .collect(),
            seed,
            stops: stops.ok_or_else(|| out_of_range("stops"))?,
            // What is out of range for a byte is out of range.
            logprobs: { logprobs.checked_sub(1) }
                .map(|count| u8::try_from(count).unwrap_or(u8::MAX)),
            prefix: None,
            grammar: words.take(sizes.grammar),
            choices,
        })
    }
}

/// How many words each array has; the order is the encoding's.
#[derive(Default)]
struct Sizes {
    inputs: usize,
    prompt: usize,
    bias: usize,
    stops: usize,
    stop_tokens: usize,
    grammar: usize,
    /// Texts of two parts; they have no field of their own.
    pairs: usize,
}

impl Sizes {
    fn take(endpoint: Endpoint, fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let mut within = |field, max| match fields.u32() as usize {
            size if size <= max => Ok(size),
            _ => Err(out_of_range(field)),
        };
        let inputs = within("inputs", INPUTS_MAX)?;
        Ok(Sizes {
            inputs,
            prompt: within("prompt", REQUEST_WORDS_MAX)?,
            bias: within("bias", BIAS_MAX)?,
            stops: within("stops", STOPS_MAX)?,
            stop_tokens: within("stops", STOPS_MAX * STOP_TOKENS_MAX)?,
            grammar: within("grammar", GRAMMAR_WORDS_MAX)?,
            pairs: if endpoint == Endpoint::Rerank {
                inputs
            } else {
                0
            },
        })
    }

    fn all(&self) -> [usize; 6] {
        let Sizes {
            inputs,
            prompt,
            bias,
            stops,
            stop_tokens,
            grammar,
            pairs: _,
        } = *self;
        [inputs, prompt, bias, stops, stop_tokens, grammar]
    }

    fn words(&self) -> usize {
        self.all().iter().sum::<usize>() + self.bias + self.pairs
    }

    fn prompt_alone(&self) -> bool {
        [self.bias, self.stops, self.stop_tokens, self.grammar] == [0; 4]
    }
}

/// The words behind the header.
struct Words<'a>(&'a [[u8; 4]]);

impl Words<'_> {
    fn take(&mut self, count: usize) -> Vec<u32> {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }
}

/// Texts with how many tokens of each belong to its first part.
fn pairs(inputs: Vec<Vec<u32>>, firsts: Vec<u32>) -> Vec<Pair> {
    let inputs = inputs.into_iter().zip(firsts);
    let pair = |(tokens, first)| Pair { tokens, first };
    inputs.map(pair).collect()
}

/// The sequences of `lengths` that fill `tokens`.
fn split(mut tokens: &[u32], lengths: &[u32]) -> Option<Vec<Vec<u32>>> {
    let mut sequences = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (sequence, rest) = tokens.split_at_checked(*length as usize)?;
        sequences.push(sequence.to_vec());
        tokens = rest;
    }
    tokens.is_empty().then_some(sequences)
}

/// A value that counts only under its flag, and is zero without it.
fn given<T: Default + PartialEq>(flag: u32, value: T) -> Result<Option<T>, Malformed> {
    match flag {
        0 if value == T::default() => Ok(None),
        0 => Err(Malformed::NotCanonical { what: WHAT }),
        _ => Ok(Some(value)),
    }
}

fn out_of_range(field: &'static str) -> Malformed {
    Malformed::Field { what: WHAT, field }
}

fn too_long(got: usize) -> Malformed {
    Malformed::TooLong {
        what: WHAT,
        got,
        max: REQUEST_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests;
