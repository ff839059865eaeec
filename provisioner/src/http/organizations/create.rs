//! `POST /api/organizations`: one call makes a tenant.

use std::{net::IpAddr, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use runtime::problem::Problem;
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use super::answer::{accepted, cause_problem, ended, invalid, key_reused, still_running, too_many};
use crate::{
    http::{
        extract::{Body, Caller, ClientAddress},
        operations,
        problem::named,
    },
    identity::{Permission, throttle},
    settings::Registration,
    state::AppState,
    tenancy::{Answer, Asking, Begun, Creation, Failure, IdempotencyKey, Limit, NewOrganization, Opened},
};

/// How often the end is looked for when another replica goes on with the operation.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Makes a tenant and answers when it is ready, or where to look if asked to, or if it takes long.
pub async fn create(
    State(state): State<AppState>,
    caller: Option<Caller>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Body(body): Body<NewOrganization>,
) -> Result<Response, Problem> {
    let operator =
        caller.as_ref().is_some_and(|caller| caller.require_anywhere(Permission::PlatformRead).is_ok());
    if state.settings.registration == Registration::Closed && !operator {
        return Err(named(StatusCode::FORBIDDEN, "registration-closed", "Registration is closed")
            .detail("organizations are made by platform operators here"));
    }
    let key = idempotency_key(&headers)?;
    let own = caller.as_ref().map(|caller| caller.claims().email.as_str());
    let creation = Creation::parse(body, &state.settings.owner_prefix, |email| own == Some(email))
        .map_err(|faults| invalid(&faults))?;
    let subject = match &caller {
        Some(caller) => format!("user:{}", caller.claims().sub),
        None => format!("email:{}", creation.email),
    };
    let asking = Asking {
        subject: &subject,
        key: key.as_ref(),
        limits: limits(&state, &creation.email, address),
        invitation_needed: state.settings.registration == Registration::Invite && !operator,
    };
    let asked = Instant::now();
    match state.tenancy.begin(creation, asking).await.map_err(unavailable)? {
        Begun::Running { operation, .. } if prefers_async(&headers) => Ok(accepted(operation)),
        Begun::Running { operation, end } => wait(&state, operation, end, asked).await,
        Begun::Not(opened) => refused(opened),
    }
}

/// What a request that began nothing is answered.
fn refused(opened: Opened) -> Result<Response, Problem> {
    match opened {
        Opened::Known { same: false, .. } => Err(key_reused()),
        Opened::Known { answer: Some(answer), .. } => Ok(ended(answer)),
        Opened::Known { operation, .. } => Err(still_running(operation)),
        Opened::Refused(cause) => Err(cause_problem(&cause)),
        Opened::Throttled => Err(too_many(seconds_left())),
        Opened::Fresh(lease) => Ok(accepted(lease.operation)),
    }
}

/// Waits for the end for as long as a request may take.
async fn wait(
    state: &AppState,
    operation: Uuid,
    end: oneshot::Receiver<Option<Answer>>,
    asked: Instant,
) -> Result<Response, Problem> {
    let deadline = asked + state.tenancy.saga().wait_max();
    match tokio::time::timeout_at(deadline, end).await {
        Ok(Ok(Some(answer))) => return Ok(ended(answer)),
        Ok(_) => {}
        Err(_) => return Ok(accepted(operation)),
    }
    while Instant::now() < deadline {
        if let Some(answer) = operations::answer_of(state, operation).await? {
            return Ok(ended(answer));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(accepted(operation))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let bad = |detail: &str| {
        named(StatusCode::BAD_REQUEST, "invalid-idempotency-key", "Invalid Idempotency-Key").detail(detail)
    };
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("send one Idempotency-Key"));
    }
    let key = value.to_str().ok().and_then(|text| text.parse().ok());
    key.map(Some).ok_or_else(|| bad("an Idempotency-Key has 1 to 255 visible ASCII characters"))
}

/// Whether the caller would rather not wait (RFC 7240).
fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|preference| {
            preference.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("respond-async")
        })
}

fn limits(state: &AppState, email: &str, address: Option<IpAddr>) -> Vec<Limit> {
    // Emails first, addresses after them: one order of locks for all.
    let email = Limit {
        bucket: format!("register:email:{}", throttle::digest(email)),
        max: state.settings.registrations_per_email,
    };
    let address = address.map(|address| Limit {
        bucket: format!("register:network:{}", throttle::network(address)),
        max: state.settings.registrations_per_address,
    });
    std::iter::once(email).chain(address).collect()
}

/// Seconds until the minute ends in which the caller asked too often.
fn seconds_left() -> u64 {
    60 - u64::from(time::OffsetDateTime::now_utc().second().min(59))
}

/// Nothing was begun, and asking again may help.
fn unavailable(failure: Failure) -> Problem {
    match failure {
        Failure::Transient { cause, .. } => {
            tracing::warn!(cause, "creation not begun");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("the creation could not be begun: ask again")
                .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        Failure::Permanent(cause) => cause_problem(&cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn preferences_are_a_list() {
        assert!(prefers_async(&headers("prefer", &["respond-async"])));
        assert!(prefers_async(&headers("prefer", &["return=minimal, Respond-Async; x=y"])));
        assert!(!prefers_async(&headers("prefer", &["wait=10"])));
        assert!(!prefers_async(&HeaderMap::new()));
    }

    #[test]
    fn one_valid_key_or_none() {
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
        assert!(idempotency_key(&headers("idempotency-key", &["a"])).unwrap().is_some());
        for bad in [&["a", "b"][..], &[""], &["a b"]] {
            assert!(idempotency_key(&headers("idempotency-key", bad)).is_err(), "{bad:?}");
        }
    }
}
