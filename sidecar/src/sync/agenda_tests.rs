use jiff::Timestamp;
use serde_json::value::RawValue;

use super::*;
use crate::store::{Position, Row};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn intervals() -> Intervals {
    Intervals { reconcile_min: 300 * SECOND, reconcile_max: 600 * SECOND, deaf_poll: 10 * SECOND }
}

fn name(key: &str) -> Name {
    ("ai".parse().unwrap(), key.parse().unwrap())
}

fn told(key: &str, version: u64) -> Heard {
    Heard { told: HashMap::from([(name(key), version)]), ..Heard::default() }
}

fn hearing(hearing: Hearing) -> Heard {
    Heard { subscribed: hearing == Hearing::Subscribed, hearing: Some(hearing), ..Heard::default() }
}

fn holding(key: &str, version: u64) -> Snapshot {
    Snapshot::default().merge(vec![Row {
        service: "ai".parse().unwrap(),
        key: key.parse().unwrap(),
        value: Some(RawValue::from_string("1".into()).unwrap()),
        version,
        at: Position { epoch: 1, revision: version },
        updated_at: Timestamp::UNIX_EPOCH,
    }])
}

/// An agenda that has loaded and hears, and the moment of it.
fn settled(snapshot: &Snapshot) -> (Agenda, Instant) {
    let now = Instant::now();
    let mut agenda = Agenda::new(intervals(), now);
    agenda.hear(hearing(Hearing::Subscribed), snapshot, now, 0.5);
    agenda.succeeded(Scope::Full, snapshot, now, 0.5);
    (agenda, now)
}

#[test]
fn the_first_read_follows_the_subscription_or_two_seconds() {
    let now = Instant::now();
    let mut agenda = Agenda::new(intervals(), now);
    assert_eq!(agenda.next(now), (now + 2 * SECOND, Scope::Full));
    agenda.hear(hearing(Hearing::Subscribed), &Snapshot::default(), now, 0.5);
    assert_eq!(agenda.next(now).0, now);
}

#[test]
fn every_subscription_is_followed_by_a_read() {
    let snapshot = holding("a", 1);
    let (mut agenda, now) = settled(&snapshot);
    assert_eq!(agenda.next(now), (now + 450 * SECOND, Scope::Full));
    agenda.hear(hearing(Hearing::Subscribed), &snapshot, now, 0.5);
    assert_eq!(agenda.next(now), (now, Scope::Newer));
}

#[test]
fn a_subscription_lost_again_before_the_look_still_wants_its_read() {
    let snapshot = holding("a", 1);
    let (mut agenda, now) = settled(&snapshot);
    let heard = Heard { subscribed: true, hearing: Some(Hearing::Deaf), ..Heard::default() };
    agenda.hear(heard, &snapshot, now, 0.5);
    assert_eq!(agenda.next(now), (now, Scope::Newer));
}

#[test]
fn a_different_version_is_fetched_and_the_same_is_not() {
    let snapshot = holding("a", 5);
    for (version, fetched) in [(4, true), (5, false), (6, true)] {
        let (mut agenda, now) = settled(&snapshot);
        agenda.hear(told("a", version), &snapshot, now, 0.5);
        assert_eq!(agenda.next(now).0 == now, fetched, "{version}");
    }
}

#[test]
fn told_more_than_read_asks_again_within_milliseconds_then_all_then_gives_up() {
    let snapshot = holding("a", 5);
    let (mut agenda, now) = settled(&snapshot);
    agenda.hear(told("a", 6), &snapshot, now, 0.5);
    let mut pauses = Vec::new();
    loop {
        let (at, scope) = agenda.next(now);
        agenda.succeeded(scope, &snapshot, at, 0.5);
        if scope == Scope::Full {
            break;
        }
        assert!(agenda.is_behind());
        pauses.push(agenda.next(at).0.duration_since(at));
    }
    assert_eq!(pauses[..3], [2 * MS, 4 * MS, 8 * MS]);
    assert_eq!(pauses.len(), 27);
    assert!(pauses.iter().sum::<Duration>() < 6 * SECOND, "{pauses:?}");
    assert!(!agenda.is_behind());
}

