//! Calls of tools out of what a model says, as it says it.
//!
//! ```text
//! Format::Hermes    text <tool_call>{"name": "f", "arguments": {…}}</tool_call> …        Hermes, Qwen2.5, Qwen3, SmolLM3
//! Format::Llama3    {"name": "f", "parameters": {…}}; {…}                                Llama 3.1 to 3.3: calls, or text
//! Format::Mistral   text [TOOL_CALLS][{"name": "f", "arguments": {…}}, …]                also [TOOL_CALLS]f[ARGS]{…}
//! ```
//! A model says what it likes, so nothing of it is trusted: what is no call of that form stays text and is shown, a call is held until
//! it is whole, and no more than [`CALL_BYTES_MAX`] bytes are held. Each byte is looked at a fixed number of times. Whether there is
//! such a tool, and what it makes of the arguments, is for whoever offered it.

use super::json::Json;

/// How a model writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Format {
    Llama3,
    Hermes,
    Mistral,
}

/// A part of a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Thought before it was said ([`super::thoughts`]); no [`Parser`] gives one.
    Thought(String),
    /// Said to a person.
    Text(String),
    /// Said to a tool.
    Call(Called),
}

/// A call as a model made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The tool.
    pub name: String,
    /// An object in JSON, its keys in the model's order.
    pub arguments: String,
}

/// Tells calls from text while a completion comes.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    held: String,
    /// Where in it what was not yet told begins.
    from: usize,
    /// Within what may be a call: what was not yet told begins with it.
    call: Option<Scan>,
    /// Whether anything but white space was said.
    said: bool,
    /// Whether a call was the last thing that was said.
    after_call: bool,
    calls: usize,
    /// What stood before what may be a call.
    gap: String,
}

/// Looks for the end of a JSON text.
#[derive(Debug, Clone, Copy)]
struct Scan {
    start: usize,
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    end: usize,
}

/// What stands at the end of a stretch of text.
enum Opening {
    /// A call from the first place on, whose JSON begins at the second or behind it.
    At(usize, usize),
    /// Something from here on that further text may turn into one.
    Maybe(usize),
}

/// What a call turned out to be.
enum Outcome {
    More,
    /// Calls in so many bytes.
    Calls(Vec<Called>, usize),
    /// So many bytes of text.
    Text(usize),
}

/// Bytes of one call.
pub const CALL_BYTES_MAX: usize = 256 * 1024;
/// Calls of one completion.
pub const CALLS_MAX: usize = 128;

impl Format {
    /// The form that a chat template asks a model for, if it is one of those that are read here.
    pub fn of_template(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        if has("<function=") || has("<arg_key>") {
            // Qwen3-Coder's and GLM's forms, which are not JSON.
            return None;
        }
        if has("<tool_call>") {
            return Some(Format::Hermes);
        }
        if has("[TOOL_CALLS]") {
            return Some(Format::Mistral);
        }
        let llama = has("<|start_header_id|>") && has("\"parameters\"") && !has("<function");
        llama.then_some(Format::Llama3)
    }
}

impl Parser {
    /// Before the first text.
    pub fn new(format: Format) -> Self {
        Parser {
            format,
            held: String::new(),
            from: 0,
            call: None,
            said: false,
            after_call: false,
            calls: 0,
            gap: String::new(),
        }
    }

