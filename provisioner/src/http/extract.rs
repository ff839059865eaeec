//! What handlers take from a request: the caller, the body, names in the path. Refusals are problem documents.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Json,
    extract::{
        ConnectInfo, FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Query, Request,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
};
use contract::OrganizationId;
use runtime::problem::Problem;
use serde::de::DeserializeOwned;

use super::problem::{named, unauthorized};
use crate::{
    config::ConfigName,
    identity::{Claims, Permission},
    state::AppState,
};

/// Who calls, by a token that was verified.
#[derive(Debug, Clone)]
pub struct Caller(Claims);

impl Caller {
    /// What the token says.
    pub fn claims(&self) -> &Claims {
        &self.0
    }

    /// How history shows the caller.
    pub fn actor(&self) -> &str {
        &self.0.email
    }

    /// Whether the caller may do `permission` in `organization`.
    ///
    /// A member of another organization learns nothing about this one: 404, as for one that does not exist. A platform
    /// operator belongs to none and may in each what the operator's role may.
    pub fn require(&self, organization: OrganizationId, permission: Permission) -> Result<(), Problem> {
        if self.0.org_id.is_some_and(|own| own != organization) {
            return Err(Problem::new(StatusCode::NOT_FOUND).detail("there is no such organization"));
        }
        self.require_anywhere(permission)
    }

    /// Whether the caller's role has `permission`, for routes that are about no organization.
    pub fn require_anywhere(&self, permission: Permission) -> Result<(), Problem> {
        if self.0.user_role.allows(permission) {
            return Ok(());
        }
        Err(named(StatusCode::FORBIDDEN, "forbidden", "Not allowed")
            .detail(format!("the role {} does not have this permission", self.0.user_role))
            .with("permission", serde_json::json!(permission)))
    }
}

/// The token of an Authorization header; none without the header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let malformed = || unauthorized(Some("invalid_request"), "send one Authorization: Bearer TOKEN");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    Ok(Some(token.trim()))
}

impl OptionalFromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Option<Self>, Problem> {
        let Some(token) = bearer(&parts.headers)? else { return Ok(None) };
        Ok(Some(Self(state.identity.tokens.verify(token)?)))
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        <Self as OptionalFromRequestParts<AppState>>::from_request_parts(parts, state)
            .await?
            .ok_or_else(|| unauthorized(None, "this needs an access token"))
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(body_problem(&rejection)),
        }
    }
}

fn body_problem(rejection: &JsonRejection) -> Problem {
    let (sort, title) = match rejection {
        JsonRejection::MissingJsonContentType(_) => ("unsupported-content-type", "Content type is not JSON"),
        JsonRejection::JsonSyntaxError(_) => ("invalid-json", "Invalid JSON"),
        JsonRejection::JsonDataError(_) => ("invalid-body", "Unexpected content"),
        _ => return Problem::new(rejection.status()).detail(rejection.body_text()),
    };
    named(rejection.status(), sort, title).detail(rejection.body_text())
}

/// Query parameters.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) =
            Query::from_request_parts(parts, state).await.map_err(|rejection: QueryRejection| {
                named(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query").detail(rejection.body_text())
            })?;
        Ok(Self(value))
    }
}

async fn path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Problem> {
    let Path(value) = <Path<T> as FromRequestParts<S>>::from_request_parts(parts, state)
        .await
        .map_err(|rejection: PathRejection| Problem::new(rejection.status()).detail(rejection.body_text()))?;
    Ok(value)
}

/// What is not an organization's id is no organization.
fn organization(text: &str) -> Result<OrganizationId, Problem> {
    text.parse().map_err(|_| Problem::new(StatusCode::NOT_FOUND).detail("there is no such organization"))
}

/// The organization of a path `/api/organizations/{organization}/...`.
#[derive(Debug, Clone, Copy)]
pub struct InOrganization(pub OrganizationId);

