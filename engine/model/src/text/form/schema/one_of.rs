//! Whether no value satisfies two branches of a `oneOf`: then it asks for no more than `anyOf`.

use super::{Scope, is, resolved};
use crate::limits::FORM_ITEMS_MAX;
use crate::text::Json;
use crate::text::form::{FormError, FormFlaw};

/// Refuses branches that are not of different types and are not told apart by a property that both require.
pub(super) fn check(scope: &Scope<'_>, branches: &Json) -> Result<(), FormError> {
    let list = match branches {
        Json::List(list) if list.len() <= FORM_ITEMS_MAX => list,
        // Refused as what it is by whoever makes a part of it.
        _ => return Ok(()),
    };
    let branches: Vec<&Json> = list.iter().map(|branch| followed(scope, branch)).collect();
    for (index, branch) in branches.iter().enumerate() {
        if !branches[..index]
            .iter()
            .all(|other| exclude(scope, branch, other))
        {
            let at = scope.child(format!(".oneOf[{index}]"));
            return Err(at.flaw(FormFlaw::Overlap));
        }
    }
    Ok(())
}

/// What a `$ref` refers to; one that leads nowhere is refused elsewhere.
fn followed<'s>(scope: &Scope<'s>, schema: &'s Json) -> &'s Json {
    let reference = schema.get("$ref").and_then(Json::as_str);
    let target = reference.and_then(|reference| resolved(scope.root, reference));
    target.unwrap_or(schema)
}

fn exclude(scope: &Scope<'_>, one: &Json, other: &Json) -> bool {
    let types = |schema: &Json| schema.get("type").and_then(Json::as_str).map(str::to_owned);
    if let (Some(one), Some(other)) = (types(one), types(other)) {
        let numbers = |name: &str| name == "integer" || name == "number";
        if one != other && !(numbers(&one) && numbers(&other)) {
            return true;
        }
    }
    if let (Some(one), Some(other)) = (constant(one), constant(other)) {
        return differ(one, other);
    }
    let Some(Json::Object(properties)) = one.get("properties") else {
        return false;
    };
    properties.iter().any(|(name, property)| {
        let Some(counterpart) = { other.get("properties") }.and_then(|all| all.get(name)) else {
            return false;
        };
        let (property, counterpart) = (followed(scope, property), followed(scope, counterpart));
        let both = requires(one, name) && requires(other, name);
        match (constant(property), constant(counterpart)) {
            (Some(one), Some(other)) => both && differ(one, other),
            _ => false,
        }
    })
}

/// The one value of a schema, if it is no number: numbers are equal that are written in several ways.
fn constant(schema: &Json) -> Option<&Json> {
    let value = schema.get("const").or_else(|| match schema.get("enum") {
        Some(Json::List(list)) if list.len() == 1 => list.first(),
        _ => None,
    });
    value.filter(|value| {
        ["null", "boolean", "string"]
            .iter()
            .any(|name| is(value, name))
    })
}

fn differ(one: &Json, other: &Json) -> bool {
    one != other
}

fn requires(schema: &Json, name: &str) -> bool {
    let Some(Json::List(required)) = schema.get("required") else {
        return false;
    };
    { required.iter() }.any(|one| one.as_str() == Some(name))
}
