//! JSON Schemas of values, bounded so that no tenant's schema can occupy the program.
//!
//! References stay within the schema and do not recurse, and their full expansion is bounded: the work of a check is then
//! bounded by the product of the sizes of schema and value, and so is that product. Patterns run on an engine of linear time.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::number::{DIGITS_MAX, holds_long_number};

/// Longest schema, in bytes of its JSON text.
pub const SCHEMA_MAX_BYTES: usize = 32 * 1024;
/// Most JSON nodes of a schema with its references expanded.
const EXPANDED_NODES_MAX: usize = 4_000;
/// What a pattern counts for in nodes: it reads a text by bytes, and keeps several of its own states for each.
const PATTERN_NODES: usize = 32;
/// Largest compiled pattern, in bytes.
const PATTERN_MAX_BYTES: usize = 256 << 10;
/// Most work of one check: nodes of the expanded schema, times nodes and bytes of text of the value. A schema of 100 nodes
/// fits any value; with one of 4,000 nodes a value may have 2,000.
const WORK_MAX: usize = 8_000_000;
/// Most failures that are told.
const VIOLATIONS_MAX: usize = 20;
/// Keywords that name schemas elsewhere, or recurse by design.
const FORBIDDEN: [&str; 6] =
    ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$id", "$anchor"];

/// Where a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON Pointer to the place in the value; empty for the value itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Longer than [`SCHEMA_MAX_BYTES`].
    #[error("a schema is at most {SCHEMA_MAX_BYTES} bytes of JSON")]
    TooLong,
    /// Its expansion is too large.
    #[error("a schema has at most {EXPANDED_NODES_MAX} nodes with its references expanded")]
    TooLarge,
    /// A number with too many digits.
    #[error("a number of a schema has at most {DIGITS_MAX} digits when it is written without an exponent")]
    LongNumber,
    /// A check would be too much work.
    #[error(
        "schema and value are too large for each other: the nodes of the schema, references expanded and a pattern for \
         {PATTERN_NODES}, times the nodes and characters of the value are at most {WORK_MAX}, and would be {0}"
    )]
    TooMuchWork(usize),
    /// A reference that leaves the schema, or a keyword that does.
    #[error("{0} is not allowed: references are \"#\" with a JSON Pointer into the same schema")]
    Remote(String),
    /// A reference that leads back to itself.
    #[error("the reference {0} recurses")]
    Recursive(String),
    /// A reference to nothing.
    #[error("the reference {0} leads nowhere")]
    Dangling(String),
    /// Not a JSON Schema.
    #[error("not a JSON Schema: {0}")]
    Malformed(String),
}

/// A schema ready to check values.
#[derive(Debug)]
pub struct Schema {
    validator: jsonschema::Validator,
    nodes: usize,
}

/// Reads a schema that somebody wants to set. What is written, and not what it is parsed to, tells how long its numbers are.
pub fn read(raw: &RawValue) -> Result<Value, SchemaError> {
    if raw.get().len() > SCHEMA_MAX_BYTES {
        return Err(SchemaError::TooLong);
    }
    if holds_long_number(raw.get()) {
        return Err(SchemaError::LongNumber);
    }
    serde_json::from_str(raw.get()).map_err(|error| SchemaError::Malformed(error.to_string()))
}

