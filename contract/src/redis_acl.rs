//! The Redis user of a tenant: it may subscribe to its own channels and ping, nothing else.
//!
//! Source: Redis 7 ACL (<https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>).

use crate::{OrganizationId, channel};

/// Name of the Redis user of an organization's login slot.
pub fn user_name(organization: OrganizationId, slot: i16) -> String {
    format!("t-{organization}-{slot}")
}

/// The rule words of `ACL SETUSER <name> ...`. They begin with `reset`, so that applying them twice is applying them
/// once and no older right survives.
pub fn rules(organization: OrganizationId, password: &str) -> Vec<String> {
    let channels = format!("&{}", channel::pattern(organization));
    ["reset", "on", &format!(">{password}"), "resetkeys", "resetchannels", &channels, "-@all"]
        .into_iter()
        .chain(["+subscribe", "+psubscribe", "+unsubscribe", "+punsubscribe", "+ping"])
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_rules_are_the_contract() {
        let organization = OrganizationId(Uuid::nil());
        assert_eq!(
            rules(organization, "pw").join(" "),
            "reset on >pw resetkeys resetchannels &config:00000000-0000-0000-0000-000000000000:* -@all \
             +subscribe +psubscribe +unsubscribe +punsubscribe +ping"
        );
        assert_eq!(user_name(organization, 0), "t-00000000-0000-0000-0000-000000000000-0");
    }
}
