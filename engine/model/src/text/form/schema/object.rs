//! Objects: the properties that the schema names, in its order, or any where it names none.

use super::{Done, Scope};
use crate::limits::FORM_ITEMS_MAX;
use crate::text::Json;
use crate::text::form::nfa::{Nfa, Part};
use crate::text::form::{FormError, FormFlaw, value};

pub(super) fn part(nfa: &mut Nfa, scope: &Scope<'_>, schema: &Json) -> Done {
    let none = Vec::new();
    let properties = match schema.get("properties") {
        None => &none,
        Some(Json::Object(pairs)) if pairs.len() <= FORM_ITEMS_MAX => pairs,
        Some(_) => return Err(scope.keyword("properties", FormFlaw::Items(FORM_ITEMS_MAX))),
    };
    let required = required(scope, schema, properties)?;
    match properties.is_empty() {
        true => any(nfa, scope, schema.get("additionalProperties")),
        false => members(nfa, scope, properties, &required),
    }
}

/// The names in `required`, all of which are properties.
fn required<'s>(
    scope: &Scope<'_>,
    schema: &'s Json,
    properties: &[(String, Json)],
) -> Result<Vec<&'s str>, FormError> {
    let wrong = || {
        scope.keyword(
            "required",
            FormFlaw::Value("a list of names in `properties`"),
        )
    };
    let names: Option<Vec<&str>> = match schema.get("required") {
        None => Some(Vec::new()),
        Some(Json::List(list)) => list.iter().map(Json::as_str).collect(),
        Some(_) => None,
    };
    let known = |name: &&str| properties.iter().any(|(one, _)| one == name);
    let names = names.filter(|names| names.iter().all(known));
    names.ok_or_else(wrong)
}

/// Any keys, with values of the schema in `additionalProperties`.
fn any(nfa: &mut Nfa, scope: &Scope<'_>, values: Option<&Json>) -> Done {
    match values {
        Some(Json::Bool(false)) => Ok(nfa.literal(b"{}")?),
        None | Some(Json::Bool(true)) => {
            let nesting = scope.degree.nesting.saturating_sub(1);
            Ok(value::object(nfa, |nfa| value::any(nfa, nesting))?)
        }
        Some(schema) => {
            let scope = scope.child(".additionalProperties");
            value::object(nfa, |nfa| super::part(nfa, &scope, schema))
        }
    }
}

/// `{`, each property or, where it is optional, nothing, `}`. Before each property it is known whether another stands before it, which
/// takes a comma; behind it there is one.
///
/// ```text
///  first ─► property ─┐   first ─► …          first ─┐
///    └─ (optional) ───│─────►                        ├─► }
///                     └─► later ─ comma ─► …  later ─┘
/// ```
fn members(
    nfa: &mut Nfa,
    scope: &Scope<'_>,
    properties: &[(String, Json)],
    required: &[&str],
) -> Done {
    let open = nfa.literal(b"{")?;
    let (mut first, mut later) = (open.end, nfa.node()?);
    for (name, schema) in properties {
        let short: String = name.chars().take(80).collect();
        let scope = scope.child(format!(".properties.{short}"));
        let key = nfa.literal(value::key_of(name).as_bytes())?;
        let property = super::part(nfa, &scope, schema)?;
        let property = nfa.then(key, property);
        let comma = nfa.literal(value::COMMA)?;
        nfa.join(first, property.start);
        nfa.join(later, comma.start);
        nfa.join(comma.end, property.start);
        let (next_first, next_later) = (nfa.node()?, nfa.node()?);
        nfa.join(property.end, next_later);
        if !required.contains(&name.as_str()) {
            nfa.join(first, next_first);
            nfa.join(later, next_later);
        }
        (first, later) = (next_first, next_later);
    }
    let close = nfa.literal(b"}")?;
    nfa.join(first, close.start);
    nfa.join(later, close.start);
    Ok(Part {
        start: open.start,
        end: close.end,
    })
}
