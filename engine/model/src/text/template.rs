//! A conversation becomes one text, by the model's own chat template: a program of somebody else's, so its steps are
//! limited.

use minijinja::{Environment, Value, context, syntax::SyntaxConfig};
use serde::Deserialize;

use super::{Message, TextError};
use crate::{ModelError, json, limits};

/// A compiled chat template.
pub(super) struct Template {
    environment: Environment<'static>,
    end_token: Option<String>,
}

/// The keys of `tokenizer_config.json` that are read.
#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<String>,
    eos_token: Option<serde_json::Value>,
}

const NAME: &str = "chat";

impl Template {
    /// Reads `tokenizer_config.json`; `None` if it has no template.
    pub(super) fn parse(text: &[u8]) -> Result<Option<Self>, ModelError> {
        let wrong = |error: String| ModelError::Template(error);
        json::check_object(text).map_err(|flaw| wrong(flaw.to_string()))?;
        let config = serde_json::from_slice::<TokenizerConfig>(text);
        let config = config.map_err(|error| wrong(error.to_string()))?;
        let Some(source) = config.chat_template else {
            return Ok(None);
        };
        if source.len() > limits::TEMPLATE_BYTES_MAX {
            return Err(ModelError::Template(format!(
                "chat_template has {} bytes; at most {} are allowed",
                source.len(),
                limits::TEMPLATE_BYTES_MAX
            )));
        }
        let compile = || {
            let mut environment = Environment::new();
            let mut syntax = SyntaxConfig::builder();
            syntax.trim_blocks(true).lstrip_blocks(true);
            environment.set_syntax(syntax.build()?);
            environment.set_fuel(Some(limits::TEMPLATE_FUEL));
            environment.add_template_owned(NAME, source)?;
            Ok(environment)
        };
        let environment =
            compile().map_err(|error: minijinja::Error| ModelError::Template(error.to_string()))?;
        Ok(Some(Template {
            environment,
            end_token: config.eos_token.and_then(|token| {
                // A plain string, or an object that holds one.
                let content = token.get("content").unwrap_or(&token);
                content.as_str().map(str::to_owned)
            }),
        }))
    }

    /// The prompt for an answer to `messages`.
    pub(super) fn render(&self, messages: &[Message<'_>]) -> Result<String, TextError> {
        let message = |message: &Message<'_>| {
            Value::from_pairs([("role", message.role), ("content", message.content)])
        };
        let values = context! {
            messages => messages.iter().map(message).collect::<Vec<Value>>(),
            add_generation_prompt => true,
            eos_token => self.end_token.as_deref(),
        };
        let template = self.environment.get_template(NAME);
        let rendered = template.and_then(|template| template.render(values));
        // Only the kind: the error's text may quote the conversation.
        rendered.map_err(|error| TextError::Template(error.kind().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}\n{{ message.role }}:{{ message.content }}{{ eos_token }}\n{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";

    fn render(template: &str) -> Result<String, TextError> {
        let config =
            serde_json::json!({"chat_template": template, "eos_token": {"content": "</s>"}});
        let template = Template::parse(config.to_string().as_bytes()).unwrap();
        let message = |role, content| Message { role, content };
        template
            .unwrap()
            .render(&[message("user", "hi"), message("assistant", "ho")])
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
        assert!(matches!(render(endless), Err(TextError::Template(_))));
        assert!(matches!(
            render("{{ raise_exception('no') }}"),
            Err(TextError::Template(_))
        ));
    }
}
