//! Recounting: the client tokenises what it asked and what it got, and pays for no token it did not count.
//!
//! Trusted: the directory of the model, which its owner chose and [`crate::roots`] holds against the allow-list. A chat
//! template is a program from a stranger (SECURITY.md 17): it runs with bounded fuel, and only for a model on the
//! allow-list. Promised: the same rules as the engine's, so an honest guest's numbers come out equal:
//! - embeddings: each text with its special tokens, cut at 256, no padding;
//! - a prompt: the template of `tokenizer_config.json` with `messages`, `add_generation_prompt` and `eos_token`, blocks
//!   trimmed and stripped, nothing escaped, then tokenised without adding special tokens; a message that spells out a
//!   control token is refused, since it could speak in another role;
//! - a completion: the token ids that came with the text, and they must decode to that text.

use crate::config::{ModelConfig, read_file};
use crate::error::ClientError;
use crate::limits::{
    EMBEDDING_TOKENS_MAX, SMALL_FILE_BYTES_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL,
    TOKENIZER_BYTES_MAX,
};
use crate::roots::{self, TOKENIZER, TOKENIZER_CONFIG};
use minijinja::{Environment, Value, context, syntax::SyntaxConfig};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use tokenizers::Tokenizer;
use wire::{Digest, Message};

/// The models on the allow-list, ready to count.
pub struct Models(BTreeMap<String, Model>);

/// One model on the allow-list.
pub struct Model {
    /// Its name.
    pub id: String,
    /// The root that its keyset entry must have.
    pub root: Digest,
    /// SHA-256 of its `tokenizer.json`, which its keyset entry must have.
    pub tokenizer_digest: Digest,
    tokenizer: Tokenizer,
    control: HashSet<u32>,
    template: Option<Template>,
}

struct Template {
    environment: Environment<'static>,
    eos_token: Option<String>,
}

/// Why tokens cannot be counted, or do not add up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// The model here has no chat template.
    #[error("the model's directory has no chat template, so a conversation cannot be counted")]
    NoTemplate,
    /// The template does not take this conversation.
    #[error("the chat template refused the conversation: {0}")]
    Template(String),
    /// A message spells out one of the model's control tokens.
    #[error("message {message} contains the control token {token}")]
    ControlToken {
        /// Index of the message.
        message: usize,
        /// The token.
        token: String,
    },
    /// The tokenizer failed on our own text.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The guest's token ids are not those of its text.
    #[error("the token ids of the answer do not decode to its text")]
    Text,
    /// A number of tokens that fits no counter.
    #[error("more tokens than can be counted")]
    TooMany,
}

impl Models {
    /// Reads the directories of the allow-list.
    pub fn load(models: &[ModelConfig]) -> Result<Self, ClientError> {
        let mut loaded = BTreeMap::new();
        for config in models {
            let model = Model::load(config)?;
            if loaded.insert(config.id.clone(), model).is_some() {
                let reason = format!("model `{}` is listed twice", config.id);
                return Err(ClientError::Config(reason));
            }
        }
        Ok(Models(loaded))
    }

    /// A model by name.
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.0.get(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Model> {
        self.0.values()
    }
}

impl Model {
    fn load(config: &ModelConfig) -> Result<Self, ClientError> {
        let refuse = |reason: &str| ClientError::Config(format!("model `{}`: {reason}", config.id));
        roots::check(config)?;
        let bytes = read_file(&config.dir.join(TOKENIZER), TOKENIZER_BYTES_MAX)?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| refuse(&e.to_string()))?;
        // What the file says of padding and truncation is another program's taste.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| refuse(&e.to_string()))?;
        let path = config.dir.join(TOKENIZER_CONFIG);
        let template = match path.exists() {
            true => {
                Template::parse(&read_file(&path, SMALL_FILE_BYTES_MAX)?).map_err(|e| refuse(&e))?
            }
            false => None,
        };
        let control = tokenizer.get_added_tokens_decoder().into_iter();
        Ok(Model {
            id: config.id.clone(),
            root: config.root,
            tokenizer_digest: Digest::of(&bytes),
            control: control
                .filter(|(_, token)| token.special)
                .map(|(id, _)| id)
                .collect(),
            tokenizer,
            template,
        })
    }