impl Schema {
    /// Checks and compiles a schema. Without `$schema` it is of draft 2020-12.
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        if !(schema.is_object() || schema.is_boolean()) {
            return Err(SchemaError::Malformed("a schema is an object, true or false".into()));
        }
        if schema.to_string().len() > SCHEMA_MAX_BYTES {
            return Err(SchemaError::TooLong);
        }
        let mut expansion = Expansion { root: schema, trail: Vec::new(), nodes: 0 };
        expansion.walk(schema)?;
        let nodes = expansion.nodes;
        let patterns = jsonschema::PatternOptions::regex().size_limit(PATTERN_MAX_BYTES);
        let built = jsonschema::options().offline().with_pattern_options(patterns).build(schema);
        built.map(|validator| Self { validator, nodes }).map_err(|error| {
            SchemaError::Malformed(format!("{} at {:?}", error.masked(), error.instance_path().as_str()))
        })
    }

    /// Where `value` does not fit; empty when it does. An error says that checking it would be too much work.
    pub fn violations(&self, value: &Value) -> Result<Vec<Violation>, SchemaError> {
        let work = self.nodes.saturating_mul(weight(value));
        if work > WORK_MAX {
            return Err(SchemaError::TooMuchWork(work));
        }
        // Telling all that is wrong takes more than finding that nothing is.
        if self.validator.is_valid(value) {
            return Ok(Vec::new());
        }
        let told = |error: jsonschema::ValidationError<'_>| Violation {
            path: error.instance_path().as_str().to_owned(),
            message: error.masked().to_string(),
        };
        Ok(self.validator.iter_errors(value).take(VIOLATIONS_MAX).map(told).collect())
    }
}

/// Nodes of a value, and bytes of its texts.
fn weight(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(name, member)| name.len() + weight(member)).sum(),
        _ => 0,
    }
}

/// Walks a schema through its references and counts.
struct Expansion<'a> {
    root: &'a Value,
    trail: Vec<&'a str>,
    nodes: usize,
}

impl<'a> Expansion<'a> {
    fn walk(&mut self, node: &'a Value) -> Result<(), SchemaError> {
        self.count(1)?;
        match node {
            Value::Array(items) => items.iter().try_for_each(|item| self.walk(item)),
            Value::Object(members) => members.iter().try_for_each(|(name, member)| match member {
                Value::String(target) if name == "$ref" => self.follow(target),
                Value::String(_) if name == "pattern" => self.count(PATTERN_NODES),
                Value::Object(patterns) if name == "patternProperties" => {
                    self.count(patterns.len().saturating_mul(PATTERN_NODES))?;
                    self.walk(member)
                }
                Value::String(target) if FORBIDDEN.contains(&name.as_str()) => {
                    Err(SchemaError::Remote(format!("{name} {target:?}")))
                }
                member => self.walk(member),
            }),
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), SchemaError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > EXPANDED_NODES_MAX {
            return Err(SchemaError::TooLarge);
        }
        Ok(())
    }

