//! Text becomes tokens here, before anything is sealed, and is counted by them: a guest sees token ids and no text.
//!
//! Trusted: the directory of a model, which its owner chose and which is held against the allow-list here, as far as
//! files are there: a client needs only the tokenizer, and the weights are looked at where they lie beside it. Promised:
//! the root covers what is there of configuration, tokenizer and template, and no id is beyond the table of embeddings.

use crate::ask::{Ask, Conversation, Form, Prompt, Tool, ToolChoice};
use crate::completion::Completion;
use crate::config::{ConfigError, ModelConfig, read_file};
use model::files::has_weights;
use model::limits::{
    CONFIG_BYTES_MAX, DESCRIPTION_BYTES_MAX, TEMPLATE_BYTES_MAX, TOKENIZER_BYTES_MAX,
    TOKENIZER_CONFIG_BYTES_MAX, VOCABULARY_MAX,
};
use model::root::template_digest;
use model::text::form::{self, CallForm, FormError, Grammar};
use model::text::{self, TemplateFiles, Text, TextError};
use model::volume::{Description, VolumeError};
use model::{File, FileDigest, FilesError, ModelRoot, Opened, vocabulary};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use wire::limits::STOP_TOKENS_MAX;
use wire::{ChatRequest, Digest, ModelOffer, Pair};

/// The models on the allow-list, ready to tokenise.
pub struct Models(BTreeMap<String, Model>);

/// One model on the allow-list.
pub struct Model {
    /// Its name.
    pub id: String,
    /// The root that its keyset entry must have.
    pub root: Digest,
    /// To how many numbers its vectors may be cut.
    pub dimensions: Vec<u32>,
    tokenizer: Digest,
    config: Option<Digest>,
    template: Option<Digest>,
    text: Text,
}

/// Why a text does not become tokens, or tokens are no completion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum TokensError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Form(#[from] FormError),
    #[error("`input[{index}]` has {tokens} tokens; the model takes {max}; split the text")]
    TextTooLong {
        index: usize,
        tokens: usize,
        max: usize,
    },
    #[error(
        "`documents[{index}]` has {tokens} tokens with the query; the model takes {max}; split the document"
    )]
    PairTooLong {
        index: usize,
        tokens: usize,
        max: usize,
    },
    #[error("the model's tokenizer has no form for two texts: it does not rank")]
    NoPairs,
    #[error("`prompt` has the token id {id}; the model's vocabulary has {size}")]
    ForeignId { id: u32, size: usize },
    #[error("more tokens than can be counted")]
    TooMany,
}

impl Models {
    /// Reads the directories of the allow-list.
    pub fn load(models: &[ModelConfig]) -> Result<Self, ConfigError> {
        let mut loaded = BTreeMap::new();
        for config in models {
            let refuse = |reason: String| ConfigError(format!("model `{}`: {reason}", config.id));
            let model = Model::load(config).map_err(refuse)?;
            if loaded.insert(config.id.clone(), model).is_some() {
                return Err(refuse("it is listed twice".into()));
            }
        }
        Ok(Models(loaded))
    }

    /// A model by name.
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.0.get(id)
    }
}

impl Model {
    fn load(config: &ModelConfig) -> Result<Self, String> {
        check(config)?;
        let read = |file: File, max| read_file(&config.dir.join(file.name()), max).map_err(|e| e.0);
        let there = |file: File, max| match config.dir.join(file.name()).exists() {
            true => read(file, max).map(Some),
            false => Ok(None),
        };
        let tokenizer = read(File::Tokenizer, TOKENIZER_BYTES_MAX)?;
        let config_json = there(File::Config, CONFIG_BYTES_MAX)?;
        let tokenizer_config = there(File::TokenizerConfig, TOKENIZER_CONFIG_BYTES_MAX)?;
        let chat = there(File::ChatTemplate, TEMPLATE_BYTES_MAX as u64)?;
        let tools = there(File::ToolTemplate, TEMPLATE_BYTES_MAX as u64)?;
        let template = TemplateFiles {
            config: tokenizer_config.as_deref(),
            chat: chat.as_deref(),
            tools: tools.as_deref(),
        };
        let named = |file: File| {
            let content = match file {
                File::ChatTemplate => template.chat,
                File::ToolTemplate => template.tools,
                _ => template.config,
            };
            content.map(|content| FileDigest {
                bytes: content.len() as u64,
                sha256: Digest::of(content).0,
            })
        };
        let rows = config_json.as_deref().map(vocabulary::rows);
        let text = rows
            .unwrap_or(Ok(VOCABULARY_MAX))
            .and_then(|rows| Text::of(&tokenizer, template, rows));
        Ok(Model {
            id: config.id.clone(),
            root: config.root,
            dimensions: config.dimensions.clone(),
            tokenizer: Digest::of(&tokenizer),
            config: config_json.as_deref().map(Digest::of),
            template: template_digest(named).map(Digest),
            text: text.map_err(|e| e.to_string())?,
        })
    }

