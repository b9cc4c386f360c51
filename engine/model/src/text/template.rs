//! A conversation becomes one text, by the model's own chat template: a program of somebody else's, so its steps are
//! limited.
//!
//! It gets what `transformers` gives it: `messages`, `tools` (none if there are none), `documents` (none), `add_generation_prompt`,
//! the special tokens by their names, `enable_thinking` where it was said, `strftime_now` where a day was said, `raise_exception`,
//! Python's methods of strings and dictionaries, and JSON as Python writes it. A template that needs more is refused when it is read
//! or when it is used.

use std::collections::BTreeMap;

use minijinja::{Environment, Value, syntax::SyntaxConfig};
use serde::Deserialize;

use super::conversation::{Conversation, Date};
use super::json::Json;
use super::tools::Format;
use super::{TextError, python, thoughts};
use crate::{ModelError, json, limits};

/// A compiled chat template.
pub(super) struct Template {
    environment: Environment<'static>,
    /// Special tokens by name: `eos_token`, …
    special: BTreeMap<&'static str, String>,
    knows_developers: bool,
    /// How it asks the model to write calls.
    pub calls: Option<Format>,
    /// Whether its model may think before it answers.
    pub thinks: bool,
}

/// The files that a chat template may be in, as far as a model has them. Templates of `additional_chat_templates` with another name
/// are for callers who name them, which nobody here does.
#[derive(Debug, Clone, Copy, Default)]
pub struct TemplateFiles<'a> {
    /// `tokenizer_config.json`: special tokens, and templates that count if there is none of the next two files, as in `transformers`.
    pub config: Option<&'a [u8]>,
    /// `chat_template.jinja`
    pub chat: Option<&'a [u8]>,
    /// `additional_chat_templates/tool_use.jinja`
    pub tools: Option<&'a [u8]>,
}

/// The keys of `tokenizer_config.json` that are read.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// What a template is given.
#[derive(Clone)]
pub(super) struct Given {
    pub messages: Json,
    pub tools: Json,
    pub thinking: Option<bool>,
    pub today: Option<Date>,
}

impl Template {
    /// Reads these files; `None` if they have no template.
    pub(super) fn parse(files: TemplateFiles<'_>) -> Result<Option<Self>, ModelError> {
        let wrong = |error: String| ModelError::Template(error);
        let (named, others) = named(files)?;
        if named.is_empty() {
            return Ok(None);
        }
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        let failed = |error: minijinja::Error| ModelError::Template(error.to_string());
        environment.set_syntax(syntax.build().map_err(failed)?);
        environment.set_fuel(Some(limits::TEMPLATE_FUEL));
        python::teach(&mut environment);
        let (mut knows_developers, mut calls, mut thinks) = (false, None, false);
        for Named { name, template } in named {
            if template.len() > limits::TEMPLATE_BYTES_MAX {
                return Err(ModelError::Template(format!(
                    "chat_template has {} bytes; at most {} are allowed",
                    template.len(),
                    limits::TEMPLATE_BYTES_MAX
                )));
            }
            knows_developers |= template.contains("developer");
            thinks |= template.contains(thoughts::END);
            if name == DEFAULT || name == FOR_TOOLS {
                let written = Format::of_template(&template);
                calls = match name == FOR_TOOLS {
                    true => written,
                    false => calls.or(written),
                };
                // As Python and Jinja read lines.
                let template = template.replace("\r\n", "\n").replace('\r', "\n");
                let template = without_generation(&template);
                let added = environment.add_template_owned(name, template);
                added.map_err(failed)?;
            }
        }
        if environment.get_template(DEFAULT).is_err() {
            return Err(wrong(format!("no chat_template is called `{DEFAULT}`")));
        }
        let special = SPECIAL.iter().filter_map(|name| {
            // A plain string, or an object that holds one.
            let token = others.get(*name)?;
            let content = token.get("content").unwrap_or(token);
            Some((*name, content.as_str()?.to_owned()))
        });
        Ok(Some(Template {
            environment,
            special: special.collect(),
            knows_developers,
            calls,
            thinks,
        }))
    }

    /// A special token by its name, such as `eos_token`.
    pub(super) fn special(&self, name: &str) -> Option<&str> {
        self.special.get(name).map(String::as_str)
    }

    /// What it is given of a conversation.
    pub(super) fn given(&self, said: &Conversation) -> Given {
        Given {
            messages: said.messages(self.knows_developers),
            tools: Json::List(said.tools.clone()),
            thinking: said.thinking,
            today: said.today,
        }
    }

    /// The prompt for an answer.
    pub(super) fn render(&self, given: &Given) -> Result<String, TextError> {
        let tools = match &given.tools {
            Json::List(tools) if !tools.is_empty() => given.tools.value(),
            _ => Value::from(()),
        };
        let for_tools = match tools.is_none() {
            true => None,
            false => self.environment.get_template(FOR_TOOLS).ok(),
        };
        let mut values = vec![
            ("messages", given.messages.value()),
            ("tools", tools),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(true)),
        ];
        let special = self.special.iter();
        values.extend(special.map(|(name, token)| (*name, Value::from(token.as_str()))));
        values.extend(
            given
                .thinking
                .map(|thinking| ("enable_thinking", Value::from(thinking))),
        );
        if let Some(today) = given.today {
            let now = move |format: &str| python::strftime(today, format);
            values.push(("strftime_now", Value::from_function(now)));
        }
        let template = match for_tools {
            Some(template) => Ok(template),
            None => self.environment.get_template(DEFAULT),
        };
        let values = Value::from_pairs(values);
        let rendered = template.and_then(|template| template.render(values));
        // Only the kind: the error's text may quote the conversation.
        rendered.map_err(|error| TextError::Template(error.kind().to_string()))
    }
}