    fn follow(&mut self, target: &'a str) -> Result<(), SchemaError> {
        let pointer =
            target.strip_prefix('#').ok_or_else(|| SchemaError::Remote(format!("$ref {target:?}")))?;
        if self.trail.contains(&target) {
            return Err(SchemaError::Recursive(target.to_owned()));
        }
        // Percent signs would make two spellings of one place.
        if pointer.contains('%') || !(pointer.is_empty() || pointer.starts_with('/')) {
            return Err(SchemaError::Remote(format!("$ref {target:?}")));
        }
        let root = self.root;
        let node = root.pointer(pointer).ok_or_else(|| SchemaError::Dangling(target.to_owned()))?;
        self.trail.push(target);
        self.walk(node)?;
        self.trail.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bad_value_is_told_by_path() {
        let schema = Schema::new(&json!({
            "type": "object", "required": ["name"],
            "properties": {"limits": {"items": {"type": "number", "maximum": 1}}},
        }))
        .unwrap();
        assert!(schema.violations(&json!({"name": "x", "limits": [0.5]})).unwrap().is_empty());
        let paths: Vec<_> = schema
            .violations(&json!({"limits": [0.5, 2]}))
            .unwrap()
            .into_iter()
            .map(|violation| violation.path)
            .collect();
        assert_eq!(paths.len(), 2);
        assert!(paths.contains(&"/limits/1".to_owned()) && paths.contains(&String::new()), "{paths:?}");
    }

    #[test]
    fn messages_do_not_repeat_the_value() {
        let schema = Schema::new(&json!({"type": "number"})).unwrap();
        let told = schema.violations(&json!("secret-text")).unwrap();
        assert!(!told[0].message.contains("secret-text"), "{told:?}");
    }

    #[test]
    fn references_stay_inside() {
        for target in
            ["https://example.com/s.json", "file:///etc/passwd", "other.json#/a", "#name", "#/$defs/a%20b"]
        {
            let refused = Schema::new(&json!({"$ref": target, "$defs": {"a b": {}}}));
            assert!(matches!(refused, Err(SchemaError::Remote(_))), "{target}");
        }
        for keyword in FORBIDDEN {
            assert!(matches!(Schema::new(&json!({keyword: "#x"})), Err(SchemaError::Remote(_))), "{keyword}");
        }
        let inside = Schema::new(&json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}})).unwrap();
        assert_eq!(inside.violations(&json!("x")).unwrap().len(), 1);
        assert_eq!(
            Schema::new(&json!({"$ref": "#/$defs/n"})).unwrap_err(),
            SchemaError::Dangling("#/$defs/n".into())
        );
    }

    #[test]
    fn recursion_and_doubling_are_refused() {
        assert!(matches!(Schema::new(&json!({"$ref": "#"})), Err(SchemaError::Recursive(_))));
        let cycle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}});
        assert!(matches!(Schema::new(&cycle), Err(SchemaError::Recursive(_))));
        let mut defs = serde_json::Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            defs.insert(format!("d{level}"), json!({"allOf": [next.clone(), next]}));
        }
        defs.insert("d40".into(), json!({"type": "number"}));
        let doubling = json!({"$ref": "#/$defs/d0", "$defs": defs});
        assert_eq!(Schema::new(&doubling).unwrap_err(), SchemaError::TooLarge);
    }

    /// A schema of that many nodes that each look at the whole value, and fail it.
    fn repeated(keyword: &Value, times: usize) -> Schema {
        Schema::new(&json!({ "allOf": vec![keyword; times] })).unwrap()
    }

    #[test]
    fn schema_and_value_are_bounded_together() {
        let (large, small) = (json!(vec![0; 30_000]), json!(vec![0; 1_000]));
        let many = repeated(&json!({"items": {"type": "number"}}), 1_000);
        assert!(matches!(many.violations(&large), Err(SchemaError::TooMuchWork(_))));
        assert!(many.violations(&small).unwrap().is_empty());
        let few = repeated(&json!({"items": {"type": "number"}}), 20);
        assert!(few.violations(&large).unwrap().is_empty());
        let patterns = repeated(&json!({"pattern": "^(a|b)*c"}), 10);
        assert!(matches!(patterns.violations(&json!("a".repeat(60_000))), Err(SchemaError::TooMuchWork(_))));
        assert_eq!(patterns.violations(&json!("a".repeat(1_000))).unwrap().len(), 10);
    }

    #[test]
    fn a_schema_is_not_longer_in_postgresql_than_here() {
        let raw = |text: &str| read(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(raw("{\"enum\": [1e-300, 1]}").unwrap_err(), SchemaError::LongNumber);
        assert_eq!(raw(&format!("{:?}", "x".repeat(SCHEMA_MAX_BYTES))).unwrap_err(), SchemaError::TooLong);
        assert!(matches!(raw("\"\\ud800\""), Err(SchemaError::Malformed(_))));
        assert_eq!(raw("{\"maximum\": 1e9}").unwrap(), json!({"maximum": 1e9}));
    }

    #[test]
    fn size_and_form_are_checked() {
        assert_eq!(
            Schema::new(&json!({"title": "x".repeat(SCHEMA_MAX_BYTES)})).unwrap_err(),
            SchemaError::TooLong
        );
        assert!(matches!(Schema::new(&json!({"type": "numbr"})), Err(SchemaError::Malformed(_))));
        assert!(matches!(Schema::new(&json!([])), Err(SchemaError::Malformed(_))));
        let huge = json!({"pattern": "(a{1000}){1000}"});
        assert!(matches!(Schema::new(&huge), Err(SchemaError::Malformed(_))));
    }
}
