//! What a completion consists of, in order: a thought, texts and calls of tools.

use serde_json::Value;

/// A part of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Thought(String),
    Text(String),
    Call {
        id: String,
        name: String,
        arguments: String,
    },
}

/// What a chunk added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The item at this place began.
    Began(usize),
    /// The item at this place has this more.
    More(usize, String),
}

/// The items so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Items(pub(super) Vec<Item>);

impl Items {
    /// Those of all chunks.
    pub(super) fn of(chunks: &[Value]) -> Self {
        let mut items = Items::default();
        for chunk in chunks {
            items.push(chunk);
        }
        items.finish();
        items
    }

    /// Takes a chunk in.
    pub(super) fn push(&mut self, chunk: &Value) -> Vec<Step> {
        let delta = &chunk["choices"][0]["delta"];
        let mut steps = Vec::new();
        for (field, thought) in [("reasoning_content", true), ("content", false)] {
            match delta[field].as_str() {
                None | Some("") => {}
                Some(text) => self.text(text, thought, &mut steps),
            }
        }
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(part, &mut steps);
        }
        steps
    }

    /// An answer of nothing is an empty text.
    pub(super) fn finish(&mut self) -> Option<Step> {
        self.0
            .is_empty()
            .then(|| self.begin(Item::Text(String::new())))
    }

    /// What was said, without the calls.
    pub(super) fn said(&self) -> String {
        let texts = self.0.iter().filter_map(|item| match item {
            Item::Text(text) => Some(text.as_str()),
            Item::Thought(_) | Item::Call { .. } => None,
        });
        texts.collect()
    }

    /// What was thought before.
    pub(super) fn thought(&self) -> Option<String> {
        self.0.iter().find_map(|item| match item {
            Item::Thought(thought) => Some(thought.clone()),
            _ => None,
        })
    }

    fn text(&mut self, text: &str, thought: bool, steps: &mut Vec<Step>) {
        let goes_on = match self.0.last() {
            Some(Item::Thought(_)) => thought,
            Some(Item::Text(_)) => !thought,
            _ => false,
        };
        if !goes_on {
            let item = if thought { Item::Thought } else { Item::Text };
            steps.push(self.begin(item(String::new())));
        }
        let place = self.0.len() - 1;
        if let Some(Item::Thought(all) | Item::Text(all)) = self.0.last_mut() {
            all.push_str(text);
            steps.push(Step::More(place, text.to_owned()));
        }
    }

    fn call(&mut self, part: &Value, steps: &mut Vec<Step>) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let function = &part["function"];
        if part["id"].is_string() {
            let (id, name) = (text(&part["id"]), text(&function["name"]));
            let arguments = String::new();
            let call = Item::Call {
                id,
                name,
                arguments,
            };
            steps.push(self.begin(call));
        }
        let more = text(&function["arguments"]);
        let place = self.0.len().saturating_sub(1);
        if let (Some(Item::Call { arguments, .. }), false) = (self.0.last_mut(), more.is_empty()) {
            arguments.push_str(&more);
            steps.push(Step::More(place, more));
        }
    }

    fn begin(&mut self, item: Item) -> Step {
        self.0.push(item);
        Step::Began(self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_and_calls_keep_their_order() {
        let chunk = |delta: Value| json!({"choices": [{"delta": delta}]});
        let begin = |index: u32, name: &str| {
            chunk(
                json!({"tool_calls": [{"index": index, "id": format!("call_{index}"), "type": "function",
                "function": {"name": name, "arguments": ""}}]}),
            )
        };
        let more = |index: u32, text: &str| {
            chunk(json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]}))
        };
        let chunks = [
            chunk(json!({"role": "assistant", "content": ""})),
            chunk(json!({"reasoning_content": "h"})),
            chunk(json!({"reasoning_content": "m"})),
            chunk(json!({"content": "a"})),
            chunk(json!({"content": "b"})),
            begin(0, "f"),
            more(0, "{}"),
            begin(1, "g"),
            more(1, r#"{"x":1}"#),
            chunk(json!({"content": "c"})),
            chunk(json!({})),
        ];
        let mut items = Items::default();
        let steps: Vec<Step> = chunks.iter().flat_map(|chunk| items.push(chunk)).collect();
        let expected = [
            Step::Began(0),
            Step::More(0, "h".into()),
            Step::More(0, "m".into()),
            Step::Began(1),
            Step::More(1, "a".into()),
            Step::More(1, "b".into()),
            Step::Began(2),
            Step::More(2, "{}".into()),
            Step::Began(3),
            Step::More(3, r#"{"x":1}"#.into()),
            Step::Began(4),
            Step::More(4, "c".into()),
        ];
        assert_eq!(steps, expected);
        assert_eq!(items.said(), "abc");
        assert_eq!(items.thought().as_deref(), Some("hm"));
        assert_eq!(items.finish(), None);
        assert_eq!(Items::of(&chunks[..1]).0, [Item::Text(String::new())]);
    }
}
