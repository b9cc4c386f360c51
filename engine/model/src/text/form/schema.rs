//! A JSON Schema as a part of an automaton: what the automaton lets through satisfies the schema.
//!
//! It need not be all that satisfies it: properties come in the schema's order, none is added to those that it names, and
//! numbers have no exponent. A keyword that is not known here is refused with its path, since an answer that ignores it may break it.

mod object;
mod one_of;

use super::nfa::{Nfa, Part};
use super::number::{self, BOUND_MAX, Bounds};
use super::pattern;
use super::value;
use super::{Degree, FormError, FormFlaw, chars};
use crate::limits::{FORM_ITEMS_MAX, SCHEMA_DEPTH_MAX};
use crate::text::Json;

/// Where in a schema the compiler is.
pub(super) struct Scope<'a> {
    root: &'a Json,
    degree: Degree,
    up: Option<&'a Scope<'a>>,
    step: String,
    depth: usize,
    /// The `$ref` that leads here.
    reference: Option<&'a str>,
}

type Done = Result<Part, FormError>;

impl<'a> Scope<'a> {
    /// The root of a schema that a request has at `path`.
    pub fn new(root: &'a Json, path: &str, degree: Degree) -> Self {
        Scope {
            root,
            degree,
            up: None,
            step: path.to_owned(),
            depth: 0,
            reference: Some("#"),
        }
    }

    fn child<'b>(&'b self, step: impl Into<String>) -> Scope<'b> {
        Scope {
            root: self.root,
            degree: self.degree,
            up: Some(self),
            step: step.into(),
            depth: self.depth + 1,
            reference: None,
        }
    }

    fn path(&self) -> String {
        self.up.map_or_else(String::new, Scope::path) + &self.step
    }

    /// A flaw of the schema here.
    fn flaw(&self, flaw: FormFlaw) -> FormError {
        let at = self.path();
        FormError { at, flaw }
    }

    /// A flaw of one of its keywords.
    fn keyword(&self, keyword: &str, flaw: FormFlaw) -> FormError {
        let keyword: String = keyword.chars().take(80).collect();
        self.child(format!(".{keyword}")).flaw(flaw)
    }
}

/// Keywords that ask nothing of a value.
const ANNOTATIONS: [&str; 13] = [
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "example",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// The types, and the keywords that each has here.
const TYPES: [(&str, &[&str]); 7] = [
    ("string", &["minLength", "maxLength", "pattern", "format"]),
    ("integer", BOUNDS),
    ("number", BOUNDS),
    ("boolean", &[]),
    ("null", &[]),
    (
        "object",
        &["properties", "required", "additionalProperties"],
    ),
    (
        "array",
        &[
            "items",
            "prefixItems",
            "minItems",
            "maxItems",
            "uniqueItems",
        ],
    ),
];
const BOUNDS: &[&str] = &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];

/// The texts of the values that satisfy a schema.
pub(super) fn part(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json) -> Done {
    satisfied(nfa, scope, schema).map_err(|error| error.or_at(&scope.path()))
}

fn satisfied(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json) -> Done {
    if scope.depth > SCHEMA_DEPTH_MAX {
        return Err(scope.flaw(FormFlaw::Deep(SCHEMA_DEPTH_MAX)));
    }
    let fields = match schema {
        Json::Bool(true) => return Ok(value::any(nfa, scope.degree.nesting)?),
        Json::Bool(false) => return Ok(nfa.never()?),
        Json::Object(fields) => fields,
        _ => return Err(scope.flaw(FormFlaw::Value("a JSON Schema: an object, true or false"))),
    };
    let has = |name: &str| schema.get(name).is_some();
    if let Some(reference) = schema.get("$ref") {
        only(scope, fields, &["$ref"])?;
        return referred(nfa, scope, reference);
    }
    if has("enum") || has("const") {
        only(scope, fields, &["enum", "const", "type", "nullable"])?;
        return given(nfa, scope, schema);
    }
    if let Some(branches) = schema.get("anyOf") {
        only(scope, fields, &["anyOf", "nullable"])?;
        return any_of(nfa, scope, schema, "anyOf", branches);
    }
    if let Some(branches) = schema.get("oneOf") {
        only(scope, fields, &["oneOf", "nullable"])?;
        one_of::check(scope, branches)?;
        return any_of(nfa, scope, schema, "oneOf", branches);
    }
    if let Some(all) = schema.get("allOf") {
        only(scope, fields, &["allOf"])?;
        let Json::List(list) = all else {
            return Err(scope.keyword("allOf", FormFlaw::Value("a list of schemas")));
        };
        return match list.as_slice() {
            [one] => part(nfa, &scope.child(".allOf[0]"), one),
            _ => Err(scope.keyword("allOf", FormFlaw::Value("a list of one schema"))),
        };
    }
    typed(nfa, scope, schema, fields)
}

