//! DNS rebinding: a web page that a browser in the pod shows can point its own name at 127.0.0.1 and then read from
//! here. Its requests still carry its own name in Host, so only local names are answered (as in CVE-2025-66414).

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use runtime::problem::Problem;

/// Passes on what asks for a local name, and refuses the rest.
pub(super) async fn only_local(request: Request, next: Next) -> Response {
    if is_local(request.headers(), request.uri()) {
        next.run(request).await
    } else {
        Problem::new(StatusCode::MISDIRECTED_REQUEST)
            .detail("the Host header must be localhost, 127.0.0.1 or [::1]")
            .into_response()
    }
}

/// Whether exactly one Host is given, and it and any authority in the request line are local names.
fn is_local(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let named = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    named.is_some_and(|host| is_local_name(&host)) && uri.authority().is_none_or(is_local_name)
}

fn is_local_name(authority: &Authority) -> bool {
    let host = authority.host();
    // User information is never part of a Host header.
    let plain = !authority.as_str().contains('@');
    plain && (host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(hosts: &[&str], uri: &str) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        is_local(&headers, &uri.parse().unwrap())
    }

    #[test]
    fn local_names_pass_with_any_port() {
        for host in ["localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:7070", "[::1]", "[::1]:7070"] {
            assert!(local(&[host], "/v1/config"), "{host}");
        }
        assert!(local(&["localhost"], "http://localhost/v1/config"));
    }

    #[test]
    fn everything_else_is_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "evil.example:7070",
            "localhost@evil.example",
            "evil.example@localhost",
            "127.0.0.2",
            "0.0.0.0",
            "10.244.0.7",
            "::1",
            "",
            "localhost.",
        ] {
            assert!(!local(&[host], "/"), "{host}");
        }
        assert!(!local(&[], "/"));
        assert!(!local(&["localhost", "evil.example"], "/"));
        assert!(!local(&["localhost"], "http://evil.example/"));
    }
}
