//! Access tokens: JWTs signed with ES256, for one organization, for one hour.

use std::sync::Arc;

use contract::OrganizationId;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    keys::{KeyRing, SigningKeys},
    permissions::{Permission, Role},
};

/// Life of an access token, in seconds.
pub const LIFETIME_SECONDS: i64 = 3600;
/// How far the clocks of issuer and verifier may be apart, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;
/// Who the tokens are for: the provisioner's own API.
pub const AUDIENCE: &str = "agent-ready-api";
/// Longest token that is looked at, in bytes.
const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer: the provisioner's public URL.
    pub iss: String,
    /// Audience.
    pub aud: String,
    /// The user.
    pub sub: Uuid,
    /// The one organization that the token is for; a platform operator's token has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrganizationId>,
    /// The user's role there.
    pub user_role: Role,
    /// What the role may do, for clients. Our own routes go by the role: the table may have changed since.
    pub permissions: Vec<Permission>,
    /// This token's own id, by which it can be revoked.
    pub jti: Uuid,
    /// The user's email address, which history shows as the actor.
    pub email: String,
    /// When it was issued, in Unix seconds.
    pub iat: i64,
    /// When it ends, in Unix seconds.
    pub exp: i64,
}

/// Whose token, before the issuer adds the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The user.
    pub user: Uuid,
    /// The user's email address.
    pub email: String,
    /// The organization, or none for a platform operator.
    pub organization: Option<OrganizationId>,
    /// The role there.
    pub role: Role,
}

/// Why a token is not accepted. Clients learn only that it is not, and whether it was once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours: form, algorithm, key, signature, issuer, audience or claims are wrong.
    #[error("the access token is not valid")]
    Invalid,
    /// It was good, and its time is over.
    #[error("the access token has expired")]
    Expired,
}

/// Signs `subject`'s token at `now` (Unix seconds).
pub fn issue(
    ring: &KeyRing,
    issuer: &str,
    subject: Subject,
    now: i64,
) -> Result<(String, Claims), TokenError> {
    let claims = Claims {
        iss: issuer.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: subject.user,
        org_id: subject.organization,
        user_role: subject.role,
        permissions: subject.role.permissions().to_vec(),
        jti: Uuid::new_v4(),
        email: subject.email,
        iat: now,
        exp: now + LIFETIME_SECONDS,
    };
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(ring.signing_id().to_owned());
    let token = encode(&header, &claims, ring.signing()).map_err(|_| TokenError::Invalid)?;
    Ok((token, claims))
}

/// The id of the key that a token says it was signed with; nothing about it is verified.
fn key_id(token: &str) -> Result<String, TokenError> {
    if token.len() > TOKEN_MAX_BYTES {
        return Err(TokenError::Invalid);
    }
    let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
    // Checked again by the verification; refused here so that no other algorithm gets as far as a key.
    if header.alg != Algorithm::ES256 || header.crit.is_some() {
        return Err(TokenError::Invalid);
    }
    header.kid.ok_or(TokenError::Invalid)
}

/// What `token` says, if one of our keys signed it for us and it is valid at `now` (Unix seconds).
pub fn verify(ring: &KeyRing, issuer: &str, token: &str, now: i64) -> Result<Claims, TokenError> {
    let key = ring.verifying(&key_id(token)?).ok_or(TokenError::Invalid)?;
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[AUDIENCE]);
    rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    // The times are checked below, against a clock that is an argument.
    rules.validate_exp = false;
    let claims = decode::<Claims>(token, key, &rules)
        .map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        })?
        .claims;
    if claims.iat > now + LEEWAY_SECONDS || claims.exp > claims.iat + LIFETIME_SECONDS {
        return Err(TokenError::Invalid);
    }
    if claims.exp + LEEWAY_SECONDS <= now {
        return Err(TokenError::Expired);
    }
    // A member has an organization, an operator none; no other token was ever issued.
    if claims.org_id.is_none() != (claims.user_role == Role::Operator) {
        return Err(TokenError::Invalid);
    }
    Ok(claims)
}

/// Issues and verifies tokens with the directory's keys and the system's clock.
#[derive(Debug, Clone)]
pub struct Tokens {
    keys: Arc<SigningKeys>,
    issuer: Arc<str>,
}

impl Tokens {
    /// `issuer` is the provisioner's public URL.
    pub fn new(keys: Arc<SigningKeys>, issuer: &str) -> Self {
        Self { keys, issuer: issuer.into() }
    }

    /// The keys behind the tokens.
    pub fn keys(&self) -> &Arc<SigningKeys> {
        &self.keys
    }

    /// Signs a token for `subject`, valid from now.
    pub fn issue(&self, subject: Subject) -> Result<(String, Claims), TokenError> {
        issue(&self.keys.ring(), &self.issuer, subject, unix_now())
    }

    /// What `token` says, if it is valid now.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let ring = self.keys.ring_with(&key_id(token)?);
        verify(&ring, &self.issuer, token, unix_now())
    }
}

