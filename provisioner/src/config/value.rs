//! What may be a value: JSON of bounded size and depth, kept as it was written.

use serde_json::{Value, value::RawValue};

use super::number::{DIGITS_MAX, holds_long_number};

/// Longest value, in bytes of its JSON text.
pub const VALUE_MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 64;
/// Longest reason, in characters.
pub const REASON_MAX: usize = 500;

/// Why something cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// Longer than [`VALUE_MAX_BYTES`].
    #[error("a value is at most {VALUE_MAX_BYTES} bytes of JSON")]
    TooLong,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("a value is nested at most {DEPTH_MAX} deep")]
    TooDeep,
    /// JSON that PostgreSQL or a reader cannot hold: the character U+0000, lone surrogates, numbers beyond a double.
    #[error("the value holds what cannot be stored: {0}")]
    Unstorable(&'static str),
    /// A number with more digits than [`DIGITS_MAX`] in plain decimal form.
    #[error("a number of a value has at most {DIGITS_MAX} digits when it is written without an exponent")]
    LongNumber,
    /// Longer than [`REASON_MAX`], or with control characters.
    #[error("a reason is at most {REASON_MAX} characters, without control characters")]
    Reason,
}

/// A value that was checked: its text, and what it says.
#[derive(Debug, Clone)]
pub struct ConfigValue {
    text: String,
    parsed: Value,
}

impl ConfigValue {
    /// Checks the JSON text.
    pub fn new(raw: &RawValue) -> Result<Self, InvalidValue> {
        let text = raw.get();
        if text.len() > VALUE_MAX_BYTES {
            return Err(InvalidValue::TooLong);
        }
        if depth(text) > DEPTH_MAX {
            return Err(InvalidValue::TooDeep);
        }
        if holds_long_number(text) {
            return Err(InvalidValue::LongNumber);
        }
        let parsed: Value = serde_json::from_str(text)
            .map_err(|_| InvalidValue::Unstorable("a number or an escape out of range"))?;
        if holds_nul(&parsed) {
            return Err(InvalidValue::Unstorable("the character U+0000"));
        }
        Ok(Self { text: text.to_owned(), parsed })
    }

    /// The JSON text, as it was sent: numbers keep their digits.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says, for validation.
    pub fn parsed(&self) -> &Value {
        &self.parsed
    }
}

/// Greatest depth of brackets outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// Checks why something was changed; without a reason it is empty.
pub fn reason(text: Option<String>) -> Result<String, InvalidValue> {
    let text = text.unwrap_or_default().trim().to_owned();
    if text.chars().count() > REASON_MAX || text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(InvalidValue::Reason);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<ConfigValue, InvalidValue> {
        ConfigValue::new(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn every_json_type_is_a_value_and_keeps_its_text() {
        for text in ["null", "true", "0.90", "12345678901234567890123", "\"x\"", "[1, 2]", "{\"a\":{}}"] {
            assert_eq!(check(text).unwrap().text(), text);
        }
    }

    #[test]
    fn limits_hold_exactly() {
        let string = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        assert!(check(&string(VALUE_MAX_BYTES)).is_ok());
        assert_eq!(check(&string(VALUE_MAX_BYTES + 1)).unwrap_err(), InvalidValue::TooLong);
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(check(&nested(DEPTH_MAX + 1)).unwrap_err(), InvalidValue::TooDeep);
        assert!(check(&format!("{:?}", "[{".repeat(100))).is_ok(), "brackets in strings do not nest");
        assert!(check("\"\\\\\"").is_ok());
    }

    #[test]
    fn what_postgresql_cannot_hold_is_refused() {
        for bad in ["\"\\u0000\"", "{\"\\u0000\":1}", "[\"a\\u0000b\"]", "\"\\ud800\""] {
            assert!(matches!(check(bad), Err(InvalidValue::Unstorable(_))), "{bad}");
        }
    }

    #[test]
    fn a_value_is_not_longer_in_postgresql_than_here() {
        let bomb = format!("[{}1]", "1e-16383,".repeat(6_000));
        assert!(bomb.len() < VALUE_MAX_BYTES);
        for bad in [bomb.as_str(), "{\"a\":1e300}", "1e999", "0e-16383"] {
            assert_eq!(check(bad).unwrap_err(), InvalidValue::LongNumber);
        }
        assert!(check("[1e63, 6.02e23, \"1e-16383\"]").is_ok());
    }

    #[test]
    fn reasons_are_short_text() {
        assert_eq!(reason(None).unwrap(), "");
        assert_eq!(reason(Some(" because ".into())).unwrap(), "because");
        assert_eq!(reason(Some("x".repeat(501))), Err(InvalidValue::Reason));
        assert_eq!(reason(Some("a\u{0}b".into())), Err(InvalidValue::Reason));
    }

    proptest! {
        #[test]
        fn depth_counts_what_serde_sees(depth_of in 0usize..60) {
            let text = format!("{}1{}", "{\"[\":[".repeat(depth_of), "]}".repeat(depth_of));
            prop_assert_eq!(depth(&text), depth_of * 2);
        }
    }
}