impl<S: Send + Sync> FromRequestParts<S> for InOrganization {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Self(organization(&path::<String, S>(parts, state).await?)?))
    }
}

/// The value of a path `/api/organizations/{organization}/configs/{service}/{key}...`.
#[derive(Debug, Clone)]
pub struct OfKey {
    /// The organization.
    pub organization: OrganizationId,
    /// The value's name.
    pub name: ConfigName,
}

impl<S: Send + Sync> FromRequestParts<S> for OfKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (id, service, key): (String, String, String) = path(parts, state).await?;
        let invalid = |error: contract::InvalidIdentifier| {
            named(StatusCode::BAD_REQUEST, "invalid-name", "Invalid name").detail(error.to_string())
        };
        let name =
            ConfigName { service: service.parse().map_err(invalid)?, key: key.parse().map_err(invalid)? };
        Ok(Self { organization: organization(&id)?, name })
    }
}

/// The client's network address, where it is known.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub Option<IpAddr>);

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        let told =
            state.settings.client_address_header.as_ref().and_then(|name| told_address(&parts.headers, name));
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        Ok(Self(told.or(peer)))
    }
}

/// The last address of a header: what stands before it may come from the client.
fn told_address(headers: &HeaderMap, name: &HeaderName) -> Option<IpAddr> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    let last = value.rsplit(',').next()?.trim();
    last.parse().ok().or_else(|| last.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::identity::Role;

    fn caller(organization: Option<u128>, role: Role) -> Caller {
        Caller(Claims {
            iss: String::new(),
            aud: String::new(),
            sub: Uuid::nil(),
            org_id: organization.map(|id| OrganizationId(Uuid::from_u128(id))),
            user_role: role,
            permissions: Vec::new(),
            jti: Uuid::nil(),
            email: String::new(),
            iat: 0,
            exp: 0,
        })
    }

    fn status(result: Result<(), Problem>) -> u16 {
        result.err().map_or(200, |problem| problem.status.as_u16())
    }

    #[test]
    fn another_organization_does_not_exist_and_a_weak_role_is_told() {
        let own = OrganizationId(Uuid::from_u128(1));
        let cases = [
            (caller(Some(1), Role::Developer), Permission::ConfigsWrite, 200),
            (caller(Some(1), Role::Viewer), Permission::ConfigsWrite, 403),
            (caller(Some(2), Role::Owner), Permission::ConfigsWrite, 404),
            (caller(Some(2), Role::Viewer), Permission::ConfigsWrite, 404),
            (caller(None, Role::Operator), Permission::OrganizationRead, 200),
            (caller(None, Role::Operator), Permission::ConfigsRead, 403),
        ];
        for (caller, permission, expect) in cases {
            assert_eq!(status(caller.require(own, permission)), expect, "{caller:?} {permission:?}");
        }
    }

    #[test]
    fn the_header_is_read_strictly() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(|token| token.map(str::to_owned)).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer abc"]), Ok(Some("abc".into())));
        assert_eq!(read(&["bearer abc"]), Ok(Some("abc".into())));
        for bad in [&["Basic abc"][..], &["Bearer"], &["Bearer a", "Bearer b"]] {
            assert_eq!(read(bad), Err(401), "{bad:?}");
        }
    }

    #[test]
    fn the_proxy_s_own_entry_counts() {
        let name = HeaderName::from_static("x-forwarded-for");
        let told = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, value.parse().unwrap());
            }
            told_address(&headers, &name).map(|address| address.to_string())
        };
        assert_eq!(told(&["10.0.0.1, 192.0.2.7"]).as_deref(), Some("192.0.2.7"));
        assert_eq!(told(&["10.0.0.1", "192.0.2.8:4711"]).as_deref(), Some("192.0.2.8"));
        assert_eq!(told(&["2001:db8::1"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(told(&["192.0.2.7, unknown"]), None);
        assert_eq!(told(&[]), None);
    }
}