fn unix_now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
    use jsonwebtoken::EncodingKey;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{
        super::keys::tests::{pem, ring},
        *,
    };

    const ISSUER: &str = "https://api.example";
    const NOW: i64 = 1_800_000_000;

    fn member() -> Subject {
        Subject {
            user: Uuid::from_u128(1),
            email: "a@b.example".into(),
            organization: Some(OrganizationId(Uuid::from_u128(2))),
            role: Role::Admin,
        }
    }

    fn check(ring: &KeyRing, token: &str, now: i64) -> Result<Claims, TokenError> {
        verify(ring, ISSUER, token, now)
    }

    /// The token with its header and payload changed; the signature stays.
    fn altered(token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let parts: Vec<&str> = token.split('.').collect();
        let read = |part: &str| serde_json::from_slice::<Value>(&B64.decode(part).unwrap()).unwrap();
        let (mut header, mut payload) = (read(parts[0]), read(parts[1]));
        change(&mut header, &mut payload);
        format!("{}.{}.{}", B64.encode(header.to_string()), B64.encode(payload.to_string()), parts[2])
    }

    #[test]
    fn a_token_says_what_was_issued_for_an_hour() {
        let ring = ring(&[&pem()]);
        let (token, claims) = issue(&ring, ISSUER, member(), NOW).unwrap();
        assert_eq!(check(&ring, &token, NOW), Ok(claims.clone()));
        assert_eq!(claims.permissions, Role::Admin.permissions());
        assert_eq!(claims.exp - claims.iat, 3600);
        assert_eq!(check(&ring, &token, claims.exp + LEEWAY_SECONDS - 1), Ok(claims.clone()));
        assert_eq!(check(&ring, &token, claims.exp + LEEWAY_SECONDS), Err(TokenError::Expired));
        assert_eq!(check(&ring, &token, NOW - LEEWAY_SECONDS - 1), Err(TokenError::Invalid));
    }

    #[test]
    fn a_rolled_key_still_verifies_until_its_file_is_gone() {
        let (old, new) = (pem(), pem());
        let (token, _) = issue(&ring(&[&old]), ISSUER, member(), NOW).unwrap();
        assert!(check(&ring(&[&old, &new]), &token, NOW).is_ok());
        assert_eq!(check(&ring(&[&new]), &token, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn algorithm_none_is_refused() {
        let ring = ring(&[&pem()]);
        let (token, _) = issue(&ring, ISSUER, member(), NOW).unwrap();
        for none in ["none", "None", "NONE", ""] {
            let forged = altered(&token, |header, _| header["alg"] = json!(none));
            assert_eq!(check(&ring, &forged, NOW), Err(TokenError::Invalid));
            let bare = format!("{}.", forged.rsplit_once('.').unwrap().0);
            assert_eq!(check(&ring, &bare, NOW), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn hs256_keyed_with_the_public_key_is_refused() {
        let ring = ring(&[&pem()]);
        let (_, claims) = issue(&ring, ISSUER, member(), NOW).unwrap();
        let public = &ring.published().keys[0];
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(ring.signing_id().to_owned());
        let document = serde_json::to_vec(public).unwrap();
        let point = ring.verifying(ring.signing_id()).unwrap().try_get_as_bytes().unwrap().to_vec();
        for secret in [document, point] {
            let forged = encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
            assert_eq!(check(&ring, &forged, NOW), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn every_changed_claim_breaks_the_signature() {
        let ring = ring(&[&pem()]);
        let (token, claims) = issue(&ring, ISSUER, member(), NOW).unwrap();
        let full = serde_json::to_value(&claims).unwrap();
        for name in full.as_object().unwrap().keys() {
            let forged = altered(&token, |_, payload| payload[name] = json!("other"));
            assert_eq!(check(&ring, &forged, NOW), Err(TokenError::Invalid), "{name}");
        }
        let other = altered(&token, |_, payload| payload["org_id"] = json!(Uuid::from_u128(3)));
        assert_eq!(check(&ring, &other, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn another_issuer_audience_or_shape_is_refused_though_well_signed() {
        let ring = ring(&[&pem()]);
        let (_, claims) = issue(&ring, ISSUER, member(), NOW).unwrap();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(ring.signing_id().to_owned());
        let changes: [fn(&mut Claims); 6] = [
            |c| c.iss = "https://evil.example".into(),
            |c| c.aud = "other".into(),
            |c| c.org_id = None,
            |c| c.user_role = Role::Operator,
            |c| c.exp += 1,
            |c| c.iat += LEEWAY_SECONDS + 1,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut changed = claims.clone();
            change(&mut changed);
            let token = encode(&header, &changed, ring.signing()).unwrap();
            assert_eq!(check(&ring, &token, NOW), Err(TokenError::Invalid), "change {i}");
        }
    }

    #[test]
    fn a_key_in_the_header_is_not_used() {
        let (ours, theirs) = (ring(&[&pem()]), ring(&[&pem()]));
        let (_, claims) = issue(&theirs, ISSUER, member(), NOW).unwrap();
        let mut header = Header::new(Algorithm::ES256);
        header.jwk = Some(theirs.published().keys[0].clone());
        for kid in [Some(ours.signing_id().to_owned()), Some(theirs.signing_id().to_owned()), None] {
            header.kid = kid;
            let token = encode(&header, &claims, theirs.signing()).unwrap();
            assert_eq!(check(&ours, &token, NOW), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn an_operator_has_no_organization() {
        let ring = ring(&[&pem()]);
        let subject = Subject { organization: None, role: Role::Operator, ..member() };
        let (token, claims) = issue(&ring, ISSUER, subject, NOW).unwrap();
        assert_eq!(check(&ring, &token, NOW).unwrap().org_id, None);
        assert!(serde_json::to_value(claims).unwrap().get("org_id").is_none());
    }

    proptest! {
        #[test]
        fn rubbish_is_refused(token in "\\PC{0,300}") {
            let ring = ring(&[&pem()]);
            prop_assert_eq!(check(&ring, &token, NOW), Err(TokenError::Invalid));
        }
    }
}
