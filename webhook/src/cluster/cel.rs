//! Text of CEL expressions: literals and lists of them.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_a_literal() {
        assert_eq!(string(r"it's a \ and"), r"'it\'s a \\ and'");
        assert_eq!(string("a\nb"), r"'a\nb'");
        assert_eq!(strings(["a", "b'"]), r"['a', 'b\'']");
        assert_eq!(strings::<&str>([]), "[]");
    }
}
