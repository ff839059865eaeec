//! The values in RAM, and the one rule by which they change: never an older version after a newer one.
//!
//! Pure: rows in, snapshot out. A snapshot never changes; a change makes the next one, which shares all entries that
//! stayed the same.

use std::sync::Arc;

use bytes::Bytes;
use contract::{ConfigKey, ServiceName};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

/// Where a commit stands in its organization's history. A restored database counts revisions again in a higher epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Raised when the database was restored to an earlier time.
    pub epoch: u64,
    /// Taken by each commit under the organization's row lock.
    pub revision: u64,
}

/// A row as read from the database.
#[derive(Debug, Clone)]
pub struct Row {
    /// The service.
    pub service: ServiceName,
    /// The key.
    pub key: ConfigKey,
    /// The value as JSON; `None` is a tombstone.
    pub value: Option<Box<RawValue>>,
    /// Strictly increasing per key within an epoch, tombstones included.
    pub version: u64,
    /// The commit that wrote it.
    pub at: Position,
    /// When it was written.
    pub updated_at: Timestamp,
}

/// One key's current state, with its document ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The service.
    pub service: ServiceName,
    /// The key.
    pub key: ConfigKey,
    /// Version of the value or tombstone.
    pub version: u64,
    /// The commit that wrote it.
    pub at: Position,
    /// When it was written.
    pub updated_at: Timestamp,
    /// `{service, key, value, version, updated_at}`; `None` is a tombstone.
    pub document: Option<Bytes>,
}

impl Entry {
    fn name(&self) -> (&str, &str) {
        (self.service.as_str(), self.key.as_str())
    }

    /// What decides which of two states of one key is newer.
    fn order(&self) -> (u64, u64) {
        (self.at.epoch, self.version)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    service: &'a ServiceName,
    key: &'a ConfigKey,
    value: &'a RawValue,
    version: u64,
    updated_at: Timestamp,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        let Row { service, key, value, version, at, updated_at } = row;
        let document = value.and_then(|value| {
            let document = Document { service: &service, key: &key, value: &value, version, updated_at };
            // Strings, numbers and checked JSON always serialise.
            serde_json::to_vec(&document).ok().map(Bytes::from)
        });
        Self { service, key, version, at, updated_at, document }
    }
}

/// All values at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest commit that was seen.
    pub position: Position,
    /// Sorted by service and key, one for each.
    entries: Vec<Arc<Entry>>,
}

impl Snapshot {
    /// All entries, tombstones included, sorted by service and key.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The entries of one service, tombstones included.
    pub fn service(&self, service: &str) -> &[Arc<Entry>] {
        let from = self.entries.partition_point(|entry| entry.service.as_str() < service);
        let length = self.entries[from..].partition_point(|entry| entry.service.as_str() == service);
        &self.entries[from..from + length]
    }

    /// One entry, which may be a tombstone.
    pub fn get(&self, service: &str, key: &str) -> Option<&Arc<Entry>> {
        self.find((service, key)).ok().map(|index| &self.entries[index])
    }

    fn find(&self, name: (&str, &str)) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.name().cmp(&name))
    }

    /// The snapshot after rows that are newer than [`Self::position`], or any others: older ones change nothing.
    #[must_use]
    pub fn merge(&self, rows: Vec<Row>) -> Self {
        let mut next = self.clone();
        for row in rows {
            let entry = Entry::from(row);
            next.position = next.position.max(entry.at);
            match next.find(entry.name()) {
                Ok(index) if entry.order() > next.entries[index].order() => {
                    next.entries[index] = Arc::new(entry);
                }
                Ok(_) => {}
                Err(index) => next.entries.insert(index, Arc::new(entry)),
            }
        }
        next
    }

    /// The snapshot after a read of all rows.
    ///
    /// A higher epoch says that the database was restored: then what it holds is all there is, and what it lost is
    /// gone. Otherwise a row that is missing proves nothing (deletions are tombstones) and the last good value stays.
    #[must_use]
    pub fn follow(&self, rows: Vec<Row>) -> Self {
        if Self::is_restored(self, &rows) { Self::default().merge(rows) } else { self.merge(rows) }
    }

    /// Whether the rows come from a database that was restored since this snapshot.
    pub fn is_restored(&self, rows: &[Row]) -> bool {
        self.position != Position::default() && rows.iter().any(|row| row.at.epoch > self.position.epoch)
    }

    /// Whether a read of all rows shows less than was seen before, in the same epoch: a database that was restored
    /// without raising the epoch, or the wrong one.
    pub fn is_ahead_of(&self, rows: &[Row]) -> bool {
        rows.iter().map(|row| row.at).max().unwrap_or_default() < self.position
    }

    /// Entries written after `position`, in the order in which they were committed.
    pub fn since(&self, position: Position) -> Vec<&Arc<Entry>> {
        let mut newer: Vec<_> = self.entries.iter().filter(|entry| entry.at > position).collect();
        newer.sort_by_key(|entry| entry.at);
        newer
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
