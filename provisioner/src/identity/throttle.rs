//! Limits guessing: a count per bucket and window, kept in PostgreSQL so that all replicas share it.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use time::{Duration, OffsetDateTime};

/// Length of a window.
pub const WINDOW: Duration = Duration::minutes(5);

/// How many failed logins in a window are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginLimits {
    /// For one email address.
    pub per_email: u32,
    /// From one network address.
    pub per_address: u32,
}

/// What is counted: a name without personal data, and its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    name: String,
    max: u32,
}

impl Bucket {
    /// Logins for one email address, known or not.
    pub fn email(email: &str, max: u32) -> Self {
        Self { name: format!("login:email:{}", digest(email)), max }
    }

    /// Logins from one network address.
    pub fn address(address: IpAddr, max: u32) -> Self {
        Self { name: format!("login:address:{}", network(address)), max }
    }
}

/// An email address as it is counted: the table holds no personal data.
pub fn digest(email: &str) -> String {
    Sha256::digest(email.as_bytes())
        .iter()
        .take(16)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A network address as it is counted; of IPv6 the /64, which one machine may own as a whole.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// The start of the window that `now` lies in.
fn window_start(now: OffsetDateTime) -> OffsetDateTime {
    let length = WINDOW.whole_seconds();
    let start = now.unix_timestamp().div_euclid(length) * length;
    OffsetDateTime::from_unix_timestamp(start).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Whole seconds until the window of `now` ends, at least 1.
fn seconds_left(now: OffsetDateTime) -> u64 {
    let left = window_start(now) + WINDOW - now;
    u64::try_from(left.whole_seconds()).unwrap_or(0).max(1)
}

/// Too many attempts; the next may come after this many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled {
    /// Seconds to wait.
    pub retry_after_seconds: u64,
}

/// Counts one attempt in each bucket, before it is made: parallel guesses cannot slip past the limit.
pub async fn count(
    pool: &PgPool,
    buckets: &[Bucket],
    now: OffsetDateTime,
) -> Result<Result<(), Throttled>, sqlx::Error> {
    let mut names: Vec<String> = buckets.iter().map(|bucket| bucket.name.clone()).collect();
    // One order of locks for all.
    names.sort();
    let counted = sqlx::query!(
        "INSERT INTO throttle AS t (bucket, window_start, count)
         SELECT name, $2, 1 FROM unnest($1::text[]) AS name
         ON CONFLICT (bucket, window_start) DO UPDATE SET count = least(t.count, 1000000) + 1
         RETURNING bucket, count",
        &names,
        window_start(now),
    )
    .fetch_all(pool)
    .await?;
    let max = |name: &str| buckets.iter().find(|bucket| bucket.name == name).map_or(0, |bucket| bucket.max);
    if counted.iter().any(|row| u32::try_from(row.count).is_ok_and(|count| count > max(&row.bucket))) {
        return Ok(Err(Throttled { retry_after_seconds: seconds_left(now) }));
    }
    Ok(Ok(()))
}

/// Takes a success back out of the counts: only failures add up.
pub async fn forgive(pool: &PgPool, buckets: &[Bucket], now: OffsetDateTime) -> Result<(), sqlx::Error> {
    let mut names: Vec<String> = buckets.iter().map(|bucket| bucket.name.clone()).collect();
    names.sort();
    sqlx::query!(
        "UPDATE throttle SET count = count - 1 WHERE bucket = ANY($1) AND window_start = $2 AND count > 0",
        &names,
        window_start(now),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Removes the login windows that are over.
pub async fn sweep(pool: &PgPool, now: OffsetDateTime) -> Result<u64, sqlx::Error> {
    let over = window_start(now) - WINDOW;
    let swept = sqlx::query!("DELETE FROM throttle WHERE bucket LIKE 'login:%' AND window_start < $1", over)
        .execute(pool)
        .await?;
    Ok(swept.rows_affected())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_hold_no_personal_data_and_one_network_each() {
        assert!(!Bucket::email("alice@corp.example", 1).name.contains("alice"));
        assert_ne!(Bucket::email("a@x", 1).name, Bucket::email("b@x", 1).name);
        let of = |text: &str| Bucket::address(text.parse().unwrap(), 1).name;
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    proptest! {
        #[test]
        fn a_window_holds_its_moment(seconds in 0i64..4_000_000_000) {
            let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let start = window_start(now);
            prop_assert!(start <= now && now < start + WINDOW);
            prop_assert!((1..=300).contains(&seconds_left(now)));
        }
    }
}
