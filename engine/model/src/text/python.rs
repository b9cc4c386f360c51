//! What templates take for granted of Python: how values are written, JSON as `transformers` writes it, the date.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::GUARDS;
use super::conversation::Date;

/// Teaches an environment what `transformers` gives to every template (`chat_template_utils.py`).
pub(super) fn teach(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    // In Python a string and a dictionary are sequences, and none is nothing that can be iterated.
    environment.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map
        )
    });
    environment.add_test("iterable", |value: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(value.kind(), Undefined | String | Seq | Map | Iterable)
    });
    environment.add_function("raise_exception", |message: &str| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
    });
}

/// `strftime_now`, whose now is the caller's.
pub(super) fn strftime(date: Date, format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let month = MONTHS[usize::from(date.month).clamp(1, 12) - 1];
        let _ = match rest.next() {
            Some('Y') => write!(out, "{:04}", date.year),
            Some('m') => write!(out, "{:02}", date.month),
            Some('d') => write!(out, "{:02}", date.day),
            Some('B') => write!(out, "{month}"),
            Some('b') => write!(out, "{}", &month[..3]),
            Some('%') => write!(out, "%"),
            _ => {
                let what = "strftime_now with other fields than %Y, %m, %d, %B and %b";
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        };
    }
    Ok(out)
}

/// `json.dumps(x, ensure_ascii=…, indent=…, separators=…, sort_keys=…)`
fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<&Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let positional = indent.cloned();
    let named: Option<Value> = kwargs.get("indent")?;
    let indent = positional
        .or(named)
        .filter(|indent| !indent.is_none() && !indent.is_undefined());
    let indent = match indent {
        None => None,
        Some(indent) => Some(
            usize::try_from(indent)
                .map_err(|_| refuse("an indent that is no number"))?
                .min(16),
        ),
    };
    let separators: Option<Value> = kwargs.get("separators")?;
    let separators = separators.filter(|separators| !separators.is_none());
    let separators = match separators {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(pair) => {
            let one = |at: usize| Ok::<_, Error>(pair.get_item(&Value::from(at))?.to_string());
            (one(0)?, one(1)?)
        }
    };
    let mut writer = Writer {
        out: String::new(),
        indent,
        separators,
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    writer.value(value, 0)?;
    state.consume_fuel(writer.out.len() as u64 / 64)?;
    Ok(Value::from(writer.out))
}

struct Writer {
    out: String,
    indent: Option<usize>,
    separators: (String, String),
    ascii: bool,
    sorted: bool,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX || self.out.len() > BYTES_MAX {
            return Err(refuse("JSON that is too deep or too long"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.container('[', ']', depth, items, |writer, item| {
                    writer.value(&item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.container('{', '}', depth, keys.into_iter(), |writer, key| {
                    let name = match key.kind() {
                        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                        ValueKind::None => "null".to_owned(),
                        ValueKind::Bool => key.is_true().to_string(),
                        _ => number(&key),
                    };
                    writer.text(&name);
                    let separator = writer.separators.1.clone();
                    writer.out.push_str(&separator);
                    writer.value(&value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => return Err(refuse(&format!("JSON of a value that is {kind}"))),
        }
        Ok(())
    }

    fn container<T>(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: impl Iterator<Item = T>,
        mut each: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                let separator = self.separators.0.clone();
                self.out.push_str(&separator);
            }
            empty = false;
            self.line(depth + 1);
            each(self, item)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            let _ = match c {
                '"' => write!(self.out, "\\\""),
                '\\' => write!(self.out, "\\\\"),
                '\n' => write!(self.out, "\\n"),
                '\r' => write!(self.out, "\\r"),
                '\t' => write!(self.out, "\\t"),
                '\u{8}' => write!(self.out, "\\b"),
                '\u{c}' => write!(self.out, "\\f"),
                c if c < ' ' => write!(self.out, "\\u{:04x}", c as u32),
                // A guard has to stay one, or the spelling that it breaks would be whole again.
                c if self.ascii && !c.is_ascii() && !GUARDS.contains(&c) => {
                    let mut units = [0; 2];
                    let units = c.encode_utf16(&mut units);
                    units
                        .iter()
                        .try_for_each(|unit| write!(self.out, "\\u{unit:04x}"))
                }
                c => write!(self.out, "{c}"),
            };
        }
        self.out.push('"');
    }
}

/// As Python writes a number: `1`, `1.0`, `1e-05`.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(number) = f64::try_from(value.clone()) else {
        return value.to_string();
    };
    let size = number.abs();
    if number != 0.0 && !(1e-4..1e16).contains(&size) && number.is_finite() {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{number:?}")
}

fn refuse(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

const DEPTH_MAX: usize = 64;
const BYTES_MAX: usize = 16 * 1024 * 1024;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