    /// What is known once this text has come.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        self.told(false)
    }

    /// What is left when no text follows. A call that is whole but for its closing tag counts.
    pub fn finish(&mut self) -> Vec<Piece> {
        self.told(true)
    }

    fn told(&mut self, last: bool) -> Vec<Piece> {
        let pieces = self.run(last);
        self.held.drain(..self.from);
        self.from = 0;
        pieces
    }

    fn take(&mut self, bytes: usize) -> String {
        let from = self.from;
        self.from += bytes;
        self.held[from..self.from].to_owned()
    }

    fn run(&mut self, last: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        loop {
            let Some(mut scan) = self.call else {
                match self.opening() {
                    Opening::At(at, body) => {
                        // White space before a call, and what stands between two, is said to nobody if it is one.
                        let text = self.take(at);
                        let said = self.without_gap(&text);
                        self.gap = text[said.len()..].to_owned();
                        self.say(&mut pieces, said);
                        self.call = Some(Scan::new(body - at));
                        continue;
                    }
                    Opening::Maybe(at) => {
                        let at = if last {
                            self.held.len() - self.from
                        } else {
                            at
                        };
                        let text = self.take(at);
                        let nothing = last && self.calls > 0 && text.trim().is_empty();
                        self.say(&mut pieces, if nothing { "" } else { &text });
                        return pieces;
                    }
                }
            };
            let outcome = self.outcome(&mut scan, last);
            self.call = Some(scan);
            match outcome {
                Outcome::More => return pieces,
                Outcome::Text(bytes) => {
                    let text = std::mem::take(&mut self.gap) + &self.take(bytes);
                    self.say(&mut pieces, &text);
                }
                Outcome::Calls(calls, bytes) => {
                    self.gap.clear();
                    self.from += bytes;
                    self.calls += calls.len();
                    self.after_call = true;
                    pieces.extend(calls.into_iter().map(Piece::Call));
                }
            }
            self.call = None;
        }
    }

    fn say(&mut self, pieces: &mut Vec<Piece>, text: &str) {
        if text.is_empty() {
            return;
        }
        self.said |= !text.trim().is_empty();
        self.after_call = false;
        match pieces.last_mut() {
            Some(Piece::Text(before)) => before.push_str(text),
            _ => pieces.push(Piece::Text(text.to_owned())),
        }
    }

    /// Where the next call begins in the text that is held.
    fn opening(&self) -> Opening {
        let held = &self.held[self.from..];
        if self.calls >= CALLS_MAX {
            return Opening::Maybe(held.len());
        }
        let marker = match self.format {
            Format::Hermes => HERMES_BEGIN,
            Format::Mistral => MISTRAL_BEGIN,
            Format::Llama3 => LLAMA_BEGIN,
        };
        // A call without its mark: at the beginning, or behind another.
        let bare = match self.format {
            Format::Hermes => None,
            Format::Mistral => Some('[').filter(|_| !self.said && self.calls == 0),
            Format::Llama3 => {
                Some('{').filter(|_| self.after_call || (!self.said && self.calls == 0))
            }
        };
        let between = self.format == Format::Llama3 && self.after_call;
        let trimmed = match between {
            true => held.trim_start_matches(is_gap),
            false => held.trim_start(),
        };
        let begin = held.len() - trimmed.len();
        if let Some(open) = bare {
            if marker.starts_with(trimmed) {
                return Opening::Maybe(0);
            }
            if trimmed.starts_with(open) && !trimmed.starts_with(marker) {
                return Opening::At(begin, begin);
            }
        }
        if let Some(at) = held.find(marker) {
            return Opening::At(at, at + marker.len());
        }
        let begins = (1..marker.len())
            .rev()
            .find(|length| held.ends_with(&marker[..*length]));
        let kept = held.len() - begins.unwrap_or(0);
        Opening::Maybe(self.without_gap(&held[..kept]).len())
    }

    /// Text without what may stand before a call and is said to nobody.
    fn without_gap<'a>(&self, text: &'a str) -> &'a str {
        let between = self.format == Format::Llama3 && self.after_call;
        match between && text.chars().all(is_gap) {
            true => "",
            false => text.trim_end(),
        }
    }

    fn outcome(&self, scan: &mut Scan, last: bool) -> Outcome {
        let held = &self.held[self.from..];
        let unfinished = match last || held.len() > CALL_BYTES_MAX {
            true => Outcome::Text(held.len()),
            false => Outcome::More,
        };
        let rest = &held[scan.start..];
        // Mistral's newer form has the name first.
        let mut name = None;
        if self.format == Format::Mistral && !rest.trim_start().starts_with(['[', '{']) {
            let before = match rest.find('{') {
                Some(at) if at <= NAME_BYTES_MAX => &rest[..at],
                None if rest.len() <= NAME_BYTES_MAX => return unfinished,
                _ => return Outcome::Text(scan.start),
            };
            name = Some(before.trim().trim_end_matches("[ARGS]").trim().to_owned());
            scan.at = scan.at.max(scan.start + before.len());
        }
        let end = match scan.run(held) {
            None => return Outcome::Text(scan.start.max(1)),
            Some(0) => return unfinished,
            Some(end) => end,
        };
        let mut used = end;
        if self.format == Format::Hermes {
            let tail = held[end..].trim_start();
            used = match tail.strip_prefix(HERMES_END) {
                Some(after) => held.len() - after.len(),
                None if last && tail.is_empty() => held.len(),
                None if held.len() - end > TAIL_BYTES_MAX => return Outcome::Text(end),
                None if HERMES_END.starts_with(tail) => return unfinished,
                None => return Outcome::Text(end),
            };
        }
        let from = match name {
            Some(_) => scan.start + held[scan.start..end].find('{').unwrap_or(0),
            None => scan.start,
        };
        match Json::parse(&held[from..end])
            .ok()
            .and_then(|json| calls(json, name, self.format))
        {
            Some(calls) => Outcome::Calls(calls, used),
            None => Outcome::Text(used),
        }
    }
}

