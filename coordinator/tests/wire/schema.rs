//! The description of the API, as far as it uses JSON Schema, held against answers: both ways.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The description, and which properties of its schemas were seen in answers.
pub(crate) struct Description {
    document: Value,
    seen: BTreeSet<String>,
}

impl Description {
    pub(crate) fn new(document: Value) -> Self {
        Self { document, seen: BTreeSet::new() }
    }

    /// The operation of a path: its answer's schema by media type JSON; `None` where there is no such answer.
    pub(crate) fn has(&self, method: &str, path: &str) -> bool {
        self.document["paths"][path][method].is_object()
    }

    /// Every path with its methods.
    pub(crate) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().expect("paths");
        let methods = |(path, item): (&String, &Value)| {
            let methods: Vec<String> = item.as_object().expect("an item").keys().cloned().collect();
            methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(methods).collect()
    }

    /// Holds an answer of an operation against its schema.
    pub(crate) fn answer(&mut self, method: &str, path: &str, status: &str, value: &Value) {
        let schema =
            &self.document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} {status} is described");
        let schema = schema.clone();
        self.check(&schema, value, &format!("{method} {path}"));
    }

    /// Holds a value against a schema by name.
    pub(crate) fn value(&mut self, name: &str, value: &Value) {
        let schema = serde_json::json!({ "$ref": format!("#/components/schemas/{name}") });
        self.check(&schema, value, name);
    }

    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().expect("a name");
            let inner = self.document["components"]["schemas"][name].clone();
            assert!(inner.is_object(), "{at}: there is a schema {name}");
            return self.check(&inner, value, name);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let wanted = if value.is_null() { "null" } else { "object" };
            let is_null = |choice: &&Value| (choice["type"] == "null") == (wanted == "null");
            let choice =
                choices.iter().find(is_null).unwrap_or_else(|| panic!("{at}: {value} is none of the choices")).clone();
            return self.check(&choice, value, at);
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            other => panic!("{at}: a schema has a type, not {other}"),
        };
        assert!(types.iter().any(|wanted| is_of(wanted, value)), "{at}: {value} is no {types:?}");
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(allowed.contains(value), "{at}: {value} is none of {allowed:?}");
        }
        match value {
            Value::Object(object) => self.object(schema, object, at),
            Value::Array(items) => self.array(schema, items, at),
            _ => {}
        }
    }

    fn object(&mut self, schema: &Value, object: &Map<String, Value>, at: &str) {
        let Some(properties) = schema["properties"].as_object() else {
            let each = &schema["additionalProperties"];
            return object.iter().for_each(|(key, value)| self.check(each, value, &format!("{at}.{key}")));
        };
        for (key, value) in object {
            let inner = properties.get(key).unwrap_or_else(|| panic!("{at}: the field {key} is described"));
            self.seen.insert(format!("{at}.{key}"));
            self.check(inner, value, &format!("{at}.{key}"));
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(object.contains_key(key), "{at}: the field {key} is there");
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], at: &str) {
        for (index, item) in items.iter().enumerate() {
            let place = schema["prefixItems"].get(index).unwrap_or(&schema["items"]).clone();
            self.check(&place, item, at);
        }
    }

    /// Properties of all named schemas that no answer had.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let mut wanted = Vec::new();
        for (name, schema) in self.document["components"]["schemas"].as_object().expect("schemas") {
            properties(name, schema, &mut wanted);
        }
        wanted.retain(|property| !self.seen.contains(property));
        wanted
    }
}

/// The properties of a schema, those of what is inside it too.
fn properties(at: &str, schema: &Value, into: &mut Vec<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{at}.{key}");
        properties(&place, inner, into);
        properties(&place, &inner["items"], into);
        into.push(place);
    }
}

fn is_of(wanted: &str, value: &Value) -> bool {
    match wanted {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => false,
    }
}
