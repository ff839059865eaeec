//! Reads a request's body within limits of kind, size and time.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use bytes::BytesMut;
use futures::StreamExt as _;
use runtime::problem::Problem;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The longest review. The API server takes objects of up to 3 MiB, and an UPDATE carries two; a pod that etcd can hold
/// (1.5 MB) fits twice with its envelope.
pub const BODY_BYTES_MAX: usize = 6 * 1024 * 1024;
/// How much of a longer body is read and thrown away, so that its sender can read the answer.
const DRAIN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a body may take, its wait for a place included.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// Bodies held at once, in KiB: a tenant that sends many long ones waits, instead of driving the process out of memory.
const BODIES_KIB_MAX: usize = 36 * 1024;

static PLACES: Semaphore = Semaphore::const_new(BODIES_KIB_MAX);

/// A body, with its place among those held at once.
pub struct Held {
    /// The bytes.
    pub bytes: Bytes,
    _place: SemaphorePermit<'static>,
}

/// A short name of a problem for metrics.
pub fn code(problem: &Problem) -> &'static str {
    match problem.status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "content-type",
        StatusCode::PAYLOAD_TOO_LARGE => "too-long",
        StatusCode::REQUEST_TIMEOUT => "too-slow",
        _ => "broken-off",
    }
}

/// The body, or what is wrong with it.
pub async fn read(request: Request) -> Result<Held, Problem> {
    let (parts, body) = request.into_parts();
    if !is_json(&parts.headers) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .detail("send an AdmissionReview as application/json"));
    }
    let held = async {
        let place = PLACES.acquire_many(kib(&parts.headers)).await.map_err(|_| overdue())?;
        Ok(Held { bytes: collect(body).await?, _place: place })
    };
    tokio::time::timeout(BODY_TIME_MAX, held).await.unwrap_or_else(|_| Err(overdue()))
}

fn overdue() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT)
        .detail(format!("the body took longer than {} s", BODY_TIME_MAX.as_secs()))
}

/// The KiB that a body will take; one of unknown length may take the most.
fn kib(headers: &HeaderMap) -> u32 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

async fn collect(body: Body) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0_usize;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST).detail(format!("the body could not be read: {error}"))
        })?;
        length += chunk.len();
        if length > DRAIN_BYTES_MAX {
            break;
        }
        if length > BODY_BYTES_MAX {
            (first, rest) = (Bytes::new(), BytesMut::new());
        } else if first.is_empty() && rest.is_empty() {
            // Reviews of ordinary size come in one piece: no copy.
            first = chunk;
        } else {
            if !first.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&chunk);
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
            .detail(format!("an AdmissionReview has at most {BODY_BYTES_MAX} bytes")));
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