    /// Why an offer is not of this model. The root covers the files by which tokens are made, and the worker, which is attested,
    /// names their digests: so the ones here are held against the root even where the weights are not here.
    pub fn differs(&self, offer: &ModelOffer) -> Option<&'static str> {
        let another = |here: Option<Digest>, there| here.is_some() && here != there;
        [
            (
                offer.root != self.root,
                "the worker offers it with another root than the configuration allows",
            ),
            (
                offer.tokenizer != self.tokenizer,
                "the worker's tokenizer.json is another than the one here",
            ),
            (
                another(self.config, Some(offer.config)),
                "the worker's config.json is another than the one here",
            ),
            (
                another(self.template, offer.template),
                "the worker's chat template (tokenizer_config.json, chat_template.jinja) is another than the one here",
            ),
        ]
        .iter()
        .find(|(differs, _)| *differs)
        .map(|(_, why)| *why)
    }

    /// What the guest is made to answer, where the application says so. It takes up to some seconds, once for all jobs of a request.
    pub fn grammar(&self, ask: &Ask) -> Result<Option<Arc<Grammar>>, TokensError> {
        let (Ask::Chat(asked) | Ask::Raw(_, asked)) = ask else {
            return Ok(None);
        };
        asked.compiled.or_else(|| self.compile(asked))
    }

    fn compile(&self, asked: &Conversation) -> Result<Option<Grammar>, TokensError> {
        let called = told(asked).iter().filter(|tool| match &asked.tool_choice {
            ToolChoice::Named(name) => tool.name == *name,
            _ => true,
        });
        let called = called.map(|tool| CallForm {
            name: &tool.name,
            parameters: tool.parameters.as_ref(),
            path: &tool.schema_at,
        });
        let tools: Vec<CallForm> = called.collect();
        let calls = form::Form::Calls {
            tools: &tools,
            several: asked.parallel_calls && !matches!(asked.tool_choice, ToolChoice::Named(_)),
        };
        let said = match &asked.form {
            Form::Text => None,
            Form::Object => Some((form::Form::Object, asked.form_at)),
            Form::Schema(schema) => Some((form::Form::Schema(schema), asked.form_at)),
            Form::Regex(regex) => Some((form::Form::Regex(regex), asked.form_at)),
        };
        let forms = match (&asked.tool_choice, said) {
            (ToolChoice::Required | ToolChoice::Named(_), _) => vec![(calls, "tools")],
            (_, None) => return Ok(None),
            // It answers in the form, or calls.
            (ToolChoice::Auto, Some(said)) if !tools.is_empty() => vec![said, (calls, "tools")],
            (_, Some(said)) => vec![said],
        };
        Ok(Some(self.text.grammar_of_any(&forms)?))
    }

    /// What is asked, in tokens. A text to embed that is longer than `context_tokens`, or than the model takes, is refused:
    /// a vector of its beginning would look like one of the whole.
    pub fn encode(
        &self,
        ask: &Ask,
        grammar: Option<&Grammar>,
        context_tokens: u32,
    ) -> Result<wire::Ask, TokensError> {
        match ask {
            Ask::Embeddings(texts) => {
                let encode = |(index, text): (usize, &String)| {
                    let encoded = self.text.to_embed_within(text, context_tokens as usize)?;
                    match encoded {
                        (ids, 0) => Ok(ids),
                        (ids, cut) => Err(TokensError::TextTooLong {
                            index: texts.place(index),
                            tokens: ids.len() + cut,
                            max: ids.len(),
                        }),
                    }
                };
                let inputs = texts.inputs.iter().enumerate().map(encode);
                let inputs: Result<_, TokensError> = inputs.collect();
                Ok(wire::Ask::Embeddings(inputs?))
            }
            Ask::Rerank(ranking) => {
                let max = context_tokens as usize;
                let encode = |(index, document): (usize, &String)| {
                    let (tokens, first) = self.text.to_score(&ranking.query, document)?;
                    if first == tokens.len() {
                        return Err(TokensError::NoPairs);
                    }
                    match tokens.len() {
                        length if length <= max => Ok(Pair {
                            first: first as u32,
                            tokens,
                        }),
                        tokens => Err(TokensError::PairTooLong { index, tokens, max }),
                    }
                };
                let pairs = ranking.documents.iter().enumerate().map(encode);
                let pairs: Result<_, TokensError> = pairs.collect();
                Ok(wire::Ask::Rerank(pairs?))
            }
            Ask::Chat(conversation) => Ok(wire::Ask::Chat(self.chat(conversation, grammar)?)),
            Ask::Raw(prompt, settings) => {
                let prompt = self.raw(prompt)?;
                Ok(wire::Ask::Chat(self.request(prompt, settings, grammar)?))
            }
        }
    }

    fn raw(&self, prompt: &Prompt) -> Result<Vec<u32>, TokensError> {
        let size = self.text.vocabulary_size();
        match prompt {
            Prompt::Text(text) => Ok(self.text.to_tokens(text)?),
            Prompt::Ids(ids) => match ids.iter().find(|id| **id as usize >= size) {
                Some(&id) => Err(TokensError::ForeignId { id, size }),
                None => Ok(ids.clone()),
            },
        }
    }

    fn chat(
        &self,
        asked: &Conversation,
        grammar: Option<&Grammar>,
    ) -> Result<ChatRequest, TokensError> {
        let told = told(asked);
        if !told.is_empty() {
            self.text.calls()?;
        }
        let said = text::Conversation {
            turns: asked.messages.clone(),
            tools: told.iter().map(Tool::json).collect(),
            thinking: asked.thinking,
            today: None,
        };
        self.request(self.text.conversation(&said)?, asked, grammar)
    }

    /// A prompt with what the application wants of its completion.
    fn request(
        &self,
        prompt: Vec<u32>,
        asked: &Conversation,
        grammar: Option<&Grammar>,
    ) -> Result<ChatRequest, TokensError> {
        let mut stops = Vec::new();
        for stop in &asked.stops {
            // The guest stops where its tokens spell the sequence; whoever else spells it is stopped here.
            let tokens = self.text.to_stop(stop)?;
            stops.extend(tokens.filter(|tokens| (1..=STOP_TOKENS_MAX).contains(&tokens.len())));
        }
        Ok(ChatRequest {
            temperature: asked.temperature,
            // A share of nothing means the likeliest token alone.
            top_p: asked.top_p.max(f32::MIN_POSITIVE),
            top_k: asked.preferences.top_k,
            min_p: asked.preferences.min_p,
            repetition: asked.preferences.repetition,
            presence: asked.preferences.presence,
            frequency: asked.preferences.frequency,
            bias: asked.preferences.bias.clone(),
            // The answer's records have room for these.
            logprobs: { asked.preferences.logprobs }.map(|count| match count {
                0 => 0,
                1..=5 => 5,
                _ => 20,
            }),
            seed: asked.seed,
            stops,
            grammar: grammar.map(Grammar::words).unwrap_or_default(),
            ..ChatRequest::new(prompt, asked.tokens_max)
        })
    }

    /// What turns the ids of a completion into thoughts, text and calls. `prompt` is that of a conversation: what follows a raw one,
    /// and what is made by a grammar, has no thoughts.
    pub(crate) fn completion(
        &self,
        asked: &Conversation,
        prompt: Option<&[u32]>,
    ) -> Result<Completion, TokensError> {
        let thoughts = prompt
            .map(|prompt| self.text.thoughts(prompt))
            .transpose()?;
        let completion = Completion::new(self.text.detokeniser()?, asked.stops.clone())
            .with_alternatives(asked.preferences.logprobs.unwrap_or(0))
            .with_thoughts(thoughts.flatten());
        if told(asked).is_empty() {
            return Ok(completion);
        }
        Ok(completion.with_calls(self.text.calls()?, !asked.parallel_calls))
    }

    /// A token by itself, which may be a part of a character.
    pub(crate) fn token_text(&self, id: u32) -> String {
        self.text.decode(&[id]).unwrap_or_default()
    }

    /// Tokens of a completion, once they are seen to be some that a guest may send.
    pub fn count_completion(&self, ids: &[u32]) -> Result<u32, TokensError> {
        self.text.check_completion(ids)?;
        count(ids.len())
    }
}

