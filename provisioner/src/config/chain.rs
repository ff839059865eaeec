//! The hash chain of an organization's history, computed apart from the database that keeps it.
//!
//! An export of the history holds all that a verifier needs: whoever has an earlier head hash can tell whether anything
//! before it was changed, added or left out. The text that is hashed is defined in migration 0005.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

/// A SHA-256.
pub type Hash = [u8; 32];

/// One entry of the history, as it is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The organization.
    pub organization: Uuid,
    /// Its place in the organization's history, from 1.
    pub seq: i64,
    /// The service.
    pub service: String,
    /// The key.
    pub key: String,
    /// The key's version after the change.
    pub version: i64,
    /// The organization's epoch.
    pub epoch: i64,
    /// The organization's revision.
    pub revision: i64,
    /// The value before, as PostgreSQL writes its `jsonb`.
    pub old_value: Option<String>,
    /// The value after, likewise; none for a deletion.
    pub new_value: Option<String>,
    /// Whether the change is a deletion.
    pub deleted: bool,
    /// Who.
    pub changed_by: String,
    /// When.
    pub changed_at: OffsetDateTime,
    /// Why.
    pub reason: Option<String>,
    /// The hash of the entry before.
    pub prev_hash: Vec<u8>,
    /// The hash of this entry.
    pub hash: Vec<u8>,
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The numbers have a gap, or an entry was added.
    #[error("entry {expected} is missing: {found} follows")]
    Gap {
        /// The number that should have come.
        expected: i64,
        /// The one that came.
        found: i64,
    },
    /// The entry does not follow the one before it.
    #[error("entry {seq} does not follow the entry before it")]
    Link {
        /// Its number.
        seq: i64,
    },
    /// The entry's content is not what was hashed.
    #[error("entry {seq} was changed")]
    Content {
        /// Its number.
        seq: i64,
    },
}

/// Verifies a chain bit by bit, oldest entry first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    next_seq: i64,
    head: Vec<u8>,
}

impl Default for Verifier {
    /// At the beginning of a history.
    fn default() -> Self {
        Self { next_seq: 1, head: Sha256::digest(b"").to_vec() }
    }
}

impl Verifier {
    /// Takes the next entry.
    pub fn push(&mut self, entry: &Entry) -> Result<(), Broken> {
        if entry.seq != self.next_seq {
            return Err(Broken::Gap { expected: self.next_seq, found: entry.seq });
        }
        if entry.prev_hash != self.head {
            return Err(Broken::Link { seq: entry.seq });
        }
        if entry.hash != hash(entry) {
            return Err(Broken::Content { seq: entry.seq });
        }
        self.next_seq += 1;
        self.head.clone_from(&entry.hash);
        Ok(())
    }

    /// The hash of the newest entry taken: worth keeping somewhere else.
    pub fn head(&self) -> &[u8] {
        &self.head
    }
}

/// Verifies a whole history, oldest first, and gives its head.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Vec<u8>, Broken> {
    let mut verifier = Verifier::default();
    for entry in entries {
        verifier.push(entry)?;
    }
    Ok(verifier.head)
}

/// The hash that the entry should have.
pub fn hash(entry: &Entry) -> Hash {
    let mut digest = Sha256::new();
    digest.update(&entry.prev_hash);
    digest.update(text(entry));
    digest.finalize().into()
}

/// The `jsonb` array of migration 0005, as PostgreSQL writes it.
fn text(entry: &Entry) -> String {
    let at = entry.changed_at.to_offset(UtcOffset::UTC);
    let at = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    );
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    let parts = [
        quoted(&entry.organization.to_string()),
        entry.seq.to_string(),
        quoted(&entry.service),
        quoted(&entry.key),
        entry.version.to_string(),
        entry.epoch.to_string(),
        entry.revision.to_string(),
        entry.old_value.is_none().to_string(),
        value(&entry.old_value),
        entry.new_value.is_none().to_string(),
        value(&entry.new_value),
        entry.deleted.to_string(),
        quoted(&entry.changed_by),
        quoted(&at),
        entry.reason.as_deref().map_or_else(|| "null".to_owned(), quoted),
    ];
    format!("[{}]", parts.join(", "))
}

/// A JSON string with PostgreSQL's choice of escapes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: i64) -> Entry {
        Entry {
            organization: Uuid::from_u128(7),
            seq,
            service: "ai".into(),
            key: "threshold".into(),
            version: seq,
            epoch: 1,
            revision: seq,
            old_value: (seq > 1).then(|| "0.75".into()),
            new_value: Some("0.9".into()),
            deleted: false,
            changed_by: "a@b.example".into(),
            changed_at: OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap(),
            reason: None,
            prev_hash: Vec::new(),
            hash: Vec::new(),
        }
    }

    fn chain(length: i64) -> Vec<Entry> {
        let mut head = Sha256::digest(b"").to_vec();
        (1..=length)
            .map(|seq| {
                let mut entry = entry(seq);
                entry.prev_hash = head.clone();
                entry.hash = hash(&entry).to_vec();
                head.clone_from(&entry.hash);
                entry
            })
            .collect()
    }

    #[test]
    fn an_untouched_chain_verifies() {
        let chain = chain(5);
        assert_eq!(verify(&chain).unwrap(), chain[4].hash);
    }

    #[test]
    fn the_hashed_text_is_what_postgresql_writes() {
        let mut entry = entry(2);
        entry.reason = Some("line\none \"two\" \u{1}ä".into());
        assert_eq!(
            text(&entry),
            "[\"00000000-0000-0000-0000-000000000007\", 2, \"ai\", \"threshold\", 2, 1, 2, false, 0.75, false, 0.9, \
             false, \"a@b.example\", \"2027-01-15T08:00:00.000000\", \"line\\none \\\"two\\\" \\u0001ä\"]"
        );
    }

    /// Ways to falsify one entry.
    const FORGERIES: [fn(&mut Entry); 10] = [
        |e| e.service.push('x'),
        |e| e.key.push('x'),
        |e| e.version += 1,
        |e| e.revision += 1,
        |e| e.old_value = None,
        |e| e.new_value = Some("0.91".into()),
        |e| e.deleted = !e.deleted,
        |e| e.changed_by = "c@d.example".into(),
        |e| e.changed_at += time::Duration::microseconds(1),
        |e| e.reason = Some(String::new()),
    ];

    proptest! {
        #[test]
        fn any_change_to_any_entry_is_found(length in 2i64..8, at in 0usize..8, forgery in 0usize..FORGERIES.len()) {
            let mut chain = chain(length);
            let at = at % chain.len();
            FORGERIES[forgery](&mut chain[at]);
            // An old value of the first entry that was none stays none.
            prop_assume!(chain[at].hash != hash(&chain[at]));
            prop_assert_eq!(verify(&chain), Err(Broken::Content { seq: chain[at].seq }));
            // Hashing the forged entry anew breaks the link of the one after it.
            chain[at].hash = hash(&chain[at]).to_vec();
            if at + 1 < chain.len() {
                prop_assert_eq!(verify(&chain), Err(Broken::Link { seq: chain[at + 1].seq }));
            }
        }

        #[test]
        fn a_missing_entry_is_found(length in 2i64..8, at in 0usize..8) {
            let mut chain = chain(length);
            let at = at % (chain.len() - 1);
            chain.remove(at);
            prop_assert!(verify(&chain).is_err());
        }
    }
}
