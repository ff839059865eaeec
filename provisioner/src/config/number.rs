//! Numbers as PostgreSQL's `jsonb` writes them: all digits, without an exponent. `1e-16383` is nine bytes here and 16 KiB
//! there, so that a value's size says nothing until its numbers are bounded.
//!
//! Works on JSON text: a parsed number no longer tells how it was written.

/// Most digits of a number in plain decimal form. A double needs 17, money and hashes of 128 bits fewer than 40.
pub const DIGITS_MAX: usize = 64;

/// Whether a number in this JSON text has more than [`DIGITS_MAX`] digits when it is written without an exponent.
pub fn holds_long_number(json: &str) -> bool {
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[start..];
        let length = if rest.starts_with('"') {
            string_length(rest)
        } else {
            let is_part = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
            let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
            if plain_digits(&rest[..length]) > DIGITS_MAX {
                return true;
            }
            length
        };
        rest = &rest[length..];
    }
    false
}

/// Bytes of the string that the text begins with, quotation marks included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Digits before and after the point, once the exponent is carried out. Zeros count: they are stored and printed too.
fn plain_digits(number: &str) -> usize {
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (smaller, magnitude) =
        exponent.strip_prefix('-').map_or((false, exponent.trim_start_matches('+')), |digits| (true, digits));
    // One that does not fit is long in any case; leading zeros do fit.
    let shift = magnitude.parse::<usize>().unwrap_or(usize::MAX);
    if smaller {
        whole.len().saturating_sub(shift).max(1).saturating_add(fraction.len()).saturating_add(shift)
    } else {
        whole.len().saturating_add(shift).saturating_add(fraction.len().saturating_sub(shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_as_they_are_printed() {
        let counted = [
            ("0", 1),
            ("-0", 1),
            ("-12.50", 4),
            ("1e3", 4),
            ("1E+3", 4),
            ("1.5e1", 2),
            ("1.5e3", 4),
            ("125e-2", 3),
            ("1e-3", 4),
            ("0e-3", 4),
            ("0.001e-0003", 7),
            ("1e-16383", 16_384),
            ("1e99999999999999999999", usize::MAX),
            ("0e-99999999999999999999", usize::MAX),
        ];
        for (number, digits) in counted {
            assert_eq!(plain_digits(number), digits, "{number}");
        }
    }

    #[test]
    fn long_numbers_are_found_wherever_they_stand() {
        let long = "7".repeat(DIGITS_MAX + 1);
        for bad in [
            long.as_str(),
            "1e64",
            "-1E-64",
            "0e-64",
            "1e-16383",
            "[1,2,1e-16383]",
            "{\"a\":{\"b\":-1e300}}",
            "[\"\\\\\",1e300]",
            "[\"\\\"\",1e300]",
            "[1 , 1e+00064]",
        ] {
            assert!(holds_long_number(bad), "{bad}");
        }
        let longest = "7".repeat(DIGITS_MAX);
        for good in [
            longest.as_str(),
            "1e63",
            "-1e-63",
            "0.90",
            "\"1e-16383\"",
            "{\"1e300\":[true,null,\"\\\"1e300\"]}",
        ] {
            assert!(!holds_long_number(good), "{good}");
        }
    }
}