/// Between two calls.
fn is_gap(c: char) -> bool {
    c.is_whitespace() || ";,".contains(c)
}

impl Scan {
    fn new(start: usize) -> Self {
        Scan {
            start,
            at: start,
            depth: 0,
            in_string: false,
            escaped: false,
            end: 0,
        }
    }

    /// Where the text ends; 0 if it has not ended; `None` if it is no object and no list.
    fn run(&mut self, text: &str) -> Option<usize> {
        if self.end > 0 {
            return Some(self.end);
        }
        for byte in text.as_bytes().iter().skip(self.at) {
            self.at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => match self.depth.checked_sub(1)? {
                    0 => {
                        self.end = self.at;
                        return Some(self.end);
                    }
                    depth => self.depth = depth,
                },
                byte if self.depth == 0 && !byte.is_ascii_whitespace() => return None,
                _ => {}
            }
            if self.in_string && self.depth == 0 {
                return None;
            }
        }
        Some(0)
    }
}

/// One call, or several in a list.
fn calls(json: Json, name: Option<String>, format: Format) -> Option<Vec<Called>> {
    match (json, name) {
        (arguments @ Json::Object(_), Some(name)) => Some(vec![called(&name, Some(&arguments))?]),
        (Json::List(list), None) if format == Format::Mistral && !list.is_empty() => {
            list.iter().map(call).collect()
        }
        (object @ Json::Object(_), None) => Some(vec![call(&object)?]),
        _ => None,
    }
}

fn call(object: &Json) -> Option<Called> {
    let arguments = object.get("arguments").or(object.get("parameters"));
    called(object.get("name")?.as_str()?, arguments)
}

fn called(name: &str, arguments: Option<&Json>) -> Option<Called> {
    let arguments = match arguments {
        None => "{}".to_owned(),
        Some(arguments @ Json::Object(_)) => serde_json::to_string(arguments).ok()?,
        Some(_) => return None,
    };
    super::conversation::is_word(name).then(|| Called {
        name: name.to_owned(),
        arguments,
    })
}

