//! CSV that spreadsheets can open without running what tenants wrote.

/// Appends one record (RFC 4180: CRLF, doubled quotes).
pub fn record<'a>(out: &mut String, fields: impl IntoIterator<Item = &'a str>) {
    let mut first = true;
    for field in fields {
        if !first {
            out.push(',');
        }
        first = false;
        push_field(out, field);
    }
    out.push_str("\r\n");
}

/// Spreadsheets take a cell that begins so for a formula; an apostrophe before it makes it text (OWASP, CSV injection).
fn is_formula(field: &str) -> bool {
    // Some programs trim before they look.
    let trimmed = field.trim_start_matches([' ', '\u{a0}', '\u{feff}']);
    trimmed
        .starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
        && !is_number(trimmed)
}

/// A plain number is no formula: a negative one stays a number.
fn is_number(field: &str) -> bool {
    field.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))
        && field.parse::<f64>().is_ok_and(f64::is_finite)
}

fn push_field(out: &mut String, field: &str) {
    let guard = if is_formula(field) { "'" } else { "" };
    let quote = !guard.is_empty()
        || field.contains([',', '"', '\r', '\n', ';', '\t'])
        || field.starts_with(' ')
        || field.ends_with(' ');
    if !quote {
        out.push_str(field);
        return;
    }
    out.push('"');
    out.push_str(guard);
    for c in field.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(field: &str) -> String {
        let mut out = String::new();
        record(&mut out, [field]);
        out.trim_end_matches("\r\n").to_owned()
    }

    /// Reads one record back, quotes undone.
    fn read(line: &str) -> Vec<String> {
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        let mut chars = line.strip_suffix("\r\n").unwrap().chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => field.push(chars.next().unwrap()),
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(std::mem::take(&mut field)),
                c => field.push(c),
            }
        }
        fields.push(field);
        fields
    }

    #[test]
    fn formulas_become_text() {
        for formula in [
            "=1+1",
            "+cmd|' /C calc'!A0",
            "-2+3",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            " =1",
            "＝1",
            "\n=HYPERLINK(1)",
        ] {
            assert!(one(formula).starts_with("\"'"), "{formula:?} -> {}", one(formula));
        }
    }

    #[test]
    fn plain_values_stay_as_they_are() {
        for plain in ["0.9", "-5", "-1.5e3", "text", "\u{e4}", "a-b", ""] {
            assert_eq!(one(plain), plain);
        }
        assert_eq!(one(r#"{"a":1,"b":2}"#), r#""{""a"":1,""b"":2}""#);
    }

    proptest! {
        #[test]
        fn every_record_reads_back(fields in proptest::collection::vec("[ -~\u{e4}\r\n\t]{0,12}", 1..6)) {
            let mut line = String::new();
            record(&mut line, fields.iter().map(String::as_str));
            let back = read(&line);
            prop_assert_eq!(back.len(), fields.len());
            for (back, field) in back.iter().zip(&fields) {
                let guarded = format!("'{field}");
                prop_assert!(back == field || *back == guarded);
                let unsafe_start = back.starts_with(['=', '@', '\t', '\r', '\n']);
                prop_assert!(!unsafe_start, "{:?}", back);
            }
        }
    }
}