/// Refuses keywords beside `allowed` ones and annotations.
fn only(scope: &Scope<'_>, fields: &[(String, Json)], allowed: &[&str]) -> Result<(), FormError> {
    let known = |name: &str| allowed.contains(&name) || ANNOTATIONS.contains(&name);
    match fields.iter().find(|(name, _)| !known(name)) {
        Some((name, _)) => Err(scope.keyword(name, FormFlaw::Unsupported)),
        None => Ok(()),
    }
}

/// A schema with `type`, or one that means a type by its keywords.
fn typed(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json, fields: &[(String, Json)]) -> Done {
    let mut types = types(scope, schema)?;
    if types.is_empty() {
        let means = |keyword: &str| schema.get(keyword).is_some();
        types = match () {
            _ if means("properties") => vec!["object"],
            _ if means("items") || means("prefixItems") => vec!["array"],
            _ => {
                only(scope, fields, &["nullable"])?;
                return Ok(value::any(nfa, scope.degree.nesting)?);
            }
        };
    }
    let listed = TYPES.iter().filter(|(name, _)| types.contains(name));
    let mut allowed: Vec<&str> = listed
        .flat_map(|(_, keywords)| *keywords)
        .copied()
        .collect();
    allowed.extend(["type", "nullable"]);
    only(scope, fields, &allowed)?;
    let mut parts = Vec::new();
    for kind in types {
        parts.push(match kind {
            "string" => string(nfa, scope, schema)?,
            "integer" => number::integer(nfa, bounds(scope, schema)?, scope.degree.counted)?,
            "number" => number::number(nfa, bounds(scope, schema)?, scope.degree.counted)?,
            "boolean" => {
                let both = [nfa.literal(b"true")?, nfa.literal(b"false")?];
                nfa.either(&both)?
            }
            "object" => object::part(nfa, scope, schema)?,
            "array" => array(nfa, scope, schema)?,
            _ => nfa.literal(b"null")?,
        });
    }
    nullable(nfa, scope, schema, &mut parts)
}

/// The names in `type`; none where it is absent.
fn types<'s>(scope: &Scope<'_>, schema: &'s Json) -> Result<Vec<&'s str>, FormError> {
    let wrong = || {
        let kinds = "string, integer, number, boolean, null, object or array, or a list of these";
        scope.keyword("type", FormFlaw::Value(kinds))
    };
    let names: Option<Vec<&str>> = match schema.get("type") {
        None => return Ok(Vec::new()),
        Some(Json::Text(name)) => Some(vec![name]),
        Some(Json::List(list)) => list.iter().map(Json::as_str).collect(),
        Some(_) => None,
    };
    let known = |name: &&str| TYPES.iter().any(|(one, _)| one == name);
    let names = names.filter(|names| !names.is_empty() && names.iter().all(known));
    names.ok_or_else(wrong)
}

/// Any of these, and null where the schema is `nullable`, as OpenAPI 3.0 has it.
fn nullable(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json, parts: &mut Vec<Part>) -> Done {
    match schema.get("nullable") {
        None | Some(Json::Bool(false)) => {}
        Some(Json::Bool(true)) => parts.push(nfa.literal(b"null")?),
        Some(_) => return Err(scope.keyword("nullable", FormFlaw::Value("true or false"))),
    }
    Ok(nfa.either(parts)?)
}