const HERMES_BEGIN: &str = "<tool_call>";
const HERMES_END: &str = "</tool_call>";
const MISTRAL_BEGIN: &str = "[TOOL_CALLS]";
const LLAMA_BEGIN: &str = "<|python_tag|>";
/// Of white space and the closing tag behind a call.
const TAIL_BYTES_MAX: usize = 64;
/// A name and `[ARGS]`.
const NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    /// The text, with each call as `name(arguments)`, the same for every cut.
    fn parsed(format: Format, text: &str) -> String {
        let shown = |pieces: Vec<Piece>| {
            let show = |piece| match piece {
                Piece::Thought(text) | Piece::Text(text) => text,
                Piece::Call(Called { name, arguments }) => format!("«{name}({arguments})»"),
            };
            pieces.into_iter().map(show).collect::<String>()
        };
        let mut whole = Parser::new(format);
        let expected = shown(whole.push(text)) + &shown(whole.finish());
        for step in 1..8 {
            let (mut parser, mut got) = (Parser::new(format), String::new());
            let chars: Vec<char> = text.chars().collect();
            for chunk in chars.chunks(step) {
                got += &shown(parser.push(&chunk.iter().collect::<String>()));
            }
            got += &shown(parser.finish());
            assert_eq!(got, expected, "{step} characters at a time");
        }
        expected
    }

    #[test]
    fn calls_are_told_from_text_however_the_completion_is_cut() {
        let hermes = [
            ("Hello <b>.", "Hello <b>."),
            (
                "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": \"</tool_call>\"}}\n</tool_call>\n\
                 <tool_call>{\"name\": \"g\"}</tool_call>",
                "I look.«f({\"b\":1,\"a\":\"</tool_call>\"})»«g({})»",
            ),
            ("<tool_call>{\"name\": \"f\", \"arguments\": {}}", "«f({})»"),
            ("<tool_call>{\"name\": \"f\"", "<tool_call>{\"name\": \"f\""),
            ("<tool_call>no</tool_call>x", "<tool_call>no</tool_call>x"),
            (
                "<tool_call>{\"name\": 1}</tool_call>",
                "<tool_call>{\"name\": 1}</tool_call>",
            ),
            ("a <tool_cal", "a <tool_cal"),
            ("{\"name\": \"f\"}", "{\"name\": \"f\"}"),
        ];
        for (text, expected) in hermes {
            assert_eq!(parsed(Format::Hermes, text), expected, "{text}");
        }
        let llama = [
            (
                "{\"name\": \"f\", \"parameters\": {\"q\": \"a}\\\"{\"}}",
                "«f({\"q\":\"a}\\\"{\"})»",
            ),
            (
                "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}",
                "«f({})»«g({})»",
            ),
            ("The set {1}.", "The set {1}."),
            ("{\"answer\": 1} is JSON", "{\"answer\": 1} is JSON"),
            ("  {broken", "  {broken"),
        ];
        for (text, expected) in llama {
            assert_eq!(parsed(Format::Llama3, text), expected, "{text}");
        }
        let mistral = [
            (
                "Yes.[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": [1]}}, {\"name\": \"g\", \"arguments\": {}}]",
                "Yes.«f({\"a\":[1]})»«g({})»",
            ),
            (
                "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}",
                "«f({\"a\":1})»«g({})»",
            ),
            ("[{\"name\": \"f\", \"arguments\": {}}]", "«f({})»"),
            ("[1, 2] is a list", "[1, 2] is a list"),
            ("[TOOL_CALLS]", "[TOOL_CALLS]"),
        ];
        for (text, expected) in mistral {
            assert_eq!(parsed(Format::Mistral, text), expected, "{text}");
        }
    }

    #[test]
    fn hostile_text_stays_text_and_is_never_lost() {
        let deep = format!("<tool_call>{}", "[".repeat(100_000));
        let long = format!("<tool_call>{{\"name\": \"{}", "x".repeat(CALL_BYTES_MAX));
        let many = "<tool_call>".repeat(50_000);
        for text in [deep, long, many] {
            let mut parser = Parser::new(Format::Hermes);
            let mut got = String::new();
            for piece in parser.push(&text).into_iter().chain(parser.finish()) {
                match piece {
                    Piece::Text(text) => got += &text,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(got, text);
        }
        let mut drawn = 9u32;
        let alphabet = [
            "<tool_call>",
            "</tool_call>",
            "{",
            "}",
            "\"name\": \"f\"",
            "[TOOL_CALLS]",
            "[ARGS]",
            "\\",
            "\"",
            " ",
            "é",
            "<",
        ];
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..12 {
                drawn = drawn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text += alphabet[(drawn >> 16) as usize % alphabet.len()];
            }
            for format in [Format::Hermes, Format::Llama3, Format::Mistral] {
                parsed(format, &text);
            }
        }
    }

    #[test]
    fn the_form_is_read_off_the_template() {
        assert_eq!(Format::of_template("<tool_call>\\n{"), Some(Format::Hermes));
        assert_eq!(Format::of_template("'[TOOL_CALLS]'"), Some(Format::Mistral));
        assert_eq!(Format::of_template("<tool_call><function="), None);
        assert_eq!(Format::of_template("{{ message.content }}"), None);
    }
}
