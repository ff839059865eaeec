//! How much configuration one organization may have. Each of its pods holds all of it in a sidecar of 64 MiB, and the
//! sidecar's warm load reads all of it at once.

use contract::OrganizationId;

use super::{ConfigError, tenant::TenantTx};

/// What a sidecar holds for a key besides its names and its value, in bytes. Tombstones count too: sidecars keep them, and
/// names that were used once would otherwise grow without a bound.
const KEY_BYTES: i32 = 256;

/// Limits of one organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Most keys that have a value.
    pub keys: i64,
    /// Most bytes: names and values as JSON text, and 256 for each key that was ever used.
    pub bytes: i64,
}

/// What an organization has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    keys: i64,
    bytes: i64,
}

impl Capacity {
    fn holds(self, usage: Usage) -> Result<(), ConfigError> {
        if usage.keys > self.keys {
            Err(ConfigError::TooManyKeys { most: self.keys })
        } else if usage.bytes > self.bytes {
            Err(ConfigError::TooManyBytes { most: self.bytes, needed: usage.bytes })
        } else {
            Ok(())
        }
    }

    /// Whether what the transaction has written leaves the organization within its limits; if not, it has to be rolled back.
    /// It holds the organization's row lock: nobody else adds anything until it ends.
    pub(super) async fn check(
        self,
        tx: &mut TenantTx,
        organization: OrganizationId,
    ) -> Result<(), ConfigError> {
        let usage = sqlx::query_as!(
            Usage,
            r#"SELECT count(*) FILTER (WHERE NOT deleted) AS "keys!",
                      coalesce(sum($2 + octet_length(service) + octet_length(key)
                                   + coalesce(octet_length(value::text), 0)), 0)::bigint AS "bytes!"
               FROM service_configs WHERE org_id = $1"#,
            organization.0,
            KEY_BYTES,
        )
        .fetch_one(&mut **tx)
        .await?;
        self.holds(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_exactly() {
        let capacity = Capacity { keys: 2, bytes: 10 };
        assert!(capacity.holds(Usage { keys: 2, bytes: 10 }).is_ok());
        let keys = capacity.holds(Usage { keys: 3, bytes: 10 });
        assert!(matches!(keys, Err(ConfigError::TooManyKeys { most: 2 })), "{keys:?}");
        let bytes = capacity.holds(Usage { keys: 2, bytes: 11 });
        assert!(matches!(bytes, Err(ConfigError::TooManyBytes { most: 10, needed: 11 })), "{bytes:?}");
    }
}
