//! Durations as people write them: `30s`, `500ms`, `5m`, or a bare number of seconds.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number with ms, s, m or h, or a bare number of seconds, for example 30s")]
pub struct InvalidDuration;

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    let milliseconds_per_unit = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(InvalidDuration),
    };
    number.checked_mul(milliseconds_per_unit).map(Duration::from_millis).ok_or(InvalidDuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_forms() {
        for (text, milliseconds) in
            [("30s", 30_000), ("500ms", 500), ("5m", 300_000), ("2", 2_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5s", "5 s", "5d", "99999999999999999999", "18446744073709551615h"] {
            assert_eq!(parse(bad), Err(InvalidDuration), "{bad}");
        }
    }
}
