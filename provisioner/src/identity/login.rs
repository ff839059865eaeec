//! Login with email and password.
//!
//! What is said before the password was right is the same for every address, in words and in time; only after it do we
//! speak about memberships.

use std::net::IpAddr;

use contract::OrganizationId;
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Identity, Role,
    password::{LENGTH_MAX_BYTES, PasswordError},
    throttle::{self, Bucket, Throttled},
    token::{Claims, Subject, TokenError},
};

/// Longest email address, in bytes (RFC 5321).
const EMAIL_MAX_BYTES: usize = 254;

/// What the caller sent.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The email address, in any case.
    pub email: String,
    /// The password.
    pub password: String,
    /// The organization that the token shall be for.
    pub organization: Option<OrganizationId>,
}

/// One organization that a user belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// The organization.
    pub id: OrganizationId,
    /// Its display name.
    pub name: String,
    /// The user's role in it.
    pub role: Role,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Too many failures.
    #[error("too many attempts")]
    Throttled(Throttled),
    /// Unknown address or wrong password: nobody is told which.
    #[error("email or password is wrong")]
    Refused,
    /// The password was right, and several organizations are possible.
    #[error("the user belongs to several organizations")]
    Ambiguous(Vec<Membership>),
    /// The password was right, and the user does not belong to the organization named, or to any.
    #[error("the user is no member")]
    NoMembership,
    /// Hashing failed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Signing failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// PostgreSQL failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A successful login.
#[derive(Debug)]
pub struct Session {
    /// The signed access token.
    pub access_token: String,
    /// What it says.
    pub claims: Claims,
}

/// The address as it is compared and stored.
fn normalized(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Checks the credentials and signs an access token. `address` is the client's, if known.
pub async fn login(
    pool: &PgPool,
    identity: &Identity,
    credentials: Credentials,
    address: Option<IpAddr>,
) -> Result<Session, LoginError> {
    let email = normalized(&credentials.email);
    if email.is_empty() || email.len() > EMAIL_MAX_BYTES || credentials.password.len() > LENGTH_MAX_BYTES {
        return Err(LoginError::Refused);
    }
    let limits = identity.limits;
    let mut buckets = vec![Bucket::email(&email, limits.per_email)];
    buckets.extend(address.map(|address| Bucket::address(address, limits.per_address)));
    let now = OffsetDateTime::now_utc();
    throttle::count(pool, &buckets, now).await?.map_err(LoginError::Throttled)?;

    let user = find_user(pool, &email).await?;
    let stored = user.as_ref().and_then(|user| user.password_hash.clone());
    let right = identity.passwords.verify(credentials.password, stored).await?;
    let Some(user) = user.filter(|_| right) else { return Err(LoginError::Refused) };
    throttle::forgive(pool, &buckets, now).await?;

    let memberships = memberships(pool, user.id).await?;
    let (organization, role) = choose(&memberships, user.platform_operator, credentials.organization)?;
    let subject = Subject { user: user.id, email, organization, role };
    let (access_token, claims) = identity.tokens.issue(subject)?;
    tracing::info!(user = %user.id, organization = ?organization, jti = %claims.jti, "logged in");
    Ok(Session { access_token, claims })
}

/// Which organization and role the token is for.
///
/// Named: that one. Not named: a platform operator gets the platform, a user of one organization gets it.
fn choose(
    memberships: &[Membership],
    operator: bool,
    named: Option<OrganizationId>,
) -> Result<(Option<OrganizationId>, Role), LoginError> {
    match (named, memberships) {
        (Some(named), all) => all
            .iter()
            .find(|membership| membership.id == named)
            .map(|membership| (Some(membership.id), membership.role))
            .ok_or(LoginError::NoMembership),
        (None, _) if operator => Ok((None, Role::Operator)),
        (None, []) => Err(LoginError::NoMembership),
        (None, [only]) => Ok((Some(only.id), only.role)),
        (None, several) => Err(LoginError::Ambiguous(several.to_vec())),
    }
}

struct User {
    id: Uuid,
    password_hash: Option<String>,
    platform_operator: bool,
}

async fn find_user(pool: &PgPool, email: &str) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        "SELECT id, password_hash, platform_operator FROM users WHERE lower(email) = $1",
        email
    )
    .fetch_optional(pool)
    .await
}

/// The organizations that the user can work in now, by name.
async fn memberships(pool: &PgPool, user: Uuid) -> Result<Vec<Membership>, LoginError> {
    let rows = sqlx::query!(
        "SELECT o.id, o.name, m.role FROM memberships m JOIN organizations o ON o.id = m.org_id
         WHERE m.user_id = $1 AND o.status = 'COMMITTED' ORDER BY o.name, o.id",
        user
    )
    .fetch_all(pool)
    .await?;
    // A role that this version does not know gives no rights.
    let known = rows.into_iter().filter_map(|row| {
        let role = row.role.parse().ok()?;
        Some(Membership { id: OrganizationId(row.id), name: row.name, role })
    });
    Ok(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(id: u128, role: Role) -> Membership {
        Membership { id: OrganizationId(Uuid::from_u128(id)), name: format!("org {id}"), role }
    }

    #[test]
    fn the_one_membership_is_taken_and_several_are_listed() {
        let (one, two) = (membership(1, Role::Owner), membership(2, Role::Viewer));
        assert_eq!(choose(std::slice::from_ref(&one), false, None).unwrap(), (Some(one.id), Role::Owner));
        match choose(&[one.clone(), two.clone()], false, None) {
            Err(LoginError::Ambiguous(list)) => assert_eq!(list, [one.clone(), two.clone()]),
            other => panic!("{other:?}"),
        }
        let named = choose(&[one, two.clone()], false, Some(two.id)).unwrap();
        assert_eq!(named, (Some(two.id), Role::Viewer));
    }

    #[test]
    fn another_organization_is_no_membership() {
        let one = membership(1, Role::Owner);
        let other = Some(OrganizationId(Uuid::from_u128(9)));
        for operator in [false, true] {
            let refused = choose(std::slice::from_ref(&one), operator, other);
            assert!(matches!(refused, Err(LoginError::NoMembership)));
        }
        assert!(matches!(choose(&[], false, None), Err(LoginError::NoMembership)));
    }

    #[test]
    fn an_operator_gets_the_platform_unless_an_organization_is_named() {
        let one = membership(1, Role::Owner);
        assert_eq!(choose(std::slice::from_ref(&one), true, None).unwrap(), (None, Role::Operator));
        assert_eq!(
            choose(std::slice::from_ref(&one), true, Some(one.id)).unwrap(),
            (Some(one.id), Role::Owner)
        );
    }

    #[test]
    fn addresses_are_compared_in_lower_case() {
        assert_eq!(normalized(" Alice@Example.COM "), "alice@example.com");
    }
}
