//! Schemas: what is written satisfies them, and what cannot be held to is refused with its path.

use super::*;

/// A second opinion, of the keywords that these tests use.
fn satisfies(schema: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "object" => value.is_object(),
        _ => value.is_array(),
    };
    let number = |name: &str, fits: &dyn Fn(f64, f64) -> bool| match (&schema[name], value.as_f64())
    {
        (Value::Number(bound), Some(value)) => fits(value, bound.as_f64().unwrap()),
        _ => true,
    };
    let size = |low: &str, high: &str, size: Option<usize>| {
        let bound =
            |name: &str, absent| schema[name].as_u64().map_or(absent, |bound| bound as usize);
        size.is_none_or(|size| (bound(low, 0)..=bound(high, usize::MAX)).contains(&size))
    };
    let any = |name: &str| {
        { schema[name].as_array() }.is_none_or(|all| all.iter().any(|one| satisfies(one, value)))
    };
    let kind = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
        _ => true,
    };
    let properties = || {
        let Some(object) = value.as_object() else {
            return true;
        };
        let named = schema["properties"].as_object();
        let required = schema["required"].as_array().into_iter().flatten();
        object.iter().all(
            |(key, value)| match named.and_then(|named| named.get(key)) {
                Some(schema) => satisfies(schema, value),
                None => match &schema["additionalProperties"] {
                    Value::Bool(allowed) => *allowed,
                    Value::Null => true,
                    schema => satisfies(schema, value),
                },
            },
        ) && required
            .into_iter()
            .all(|name| object.contains_key(name.as_str().unwrap()))
    };
    let items = || match value.as_array() {
        None => true,
        Some(list) => match schema["prefixItems"].as_array() {
            Some(prefix) => prefix
                .iter()
                .zip(list)
                .all(|(schema, item)| satisfies(schema, item)),
            None => list
                .iter()
                .all(|item| schema["items"].is_null() || satisfies(&schema["items"], item)),
        },
    };
    (kind || (schema["nullable"] == true && value.is_null()))
        && schema["enum"]
            .as_array()
            .is_none_or(|all| all.contains(value))
        && schema.get("const").is_none_or(|constant| constant == value)
        && any("anyOf")
        && any("oneOf")
        && number("minimum", &|value, bound| value >= bound)
        && number("maximum", &|value, bound| value <= bound)
        && number("exclusiveMinimum", &|value, bound| value > bound)
        && number("exclusiveMaximum", &|value, bound| value < bound)
        && size(
            "minLength",
            "maxLength",
            value.as_str().map(|text| text.chars().count()),
        )
        && size("minItems", "maxItems", value.as_array().map(Vec::len))
        && properties()
        && items()
}

