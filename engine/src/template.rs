//! A conversation becomes one text, by the model's own chat template.

use minijinja::{Environment, Value, context, syntax::SyntaxConfig};
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, ModelError, RequestError};
use crate::limits;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever set up the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role as the chat template knows it.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A compiled chat template.
pub(crate) struct Template {
    environment: Environment<'static>,
    end_token: Option<String>,
}

/// The keys of `tokenizer_config.json` that are read.
#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: String,
    eos_token: Option<serde_json::Value>,
}

const NAME: &str = "chat";

impl Template {
    /// Reads `tokenizer_config.json`.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, ModelError> {
        let config: TokenizerConfig = serde_json::from_slice(json)
            .map_err(|error| ModelError::Template(error.to_string()))?;
        if config.chat_template.len() > limits::TEMPLATE_BYTES_MAX {
            return Err(ModelError::Template(
                "chat_template is over its limit".into(),
            ));
        }
        let compile = || {
            let mut environment = Environment::new();
            let mut syntax = SyntaxConfig::builder();
            syntax.trim_blocks(true).lstrip_blocks(true);
            environment.set_syntax(syntax.build()?);
            environment.set_fuel(Some(limits::TEMPLATE_FUEL));
            environment.add_template_owned(NAME, config.chat_template.clone())?;
            Ok(environment)
        };
        let environment =
            compile().map_err(|error: minijinja::Error| ModelError::Template(error.to_string()))?;
        Ok(Template {
            environment,
            end_token: config.eos_token.and_then(|token| {
                // A plain string, or an object that holds one.
                let content = token.get("content").unwrap_or(&token);
                content.as_str().map(str::to_owned)
            }),
        })
    }

    /// The prompt for an answer to `messages`.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, EngineError> {
        let message = |message: &Message| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            Value::from_pairs([("role", role), ("content", message.content.as_str())])
        };
        let values = context! {
            messages => messages.iter().map(message).collect::<Vec<Value>>(),
            add_generation_prompt => true,
            eos_token => self.end_token.as_deref(),
        };
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render(values));
        // Only the kind: the error's text may quote the conversation.
        rendered.map_err(|error| RequestError::Template(error.kind().to_string()).into())
    }
}
