use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::*;

fn row(key: &str, epoch: u64, revision: u64, version: u64, value: Option<&str>) -> Row {
    Row {
        service: "ai".parse().unwrap(),
        key: key.parse().unwrap(),
        value: value.map(|text| RawValue::from_string(text.to_owned()).unwrap()),
        version,
        at: Position { epoch, revision },
        updated_at: Timestamp::from_second(1_000).unwrap(),
    }
}

fn version(snapshot: &Snapshot, key: &str) -> Option<u64> {
    snapshot.get("ai", key).map(|entry| entry.version)
}

#[test]
fn a_document_keeps_the_type_of_its_value() {
    let snapshot = Snapshot::default().merge(vec![row("threshold", 1, 1, 3, Some("0.90"))]);
    let document = snapshot.get("ai", "threshold").unwrap().document.clone().unwrap();
    assert_eq!(
        std::str::from_utf8(&document).unwrap(),
        r#"{"service":"ai","key":"threshold","value":0.90,"version":3,"updated_at":"1970-01-01T00:16:40Z"}"#
    );
}

#[test]
fn a_tombstone_takes_the_value_away_and_keeps_the_version() {
    let snapshot = Snapshot::default()
        .merge(vec![row("a", 1, 1, 1, Some("1"))])
        .merge(vec![row("a", 1, 2, 2, None)])
        .merge(vec![row("a", 1, 1, 1, Some("1"))]);
    let entry = snapshot.get("ai", "a").unwrap();
    assert_eq!((entry.version, entry.document.is_none()), (2, true));
}

#[test]
fn a_missing_row_proves_nothing_within_an_epoch() {
    let snapshot = Snapshot::default().merge(vec![row("a", 1, 1, 1, Some("1"))]);
    assert_eq!(snapshot.follow(vec![]), snapshot);
}

#[test]
fn a_restored_database_is_followed_backwards() {
    let before = Snapshot::default().merge(vec![row("a", 1, 8, 9, Some("9")), row("b", 1, 9, 1, Some("1"))]);
    let after = before.follow(vec![row("a", 2, 4, 5, Some("5"))]);
    assert_eq!((version(&after, "a"), version(&after, "b")), (Some(5), None));
    assert_eq!(after.position, Position { epoch: 2, revision: 4 });
}

#[test]
fn a_database_that_lost_commits_is_noticed() {
    let snapshot = Snapshot::default().merge(vec![row("a", 1, 8, 9, Some("9"))]);
    assert!(snapshot.is_ahead_of(&[]));
    assert!(snapshot.is_ahead_of(&[row("a", 1, 7, 8, Some("8"))]));
    assert!(!snapshot.is_ahead_of(&[row("a", 1, 8, 9, Some("9"))]));
    assert!(!snapshot.is_ahead_of(&[row("a", 2, 1, 1, Some("1"))]));
    assert!(!Snapshot::default().is_ahead_of(&[]), "a tenant without values");
}

#[test]
fn services_are_told_apart() {
    let mut other = row("a", 1, 2, 1, Some("2"));
    other.service = "ai-2".parse().unwrap();
    let snapshot = Snapshot::default().merge(vec![row("b", 1, 1, 1, Some("1")), other]);
    assert_eq!(snapshot.service("ai").len(), 1);
    assert_eq!(snapshot.service("ai-2").len(), 1);
    assert_eq!(snapshot.service("a").len(), 0);
    assert_eq!(snapshot.service("z").len(), 0);
}

#[test]
fn changes_come_in_the_order_of_their_commits() {
    let snapshot = Snapshot::default().merge(vec![
        row("a", 1, 3, 2, Some("1")),
        row("b", 1, 2, 1, None),
        row("c", 1, 1, 1, None),
    ]);
    let keys: Vec<_> =
        snapshot.since(Position { epoch: 1, revision: 1 }).iter().map(|e| e.key.to_string()).collect();
    assert_eq!(keys, ["b", "a"]);
}

/// A history as the database writes it: revisions count commits, versions count per key, some are deletions.
fn history() -> impl Strategy<Value = Vec<Row>> {
    vec((0..4_usize, any::<bool>()), 1..40).prop_map(|writes| {
        let mut versions = [0_u64; 4];
        let mut rows = Vec::new();
        for (revision, (key, deleted)) in (1..).zip(writes) {
            versions[key] += 1;
            let value = (!deleted).then(|| revision.to_string());
            rows.push(row(["a", "b", "c", "d"][key], 1, revision, versions[key], value.as_deref()));
        }
        rows
    })
}

proptest! {
    /// Reads of any parts of the history, in any order and repeated: no key ever goes back.
    #[test]
    fn versions_never_go_backwards(
        reads in history().prop_flat_map(|all| {
            let length = all.len();
            vec(subsequence(all, 0..=length).prop_shuffle(), 1..8)
        }),
    ) {
        let mut snapshot = Snapshot::default();
        for read in reads {
            let next = snapshot.merge(read);
            for entry in snapshot.entries() {
                prop_assert!(next.get("ai", entry.key.as_str()).unwrap().order() >= entry.order());
            }
            prop_assert!(next.position >= snapshot.position);
            snapshot = next;
        }
    }

    /// However it was read, the end is the same: every key at its newest version.
    #[test]
    fn the_end_is_the_newest_whatever_the_order(
        (all, shuffled) in history().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        split in any::<prop::sample::Index>(),
    ) {
        let (first, second) = shuffled.split_at(split.index(shuffled.len()));
        let parts = Snapshot::default().merge(first.to_vec()).follow(second.to_vec());
        prop_assert_eq!(&parts, &Snapshot::default().merge(all.clone()));
        for key in ["a", "b", "c", "d"] {
            let newest = all.iter().filter(|row| row.key.as_str() == key).map(|row| row.version).max();
            prop_assert_eq!(version(&parts, key), newest);
        }
        let sorted: Vec<_> = parts.entries().windows(2).map(|pair| pair[0].name() < pair[1].name()).collect();
        prop_assert!(sorted.into_iter().all(|less| less));
    }
}