impl<'a> From<Option<&'a [u8]>> for TemplateFiles<'a> {
    /// Of a model that has `tokenizer_config.json` alone, or nothing.
    fn from(config: Option<&'a [u8]>) -> Self {
        TemplateFiles {
            config,
            ..TemplateFiles::default()
        }
    }
}

/// Templates by name, and what else `tokenizer_config.json` says.
fn named(
    files: TemplateFiles<'_>,
) -> Result<(Vec<Named>, BTreeMap<String, serde_json::Value>), ModelError> {
    let wrong = |error: String| ModelError::Template(error);
    let config = match files.config {
        Some(text) => {
            json::check_object(text).map_err(|flaw| wrong(flaw.to_string()))?;
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?
        }
        None => TokenizerConfig::default(),
    };
    let mut named = Vec::new();
    for (name, content) in [(DEFAULT, files.chat), (FOR_TOOLS, files.tools)] {
        if let Some(content) = content {
            let template =
                std::str::from_utf8(content).map_err(|error| wrong(error.to_string()))?;
            named.push(Named {
                name: name.into(),
                template: template.into(),
            });
        }
    }
    match config.chat_template {
        Some(Templates::One(template)) if named.is_empty() => named.push(Named {
            name: DEFAULT.into(),
            template,
        }),
        Some(Templates::Named(list)) if named.is_empty() => named = list,
        _ => {}
    }
    Ok((named, config.others))
}

/// `{% generation %}` marks what an assistant says, for training, and is a block without effect here.
fn without_generation(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let word = tag.trim_matches(|c: char| "{%-+}".contains(c) || c.is_whitespace());
        match word {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out + rest
}

const DEFAULT: &str = "default";
const FOR_TOOLS: &str = "tool_use";
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;

    const CHATML: &str = "{% for message in messages %}\n{{ message.role }}:{{ message.content }}{{ eos_token }}\n{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";

    fn render_config(config: serde_json::Value, said: &Conversation) -> Result<String, TextError> {
        let config = config.to_string();
        let template = Template::parse(Some(config.as_bytes()).into()).unwrap();
        let template = template.unwrap();
        template.render(&template.given(said))
    }

    fn said() -> Conversation {
        let message = |role, content| Message { role, content };
        Conversation::of(&[message("user", "hi"), message("assistant", "ho")]).unwrap()
    }

    fn render(template: &str) -> Result<String, TextError> {
        let config =
            serde_json::json!({"chat_template": template, "eos_token": {"content": "</s>"}});
        render_config(config, &said())
    }

    #[test]
    fn a_template_sees_what_hugging_face_gives_it() {
        assert_eq!(
            render(CHATML).unwrap(),
            "user:hi</s>\nassistant:ho</s>\nassistant:"
        );
        for (template, expected) in [
            ("{{ tools }}|{{ documents }}|{{ bos_token }}", "None|None|"),
            ("{{ messages[0].content.upper() + 'x'.strip() }}", "HIx"),
            ("{% generation %}a{% endgeneration -%} b", "ab"),
            (
                "{{ messages | tojson }}",
                r#"[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]"#,
            ),
            (
                "{{ {'b': [1, 2.0, 1e-5, none, true], 'a': '<\u{e9}>'} | tojson }}",
                "{\"b\": [1, 2.0, 1e-05, null, true], \"a\": \"<\u{e9}>\"}",
            ),
            (
                "{{ {'a': [1], 'b': {}} | tojson(indent=2) }}",
                "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}",
            ),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn the_date_is_the_callers_and_tools_may_have_a_template_of_their_own() {
        let mut said = said();
        let template =
            "{{ strftime_now('%d %b %Y, %B %m') if strftime_now is defined else 'never' }}";
        let config = serde_json::json!({"chat_template": template});
        assert_eq!(render_config(config.clone(), &said).as_deref(), Ok("never"));
        said.today = Some(Date {
            year: 2026,
            month: 2,
            day: 3,
        });
        assert_eq!(
            render_config(config, &said).as_deref(),
            Ok("03 Feb 2026, February 02")
        );
        let named = |name, template| serde_json::json!({"name": name, "template": template});
        let config = serde_json::json!({"chat_template": [named("default", "plain"), named("tool_use", "{{ tools | length }}")]});
        assert_eq!(render_config(config.clone(), &said).as_deref(), Ok("plain"));
        let tool = Json::parse(r#"{"type": "function", "function": {"name": "f"}}"#).unwrap();
        said.tools = vec![tool];
        assert_eq!(render_config(config, &said).as_deref(), Ok("1"));
    }

    #[test]
    fn a_template_that_loops_for_ever_or_refuses_is_an_error() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(matches!(render(endless), Err(TextError::Template(_))));
        let refused = render("{{ raise_exception('no') }}");
        assert!(matches!(refused, Err(TextError::Template(_))));
        let deep = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        assert!(matches!(render(deep), Err(TextError::Template(_))));
    }
}