/// `#`, or a pointer within the same schema.
fn referred(nfa: &mut Nfa, scope: &Scope<'_>, reference: &Json) -> Done {
    let wrong = || scope.keyword("$ref", FormFlaw::Value("`#/` and a path in this schema"));
    let reference = reference.as_str().ok_or_else(wrong)?;
    let mut up = Some(scope);
    while let Some(above) = up {
        if above.reference == Some(reference) {
            return Err(scope.keyword("$ref", FormFlaw::Recursive));
        }
        up = above.up;
    }
    let schema = resolved(scope.root, reference).ok_or_else(wrong)?;
    let mut inner = scope.child(".$ref");
    inner.reference = Some(reference);
    part(nfa, &inner, schema)
}

fn resolved<'s>(root: &'s Json, reference: &str) -> Option<&'s Json> {
    let mut at = root;
    for step in reference.strip_prefix('#')?.split('/').skip(1) {
        at = at.get(&step.replace("~1", "/").replace("~0", "~"))?;
    }
    let plain = reference == "#" || reference.starts_with("#/");
    plain.then_some(at)
}

/// `enum` and `const`, of the types that the schema allows.
fn given(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json) -> Done {
    let types = types(scope, schema)?;
    let mut values: Vec<&Json> = match (schema.get("enum"), schema.get("const")) {
        (Some(Json::List(list)), constant) if list.len() <= FORM_ITEMS_MAX => {
            let same = |value: &&Json| constant.is_none_or(|constant| constant == *value);
            list.iter().filter(same).collect()
        }
        (Some(_), _) => return Err(scope.keyword("enum", FormFlaw::Items(FORM_ITEMS_MAX))),
        (None, constant) => constant.into_iter().collect(),
    };
    values.retain(|value| types.is_empty() || types.iter().any(|name| is(value, name)));
    let parts = values
        .into_iter()
        .map(|value| nfa.literal(value::written(value).as_bytes()));
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
    nullable(nfa, scope, schema, &mut parts)
}

/// Whether a value is of a type.
fn is(value: &Json, name: &str) -> bool {
    match value {
        Json::Null => name == "null",
        Json::Bool(_) => name == "boolean",
        Json::Integer(_) | Json::Unsigned(_) => name == "integer" || name == "number",
        Json::Float(value) => name == "number" || (name == "integer" && value.fract() == 0.0),
        Json::Text(_) => name == "string",
        Json::List(_) => name == "array",
        Json::Object(_) => name == "object",
    }
}

fn any_of(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json, name: &str, branches: &Json) -> Done {
    let branches = match branches {
        Json::List(list) if (1..=FORM_ITEMS_MAX).contains(&list.len()) => list,
        _ => return Err(scope.keyword(name, FormFlaw::Items(FORM_ITEMS_MAX))),
    };
    let mut parts = Vec::new();
    for (index, branch) in branches.iter().enumerate() {
        parts.push(part(
            nfa,
            &scope.child(format!(".{name}[{index}]")),
            branch,
        )?);
    }
    nullable(nfa, scope, schema, &mut parts)
}

/// A whole number from 0 on.
fn count(scope: &Scope<'_>, schema: &Json, name: &str) -> Result<Option<usize>, FormError> {
    match schema.get(name) {
        None => Ok(None),
        Some(Json::Integer(count)) if (0..=FORM_ITEMS_MAX as i64).contains(count) => {
            Ok(Some(*count as usize))
        }
        Some(_) => Err(scope.keyword(name, FormFlaw::Count(FORM_ITEMS_MAX))),
    }
}

