//! Redis Pub/Sub: channel `config:<org uuid>:<service>:<key>`, payload `version=<n>`. Never a value.

use crate::{ConfigKey, InvalidIdentifier, OrganizationId, ServiceName};

const HEAD: &str = "config:";
const PAYLOAD: &str = "version=";

/// The channel on which changes of one key are announced.
pub fn channel(organization: OrganizationId, service: &ServiceName, key: &ConfigKey) -> String {
    format!("{HEAD}{organization}:{service}:{key}")
}

/// The pattern that matches all channels of an organization and of no other.
pub fn pattern(organization: OrganizationId) -> String {
    format!("{HEAD}{organization}:*")
}

/// Why a message is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// The channel does not read `config:<org>:<service>:<key>`.
    #[error("not a configuration channel")]
    Channel,
    /// A part of the channel is not an identifier.
    #[error(transparent)]
    Identifier(#[from] InvalidIdentifier),
    /// The payload does not read `version=<n>` with n from 1 to 2^63-1.
    #[error("not a version announcement")]
    Payload,
}

/// Takes a channel apart.
pub fn parse(channel: &str) -> Result<(OrganizationId, ServiceName, ConfigKey), InvalidMessage> {
    let rest = channel.strip_prefix(HEAD).ok_or(InvalidMessage::Channel)?;
    let mut parts = rest.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(organization), Some(service), Some(key), None) => {
            Ok((organization.parse()?, service.parse()?, key.parse()?))
        }
        _ => Err(InvalidMessage::Channel),
    }
}

/// The payload that announces `version`.
pub fn encode_version(version: u64) -> String {
    format!("{PAYLOAD}{version}")
}

/// Reads a payload. Only the canonical form counts: no sign, no leading zero, nothing after the number.
pub fn decode_version(payload: &[u8]) -> Result<u64, InvalidMessage> {
    std::str::from_utf8(payload)
        .ok()
        .and_then(|text| text.strip_prefix(PAYLOAD))
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'))
        .and_then(|digits| digits.parse::<u64>().ok())
        .filter(|version| *version > 0 && i64::try_from(*version).is_ok())
        .ok_or(InvalidMessage::Payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn channels_round_trip(id in any::<u128>(), service in "[a-z][a-z0-9-]{0,62}", key in "[A-Za-z0-9][A-Za-z0-9._-]{0,127}") {
            let organization = OrganizationId(Uuid::from_u128(id));
            let (service, key) = (service.parse::<ServiceName>().unwrap(), key.parse::<ConfigKey>().unwrap());
            let name = channel(organization, &service, &key);
            prop_assert!(name.starts_with(pattern(organization).trim_end_matches('*')));
            prop_assert_eq!(parse(&name).unwrap(), (organization, service, key));
        }

        #[test]
        fn versions_round_trip(version in 1..=u64::try_from(i64::MAX).unwrap()) {
            prop_assert_eq!(decode_version(encode_version(version).as_bytes()).unwrap(), version);
        }

        #[test]
        fn nothing_else_decodes(payload in proptest::collection::vec(any::<u8>(), 0..32)) {
            if let Ok(version) = decode_version(&payload) {
                prop_assert_eq!(encode_version(version).into_bytes(), payload);
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "5",
            "version=",
            "version=0",
            "version=05",
            "version=+5",
            "version=5 ",
            "version=18446744073709551615",
        ] {
            assert!(decode_version(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse("config:x:a:b").is_err());
        assert!(parse("config:0191f0c0-0000-7000-8000-00000000000a:a:b:c").is_err());
    }
}
