//! Text of CEL expressions: literals and lists of them.

use serde_json::Value;

/// A string literal.
pub fn string(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for character in text.chars() {
        match character {
            '\\' | '\'' => {
                literal.push('\\');
                literal.push(character);
            }
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            _ => literal.push(character),
        }
    }
    literal.push('\'');
    literal
}

/// A list of string literals.
pub fn strings<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let literals: Vec<String> = texts.into_iter().map(|text| string(text.as_ref())).collect();
    format!("[{}]", literals.join(", "))
}

/// A JSON value. Lists and maps may be of mixed types, as in JSON.
pub fn value(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| format!("dyn({})", self::value(item))).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entry =
                |(key, item): (&String, &Value)| format!("{}: dyn({})", string(key), self::value(item));
            let entries: Vec<String> = map.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_breaks_out_of_a_literal() {
        assert_eq!(string(r"it's a \ and"), r"'it\'s a \\ and'");
        assert_eq!(string("a\nb"), r"'a\nb'");
        assert_eq!(strings(["a", "b'"]), r"['a', 'b\'']");
        assert_eq!(strings::<&str>([]), "[]");
    }

    #[test]
    fn json_is_written_with_mixed_types() {
        let json = json!({"a": [1, "b", true], "c": {}});
        assert_eq!(value(&json), "{'a': dyn([dyn(1), dyn('b'), dyn(true)]), 'c': dyn({})}");
    }
}