/// Properties stand in the order of the alphabet, in which some builds of `serde_json` keep them.
///
/// A schema, texts that satisfy it, and texts that do not.
fn cases() -> Vec<(Value, Vec<&'static str>, Vec<&'static str>)> {
    vec![
        (
            json!({"type": "object", "properties": {"age": {"type": "integer"}, "name": {"type": "string"}},
                "required": ["name", "age"], "additionalProperties": false}),
            vec![
                r#"{"age": -12, "name": "é hello\n"}"#,
                r#"{"age": 0, "name": ""}"#,
            ],
            vec![
                r#"{"name": "", "age": 1}"#,
                r#"{"name": "a"}"#,
                r#"{"age": 1.5, "name": ""}"#,
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"const": 1}},
                "required": ["b"]}),
            vec![
                r#"{"b": true}"#,
                r#"{"a": null, "b": false}"#,
                r#"{"a": null, "b": true, "c": 1}"#,
            ],
            vec![
                "{}",
                r#"{"a": null}"#,
                r#"{"a": null, "c": 1}"#,
                r#"{, "b": true}"#,
            ],
        ),
        (
            json!({"properties": {"a": {"type": "null"}, "b": {"type": "null"}}}),
            vec![
                "{}",
                r#"{"a": null}"#,
                r#"{"b": null}"#,
                r#"{"a": null, "b": null}"#,
            ],
            vec![r#"{"a": null,}"#],
        ),
        (
            json!({"type": "array", "items": {"type": "number", "minimum": -1, "exclusiveMaximum": 12}, "minItems": 1, "maxItems": 3}),
            vec!["[0]", "[-1, 11.999, 3]", "[-0.25]"],
            vec!["[]", "[12]", "[-1.5]", "[1, 2, 3, 4]", "[01]"],
        ),
        (
            json!({"type": "integer", "minimum": 8, "maximum": 1234}),
            vec!["8", "10", "999", "1234"],
            vec!["7", "1235", "2000", "08", "-9"],
        ),
        (
            json!({"type": "integer", "exclusiveMinimum": -101, "exclusiveMaximum": 0}),
            vec!["-1", "-100", "-57"],
            vec!["0", "-101", "-0", "5"],
        ),
        (
            json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
            vec!["1", "0.5", "0.000001"],
            vec!["0", "0.0", "1.5", "-0.5"],
        ),
        (
            json!({"type": "string", "minLength": 2, "maxLength": 4}),
            vec![r#""éé""#, r#""\n🦋a""#, r#""name""#],
            vec![r#""a""#, r#""hello""#, "name"],
        ),
        (
            json!({"enum": ["red", "green", 7, null, {"a": [1, 2]}]}),
            vec![r#""red""#, "7", "null", r#"{"a": [1, 2]}"#],
            vec![r#""blue""#, "red", "8"],
        ),
        (
            json!({"anyOf": [{"type": "string", "enum": ["x"]}, {"type": ["integer", "null"]}], "description": "d"}),
            vec![r#""x""#, "5", "null"],
            vec![r#""y""#, "true"],
        ),
        (
            json!({"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "cat"}, "legs": {"type": "integer"}}, "required": ["kind", "legs"]},
                {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]}]}),
            vec![r#"{"kind": "cat", "legs": 3}"#, r#"{"kind": "dog"}"#],
            vec![r#"{"kind": "cat"}"#, r#"{"kind": "cow"}"#],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            vec!["{}", r#"{"x": 1, "y": -2}"#],
            vec![r#"{"x": "a"}"#],
        ),
        (
            json!({"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "integer"}]}),
            vec!["[true, 5]"],
            vec!["[true]", "[5, true]", "[true, 5, 6]"],
        ),
        (
            json!({"type": "string", "nullable": true}),
            vec!["null", r#""""#],
            vec!["1"],
        ),
        (
            json!({"type": "object", "properties": {"any": {}, "meta": {"type": "object"}}, "required": ["meta", "any"]}),
            vec![
                r#"{"any": "x", "meta": {"k": [1]}}"#,
                r#"{"any": {}, "meta": {}}"#,
            ],
            vec![r#"{"any": 1, "meta": 1}"#],
        ),
    ]
}

#[test]
fn what_is_written_satisfies_the_schema_and_every_sample_can_be_written() {
    let text = plain();
    for (schema, good, bad) in cases() {
        let grammar = of_schema(&text, &schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
        for good in good {
            let value = serde_json::from_str(good).unwrap();
            assert!(
                satisfies(&schema, &value),
                "the test's own check: {schema}: {good}"
            );
            assert!(writes(&text, &grammar, good), "{schema}: {good}");
        }
        for bad in bad {
            assert!(!writes(&text, &grammar, bad), "{schema}: {bad}");
        }
        for walked in walked(&text, &grammar, 60) {
            let value = serde_json::from_str(&walked);
            let value = value.unwrap_or_else(|error| panic!("{schema}: {walked}: {error}"));
            assert!(satisfies(&schema, &value), "{schema}: {walked}");
        }
    }
}

#[test]
fn references_lead_to_definitions() {
    let text = plain();
    let schema = json!({"$defs": {"point": {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 2, "maxItems": 2},
        "n": {"type": "integer"}}, "type": "object", "properties": {"from": {"$ref": "#/$defs/point", "description": "d"}},
        "required": ["from"]});
    let grammar = of_schema(&text, &schema).unwrap();
    assert!(writes(&text, &grammar, r#"{"from": [1, 2]}"#));
    assert!(!writes(&text, &grammar, r#"{"from": [1]}"#));
}

#[test]
fn patterns_and_formats_are_those_of_the_value_and_not_of_its_json() {
    let text = plain();
    for (schema, good, bad) in [
        (
            json!({"pattern": "^[A-Z]{2}[0-9]$"}),
            &[r#""AB1""#][..],
            &[r#""AB""#, r#""xAB1""#][..],
        ),
        (
            json!({"pattern": "b"}),
            &[r#""b""#, r#""abc""#],
            &[r#""ac""#],
        ),
        (
            json!({"pattern": r#"^["\\/]+$"#}),
            &[r#""\"\\/""#],
            &[r#"""""#, r#""a""#],
        ),
        (
            json!({"pattern": "^[^a]$"}),
            &[r#""b""#, r#""\n""#, r#""\"""#],
            &[r#""a""#, "\"\n\""],
        ),
        (
            json!({"format": "date"}),
            &[r#""2024-02-29""#, r#""1999-12-31""#],
            &[r#""2023-02-29""#, r#""1900-02-29""#, r#""2024-13-01""#],
        ),
        (
            json!({"format": "date-time"}),
            &[
                r#""2024-02-29T23:59:59.5Z""#,
                r#""2024-01-01T00:00:00+01:30""#,
            ],
            &[r#""2024-01-01""#],
        ),
        (
            json!({"format": "time"}),
            &[r#""12:00:00Z""#],
            &[r#""24:00:00Z""#],
        ),
        (
            json!({"format": "uuid"}),
            &[r#""123e4567-e89b-12d3-a456-426614174000""#],
            &[r#""123e4567""#],
        ),
        (
            json!({"format": "ipv4"}),
            &[r#""255.0.10.1""#],
            &[r#""256.0.0.1""#, r#""01.0.0.1""#],
        ),
        (
            json!({"format": "email"}),
            &[r#""a.b@c-d.org""#],
            &[r#""a@b""#, r#""@c.org""#],
        ),
    ] {
        let mut schema = schema;
        schema["type"] = json!("string");
        let grammar = of_schema(&text, &schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
        for good in good {
            assert!(writes(&text, &grammar, good), "{schema}: {good}");
        }
        for bad in bad {
            assert!(!writes(&text, &grammar, bad), "{schema}: {bad}");
        }
    }
}

#[test]
fn what_cannot_be_held_to_is_refused_with_its_path() {
    let text = plain();
    let wide: serde_json::Map<_, _> = (0..60)
        .map(|n| (format!("property_{n}"), json!({"type": "string"})))
        .collect();
    let doubling: serde_json::Map<_, _> = (0..40)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            (format!("d{n}"), json!({"anyOf": [next, next]}))
        })
        .chain([("d40".to_owned(), json!({"type": "null"}))])
        .collect();
    for (schema, at, says) in [
        (
            json!({"type": "string", "pattern": "("}),
            "s.pattern",
            "regular expression",
        ),
        (
            json!({"properties": {"a": {"type": "string", "pattern": "(?!x)"}}}),
            "s.properties.a.pattern",
            "not supported",
        ),
        (
            json!({"properties": {"a": {"type": "text"}}}),
            "s.properties.a.type",
            "may be string",
        ),
        (
            json!({"items": {"not": {}}}),
            "s.items.not",
            "is not supported",
        ),
        (
            json!({"type": "string", "format": "uri"}),
            "s.format",
            "is not supported",
        ),
        (
            json!({"type": "string", "pattern": "a", "maxLength": 3}),
            "s.maxLength",
            "beside `pattern`",
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            "s.multipleOf",
            "is not supported",
        ),
        (
            json!({"type": "number", "minimum": 0.5}),
            "s.minimum",
            "whole number",
        ),
        (
            json!({"type": "integer", "minimum": i64::MIN}),
            "s.minimum",
            "15 digits",
        ),
        (
            json!({"type": "integer", "maximum": u64::MAX}),
            "s.maximum",
            "15 digits",
        ),
        (
            json!({"oneOf": vec![json!({"type": "null"}); 2000]}),
            "s.oneOf",
            "1 to 1024",
        ),
        (
            json!({"type": "array", "uniqueItems": true}),
            "s.uniqueItems",
            "is not supported",
        ),
        (
            json!({"type": "array", "minItems": 99999}),
            "s.minItems",
            "0 to 1024",
        ),
        (
            json!({"type": "object", "patternProperties": {}}),
            "s.patternProperties",
            "is not supported",
        ),
        (
            json!({"properties": {"a": {}}, "required": ["b"]}),
            "s.required",
            "names in `properties`",
        ),
        (json!({"$ref": "#"}), "s.$ref", "recursive"),
        (
            json!({"$ref": "https://example.org/x"}),
            "s.$ref",
            "in this schema",
        ),
        (json!({"$ref": "#/$defs/none"}), "s.$ref", "in this schema"),
        (
            json!({"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}),
            "s.$ref.properties.next.$ref",
            "recursive",
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            "s.oneOf[1]",
            "use anyOf",
        ),
        (
            json!({"oneOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}}}]}),
            "s.oneOf[1]",
            "use anyOf",
        ),
        (json!({"allOf": [{}, {}]}), "s.allOf", "one schema"),
        (json!({"anyOf": []}), "s.anyOf", "1 to 1024"),
        (
            json!({"type": "string", "anyOf": [{}]}),
            "s.type",
            "is not supported",
        ),
        (json!({"minLength": 3}), "s.minLength", "is not supported"),
        (
            json!({"enum": ["a"], "type": "integer"}),
            "s",
            "allows no text",
        ),
        (
            json!({"type": "integer", "minimum": 5, "maximum": 4}),
            "s",
            "allows no text",
        ),
        (json!(false), "s", "allows no text"),
        (
            json!({"type": "string", "minLength": 250, "maxLength": 300}),
            "s",
            "256 states",
        ),
        (json!({"properties": wide}), "s", "256 states"),
        (
            json!({"$defs": doubling, "$ref": "#/$defs/d0"}),
            "s.$ref",
            "deep",
        ),
    ] {
        let error = of_schema(&text, &schema).expect_err(&schema.to_string());
        let told = error.to_string();
        match at {
            // Somewhere below.
            "s.$ref" if says == "deep" => assert!(
                told.contains("deeper") || told.contains("too large"),
                "{told}"
            ),
            _ => assert!(error.at == at && told.contains(says), "{schema}: {told}"),
        }
    }
    let mut deep = json!({"type": "null"});
    for _ in 0..60 {
        deep = json!({"items": deep});
    }
    let error = of_schema(&text, &deep).unwrap_err();
    assert_eq!(error.flaw, FormFlaw::Deep(crate::limits::SCHEMA_DEPTH_MAX));
}