#[test]
fn what_was_told_is_done_when_it_is_read_newer_or_from_a_restored_past() {
    let snapshot = holding("a", 5);
    let (mut agenda, now) = settled(&snapshot);
    agenda.hear(told("a", 6), &snapshot, now, 0.5);
    agenda.hear(told("b", 1), &snapshot, now, 0.5);
    agenda.succeeded(Scope::Newer, &holding("a", 7), now, 0.5);
    assert!(agenda.is_behind(), "b is missing");
    agenda.succeeded(Scope::Newer, &holding("b", 1), now, 0.5);
    assert!(!agenda.is_behind());
    agenda.hear(told("a", 3), &snapshot, now, 0.5);
    agenda.succeeded(Scope::Newer, &snapshot, now, 0.5);
    assert!(!agenda.is_behind(), "an old announcement needs no more than one look");
}

#[test]
fn news_do_not_wait_for_another_commit_to_become_visible() {
    let snapshot = holding("a", 5);
    let (mut agenda, now) = settled(&snapshot);
    agenda.hear(told("a", 6), &snapshot, now, 0.5);
    agenda.succeeded(Scope::Newer, &snapshot, now, 0.5);
    assert!(agenda.next(now).0 > now);
    agenda.hear(told("b", 1), &snapshot, now, 0.5);
    assert_eq!(agenda.next(now).0, now);
}

#[test]
fn failures_back_off_to_a_minute_and_an_announcement_cuts_that_short() {
    let snapshot = holding("a", 5);
    let (mut agenda, now) = settled(&snapshot);
    let seconds: Vec<u64> = (0..7).map(|_| agenda.failed(Scope::Newer, now, 1.0).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60]);
    assert_eq!(agenda.next(now), (now + 60 * SECOND, Scope::Newer));
    agenda.hear(told("a", 6), &snapshot, now, 0.0);
    assert_eq!(agenda.next(now).0, now + 500 * MS, "not at once: the last attempt was just now");
    let later = now + 5 * SECOND;
    agenda.hear(told("a", 6), &snapshot, later, 0.0);
    assert!(agenda.next(later).0 <= later);
    agenda.succeeded(Scope::Newer, &holding("a", 6), later, 1.0);
    assert_eq!(agenda.failed(Scope::Newer, later, 1.0), SECOND, "a success starts again");
}

#[test]
fn while_deaf_it_asks_every_few_seconds_and_goes_on_reconciling() {
    let snapshot = holding("a", 5);
    let (mut agenda, now) = settled(&snapshot);
    agenda.hear(hearing(Hearing::Deaf), &snapshot, now, 0.5);
    assert_eq!(agenda.next(now), (now + 500 * MS, Scope::Newer));
    agenda.hear(hearing(Hearing::Deaf), &snapshot, now + SECOND, 0.9);
    assert_eq!(agenda.next(now).0, now + 500 * MS, "a failed attempt to hear again changes nothing");
    agenda.succeeded(Scope::Newer, &snapshot, now, 1.0);
    assert_eq!(agenda.next(now), (now + 10 * SECOND, Scope::Newer));
    agenda.hear(hearing(Hearing::Subscribed), &snapshot, now, 0.5);
    agenda.succeeded(Scope::Newer, &snapshot, now, 0.5);
    assert_eq!(agenda.next(now), (now + 450 * SECOND, Scope::Full));
}

#[test]
fn a_restored_database_is_read_whole_at_once() {
    let snapshot = holding("a", 5);
    let (mut agenda, now) = settled(&snapshot);
    agenda.restored();
    assert_eq!(agenda.next(now), (now, Scope::Full));
}