    /// Tokens of texts to embed.
    pub fn count_inputs(&self, inputs: &[String]) -> Result<u32, TokensError> {
        let mut sum = 0usize;
        for input in inputs {
            let encoding = self
                .tokenizer
                .encode_fast(input.as_str(), true)
                .map_err(|e| TokensError::Tokenizer(e.to_string()))?;
            // Cutting keeps the two special tokens, so a cut text has exactly the maximum.
            sum += encoding.len().min(EMBEDDING_TOKENS_MAX);
        }
        u32::try_from(sum).map_err(|_| TokensError::TooMany)
    }

    /// Tokens of the prompt that a conversation becomes.
    pub fn count_prompt(&self, messages: &[Message]) -> Result<u32, TokensError> {
        let template = self.template.as_ref().ok_or(TokensError::NoTemplate)?;
        for (index, message) in messages.iter().enumerate() {
            let tokens = self.encode(&message.content)?;
            if let Some(token) = tokens.iter().find(|token| self.control.contains(token)) {
                return Err(TokensError::ControlToken {
                    message: index,
                    token: self.tokenizer.id_to_token(*token).unwrap_or_default(),
                });
            }
        }
        let prompt = self.encode(&template.render(messages)?)?;
        u32::try_from(prompt.len()).map_err(|_| TokensError::TooMany)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|e| TokensError::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens of a completion, once its ids are seen to be those of its text.
    pub fn count_completion(&self, ids: &[u32], text: &str) -> Result<u32, TokensError> {
        let decoded = self
            .tokenizer
            .decode(ids, true)
            .map_err(|_| TokensError::Text)?;
        if decoded != text {
            return Err(TokensError::Text);
        }
        u32::try_from(ids.len()).map_err(|_| TokensError::TooMany)
    }
}

#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<String>,
    eos_token: Option<SpecialToken>,
}

/// Hugging Face writes a special token as a text or as an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Text(String),
    Object { content: String },
}

impl SpecialToken {
    fn text(self) -> String {
        match self {
            SpecialToken::Text(text) | SpecialToken::Object { content: text } => text,
        }
    }
}

impl Template {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let config: TokenizerConfig = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let Some(source) = config.chat_template else {
            return Ok(None);
        };
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(format!(
                "a chat template of more than {TEMPLATE_BYTES_MAX} bytes"
            ));
        }
        let compile = || {
            let mut environment = Environment::new();
            let mut syntax = SyntaxConfig::builder();
            syntax.trim_blocks(true).lstrip_blocks(true);
            environment.set_syntax(syntax.build()?);
            environment.set_fuel(Some(TEMPLATE_FUEL));
            environment.add_template_owned(NAME, source)?;
            Ok(environment)
        };
        Ok(Some(Template {
            environment: compile().map_err(|e: minijinja::Error| e.to_string())?,
            eos_token: config.eos_token.map(SpecialToken::text),
        }))
    }

    fn render(&self, messages: &[Message]) -> Result<String, TokensError> {
        // Only the kind: an error's text may quote the conversation.
        let refuse = |e: minijinja::Error| TokensError::Template(e.kind().to_string());
        let template = self.environment.get_template(NAME).map_err(refuse)?;
        let message = |m: &Message| {
            Value::from_pairs([("role", m.role.name()), ("content", m.content.as_str())])
        };
        let values = context! {
            messages => messages.iter().map(message).collect::<Vec<Value>>(),
            add_generation_prompt => true,
            eos_token => self.eos_token.as_deref(),
        };
        template.render(values).map_err(refuse)
    }
}

const NAME: &str = "chat";

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Role;

    const CHATML: &str = "{% for message in messages %}\n{{ message.role }}:{{ message.content }}{{ eos_token }}\n{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";

    fn render(template: &str) -> Result<String, TokensError> {
        let config =
            serde_json::json!({"chat_template": template, "eos_token": {"content": "</s>"}});
        let template = Template::parse(config.to_string().as_bytes())
            .unwrap()
            .unwrap();
        let message = |role, content: &str| Message {
            role,
            content: content.into(),
        };
        template.render(&[message(Role::User, "hi"), message(Role::Assistant, "ho")])
    }

    #[test]
    fn a_template_sees_what_hugging_face_gives_it() {
        assert_eq!(
            render(CHATML).unwrap(),
            "user:hi</s>\nassistant:ho</s>\nassistant:"
        );
    }

    #[test]
    fn a_template_that_loops_for_ever_or_refuses_is_an_error() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(matches!(render(endless), Err(TokensError::Template(_))));
        assert!(matches!(
            render("{{ raise_exception('no') }}"),
            Err(TokensError::Template(_))
        ));
    }
}
