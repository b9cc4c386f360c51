//! The description of this sidecar's API in OpenAPI 3.1, made of the routes themselves.

use super::routes::{Route, routes};
use axum::Json;
use serde_json::{Map, Value, json};

/// `GET /openapi.json`
pub(super) async fn document() -> Json<Value> {
    let mut paths = Map::new();
    for route in routes() {
        let path = route.path.replace("{*", "{");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[route.method] = operation(&route);
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Chrysalis sidecar",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The OpenAI and the Anthropic API, answered by an attested worker. A field that is not known \
                is refused by name. Amounts are nanoTON in texts.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {"Error": error_schema()},
        },
        "security": [{"bearer": []}, {"key": []}],
    }))
}

fn operation(route: &Route) -> Value {
    let error = json!({"$ref": "#/components/schemas/Error"});
    let mut content = json!({route.answer: {}});
    if route.body.is_some_and(|fields| fields.contains(&"model")) && !route.path.contains("count") {
        content["text/event-stream"] = json!({});
    }
    let mut operation = json!({
        "summary": route.summary,
        "responses": {
            "200": {"description": "Done", "content": content},
            "default": {"description": "Refused or failed", "content": {"application/json": {"schema": error}}},
        },
    });
    if let Some(required) = route.body {
        let schema = json!({"type": "object", "required": required});
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    let in_path = { route.path.split(['{', '}']).skip(1).step_by(2) }
        .map(|name| json!({"name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = { route.query.iter() }
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if route.path == "/healthz" {
        operation["security"] = json!([]);
    }
    operation
}

/// As the OpenAI API has it. Below `/v1/messages` it is the Anthropic API's, with the same fields.
fn error_schema() -> Value {
    let text = json!({"type": ["string", "null"]});
    json!({"type": "object", "required": ["error"], "properties": {"error": {
        "type": "object", "required": ["message", "type"],
        "properties": {
            "message": {"type": "string"}, "type": {"type": "string"}, "code": text, "param": text,
            "x_job": {"type": "object", "properties": {
                "executed": {"enum": ["no", "maybe", "yes"]}, "retryable": {"type": "boolean"},
            }},
        },
    }}})
}