/// The tools that the model is told of.
fn told(asked: &Conversation) -> &[Tool] {
    match asked.tool_choice {
        ToolChoice::None => &[],
        _ => &asked.tools,
    }
}

fn count(tokens: usize) -> Result<u32, TokensError> {
    u32::try_from(tokens).map_err(|_| TokensError::TooMany)
}

/// The root of the files in a model's directory.
pub fn model_root(directory: &Path) -> Result<ModelRoot, FilesError> {
    ModelRoot::read(&|name: &str| open(directory, name))
}

/// Holds the directory of a model against the root that the allow-list names.
fn check(config: &ModelConfig) -> Result<(), String> {
    let root = ModelRoot(config.root.0);
    let directory = &|name: &str| open(&config.dir, name);
    if let Some(description) = &config.volume {
        let text = read_file(description, DESCRIPTION_BYTES_MAX as u64).map_err(|e| e.0)?;
        let checked =
            Description::parse(&text).and_then(|described| described.check(&root, directory));
        return checked.map_err(|error| match error {
            VolumeError::Description(_) => format!("{}: {error}", description.display()),
            _ => format!("{}: {error}", config.dir.display()),
        });
    }
    let here = |error: FilesError| format!("{}: {error}", config.dir.display());
    if !has_weights(directory).map_err(here)? {
        return Ok(());
    }
    let found = model_root(&config.dir).map_err(here)?;
    match found == root {
        true => Ok(()),
        false => Err(format!(
            "the files in {} have root {found}, the configuration allows {root}; if that is the root hash of a volume, \
             name the volume's description with `volume: model.json`",
            config.dir.display()
        )),
    }
}