fn string(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json) -> Done {
    let (min, max) = (
        count(scope, schema, "minLength")?,
        count(scope, schema, "maxLength")?,
    );
    let bounded = [("minLength", min), ("maxLength", max)];
    let length = bounded.into_iter().find(|(_, count)| count.is_some());
    let inside = match (schema.get("pattern"), schema.get("format")) {
        (None, None) => match max {
            Some(max) if max < min.unwrap_or(0) => nfa.never()?,
            _ => nfa.repeat(min.unwrap_or(0), max, chars::any)?,
        },
        (Some(_), Some(_)) => return Err(scope.keyword("format", FormFlaw::Beside("pattern"))),
        (keyword, format) => {
            let name = if format.is_some() {
                "format"
            } else {
                "pattern"
            };
            if let Some((length, _)) = length {
                return Err(scope.keyword(length, FormFlaw::Beside(name)));
            }
            let wrong = |flaw| scope.keyword(name, flaw);
            let text = keyword.or(format).and_then(Json::as_str);
            let text = text.ok_or_else(|| wrong(FormFlaw::Value("a text")))?;
            let pattern = match format {
                None => text,
                Some(_) => {
                    super::format::pattern(text).ok_or_else(|| wrong(FormFlaw::Unsupported))?
                }
            };
            pattern::part(nfa, chars::Place::Json, pattern).map_err(wrong)?
        }
    };
    Ok(value::quoted(nfa, inside)?)
}

/// The bounds of a number, which are whole numbers.
fn bounds(scope: &Scope<'_>, schema: &Json) -> Result<Bounds, FormError> {
    let whole = |name: &str| match schema.get(name) {
        None => Ok(None),
        Some(Json::Integer(bound)) if (-BOUND_MAX..=BOUND_MAX).contains(bound) => Ok(Some(*bound)),
        Some(Json::Float(bound)) if bound.fract() == 0.0 && bound.abs() <= BOUND_MAX as f64 => {
            Ok(Some(*bound as i64))
        }
        Some(_) => {
            let allowed = "a whole number of at most 15 digits";
            Err(scope.keyword(name, FormFlaw::Value(allowed)))
        }
    };
    let (low, over) = (whole("minimum")?, whole("exclusiveMinimum")?);
    let (high, under) = (whole("maximum")?, whole("exclusiveMaximum")?);
    Ok(Bounds {
        low: low.max(over),
        above: over.is_some_and(|over| low.is_none_or(|low| over >= low)),
        high: match (high, under) {
            (Some(high), Some(under)) => Some(high.min(under)),
            (high, under) => high.or(under),
        },
        below: under.is_some_and(|under| high.is_none_or(|high| under <= high)),
    })
}

fn array(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json) -> Done {
    let min = count(scope, schema, "minItems")?.unwrap_or(0);
    let max = count(scope, schema, "maxItems")?;
    match schema.get("uniqueItems") {
        None | Some(Json::Bool(false)) => {}
        Some(_) => return Err(scope.keyword("uniqueItems", FormFlaw::Unsupported)),
    }
    if max.is_some_and(|max| max < min) {
        return Ok(nfa.never()?);
    }
    let items = schema.get("items").unwrap_or(&Json::Bool(true));
    let Some(prefix) = schema.get("prefixItems") else {
        if *items == Json::Bool(false) {
            return match min {
                0 => Ok(nfa.literal(b"[]")?),
                _ => Ok(nfa.never()?),
            };
        }
        let scope = scope.child(".items");
        return value::list(nfa, min, max, |nfa| part(nfa, &scope, items));
    };
    // A tuple has its first items, all of them, and no more.
    let prefix = match prefix {
        Json::List(list) if list.len() <= FORM_ITEMS_MAX => list,
        _ => return Err(scope.keyword("prefixItems", FormFlaw::Items(FORM_ITEMS_MAX))),
    };
    if prefix.len() < min || max.is_some_and(|max| prefix.len() > max) {
        let keyword = if prefix.len() < min {
            "minItems"
        } else {
            "maxItems"
        };
        return Err(scope.keyword(keyword, FormFlaw::Beside("prefixItems")));
    }
    let mut whole = nfa.literal(b"[")?;
    for (index, item) in prefix.iter().enumerate() {
        if index > 0 {
            let comma = nfa.literal(value::COMMA)?;
            whole = nfa.then(whole, comma);
        }
        let item = part(nfa, &scope.child(format!(".prefixItems[{index}]")), item)?;
        whole = nfa.then(whole, item);
    }
    let end = nfa.literal(b"]")?;
    Ok(nfa.then(whole, end))
}
