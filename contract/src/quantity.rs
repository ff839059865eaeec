//! Kubernetes quantities, compared by value and not by spelling.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::cmp::Ordering;
use std::fmt;

/// A non-negative quantity, kept with its spelling. `1000m` equals `1`.
#[derive(Debug, Clone)]
pub struct Quantity {
    text: String,
    /// The value in thousandths, rounded up as Kubernetes does.
    milli: u128,
}

/// Not a non-negative Kubernetes quantity below 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a non-negative Kubernetes quantity such as 10, 500m or 20Gi")]
pub struct InvalidQuantity;

/// Suffix, multiplier of thousandths as numerator and denominator.
const SUFFIXES: [(&str, u128, u128); 16] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1000),
    ("k", 1000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
    ("", 1, 1),
];

impl Quantity {
    /// The value in thousandths of the unit (milli-cores, milli-bytes), rounded up.
    pub fn milli(&self) -> u128 {
        self.milli
    }

    /// The quantity as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parse_milli(text: &str) -> Option<u128> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || number.len() > 30 || fraction.contains('.') {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse::<u128>().ok()?;
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let (up, down) = match suffix.strip_prefix(['e', 'E']).filter(|exponent| !exponent.is_empty()) {
            Some(exponent) if exponent != "i" => match exponent.parse::<i32>().ok()? {
                power @ 0..=18 => (10u128.pow(power.unsigned_abs()), 1),
                power @ -9..=-1 => (1, 10u128.pow(power.unsigned_abs())),
                _ => return None,
            },
            _ => SUFFIXES.iter().find(|entry| entry.0 == suffix).map(|entry| (entry.1, entry.2))?,
        };
        let numerator = digits.checked_mul(up)?.checked_mul(1000)?;
        let milli = numerator.div_ceil(scale.checked_mul(down)?);
        (milli <= (1u128 << 63) * 1000).then_some(milli)
    }
}

impl std::str::FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let milli = Self::parse_milli(text).ok_or(InvalidQuantity)?;
        Ok(Self { text: text.to_owned(), milli })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.milli.cmp(&other.milli)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|_| panic!("{text} is a quantity"))
    }

    #[test]
    fn spellings_of_one_value_are_equal() {
        for (a, b) in [
            ("1", "1000m"),
            ("20Gi", "21474836480"),
            ("1e3", "1k"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("2E", "2e18"),
            ("1Ei", "1024Pi"),
        ] {
            assert_eq!(quantity(a), quantity(b), "{a} = {b}");
        }
        assert!(quantity("10") < quantity("10001m"));
        assert!(quantity("1n") > quantity("0"), "rounded up, as Kubernetes does");
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for bad in
            ["", "-1", "1 Gi", "Gi", ".", "1.2.3", "1Xi", "1e99", "99999999999999999999Ei", "0x1", "1\u{0}"]
        {
            assert!(bad.parse::<Quantity>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decided_without_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn numbers_keep_their_order(a in 0u64..1 << 40, b in 0u64..1 << 40) {
            prop_assert_eq!(quantity(&a.to_string()).cmp(&quantity(&format!("{b}000m"))), a.cmp(&b));
        }
    }
}