fn open(directory: &Path, name: &str) -> Result<Option<Opened>, FilesError> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let opened = match fs::File::open(directory.join(name)) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
        opened => opened.map_err(FilesError::unreadable(name))?,
    };
    let entry = opened.metadata().map_err(FilesError::unreadable(name))?;
    Opened::new(name, entry.len(), opened).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_compiled_once_for_all_answers_to_a_request() {
        let byte_level = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}"#;
        let tokenizer = format!(
            r#"{{"version": "1.0", "added_tokens": [{{"id": 0, "content": "<end>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}}], "normalizer": null, "pre_tokenizer": null,
            "truncation": null, "padding": null, "post_processor": null, "decoder": {byte_level},
            "model": {{"type": "WordLevel", "vocab": {{"<end>": 0, "a": 1, "b": 2}}, "unk_token": "a"}}}}"#
        );
        let template = r#"{"chat_template": "x", "eos_token": "<end>"}"#;
        let files = [
            (File::Tokenizer, &*tokenizer),
            (File::TokenizerConfig, template),
        ];
        let (_directory, config) = world(&files);
        let model = Model::load(&config).unwrap();
        let mut asked = Conversation::new("m".into(), Vec::new());
        (asked.choices, asked.form) = (3, Form::Regex("ab".into()));
        let ask = Ask::Chat(asked);
        let each = ask.each();
        let compiled: Vec<Arc<Grammar>> = { each.iter() }
            .map(|one| model.grammar(one).unwrap().unwrap())
            .collect();
        assert_eq!(compiled.len(), 3);
        assert!(compiled.iter().all(|one| Arc::ptr_eq(one, &compiled[0])));
        let (Ask::Chat(mut other) | Ask::Raw(_, mut other)) = ask else {
            panic!("it is a chat");
        };
        other.compiled = Default::default();
        let again = model.grammar(&Ask::Chat(other)).unwrap().unwrap();
        assert!(!Arc::ptr_eq(&again, &compiled[0]) && again == compiled[0]);
    }

    fn world(files: &[(File, &str)]) -> (tempfile::TempDir, ModelConfig) {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(directory.path().join(file.name()), text).unwrap();
        }
        let config = ModelConfig {
            id: "m".into(),
            root: Digest([7; 32]),
            dir: directory.path().to_owned(),
            volume: None,
            dimensions: Vec::new(),
        };
        (directory, config)
    }

    const ALL: [(File, &str); 4] = [
        (File::Config, "{}"),
        (File::Weights, "weights"),
        (File::Tokenizer, "words"),
        (File::TokenizerConfig, "a template"),
    ];

    fn said(config: &ModelConfig) -> String {
        Model::load(config).err().unwrap()
    }

    #[test]
    fn a_root_that_is_not_of_the_files_is_refused_with_what_a_volume_would_need() {
        let (_directory, mut config) = world(&ALL);
        let reason = said(&config);
        assert!(reason.contains("`volume: model.json`"), "{reason}");
        let root = model_root(&config.dir).unwrap();
        config.root = Digest(root.0);
        assert_eq!(check(&config), Ok(()));
        // Without its weights a directory has no root, and only its tokenizer counts.
        let (_directory, without) = world(&ALL[2..]);
        assert_eq!(check(&without), Ok(()));
    }

    #[test]
    fn a_file_that_is_not_the_workers_or_too_large_a_tokenizer_is_refused() {
        let tokenizer = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "truncation": null, "padding": null, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#;
        let (rows, template) = (r#"{"vocab_size": 2}"#, r#"{"chat_template": "x"}"#);
        let files = [
            (File::Config, rows),
            (File::Tokenizer, tokenizer),
            (File::TokenizerConfig, template),
        ];
        let (directory, config) = world(&files);
        let model = Model::load(&config).unwrap();
        let digest = |text: &str| Digest::of(text.as_bytes());
        let offer = ModelOffer {
            id: "m".into(),
            endpoint: wire::Endpoint::Chat,
            root: config.root,
            tokenizer: digest(tokenizer),
            context_tokens: 64,
            quantisation: "f32".into(),
            determinism: "machine".into(),
            prices: wire::Prices {
                prompt: settlement::Nano(1),
                cached: settlement::Nano(1),
                completion: settlement::Nano(1),
            },
            config: digest(rows),
            template: Some(digest(template)),
        };
        assert_eq!(model.differs(&offer), None);
        type Change = fn(&mut ModelOffer);
        let changes: [(Change, &str); 5] = [
            (|o| o.root = Digest([1; 32]), "another root"),
            (|o| o.tokenizer = Digest([1; 32]), "tokenizer.json"),
            (|o| o.config = Digest([1; 32]), "config.json"),
            (
                |o| o.template = Some(Digest([1; 32])),
                "tokenizer_config.json",
            ),
            (|o| o.template = None, "tokenizer_config.json"),
        ];
        for (change, what) in changes {
            let mut other = offer.clone();
            change(&mut other);
            assert!(model.differs(&other).is_some_and(|why| why.contains(what)));
        }
        // A table of one row has no place for the second token.
        fs::write(directory.path().join("config.json"), r#"{"vocab_size": 1}"#).unwrap();
        let reason = said(&config);
        assert!(
            reason.contains("the model's vocabulary has 1 entries"),
            "{reason}"
        );
    }

    #[test]
    fn the_description_of_a_volume_is_read_where_the_configuration_names_one() {
        let (directory, mut config) = world(&ALL);
        config.volume = Some("/nowhere/model.json".into());
        assert!(said(&config).contains("/nowhere/model.json"));
        let description = directory.path().join("model.json");
        let volume = |byte| {
            let verity_hash = ModelRoot([byte; 32]);
            serde_json::json!({"verity_hash": verity_hash, "salt": verity_hash, "data_blocks": 3})
        };
        for (byte, expected) in [
            (8, "has root 0808"),
            (7, "config.json is not in the volume"),
        ] {
            let text = format!(
                r#"{{"version": 1, "volume": {}, "files": []}}"#,
                volume(byte)
            );
            fs::write(&description, text).unwrap();
            config.volume = Some(description.clone());
            assert!(said(&config).contains(expected), "{}", said(&config));
        }
        // One whose files are all there.
        let digest = |text: &str| ModelRoot(Digest::of(text.as_bytes()).0).to_string();
        let listed = ALL.map(|(file, text)| {
            serde_json::json!({"path": file.name(), "bytes": text.len(), "sha256": digest(text)})
        });
        let whole = serde_json::json!({"version": 1, "volume": volume(7), "files": listed});
        fs::write(&description, whole.to_string()).unwrap();
        assert_eq!(check(&config), Ok(()));
    }
}
