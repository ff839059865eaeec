//! A proxy before the apiserver that answers in its place: errors and silence, before or after the call takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use crate::Platform;

/// Longer than any client waits.
const SILENCE: Duration = Duration::from_mins(1);
/// Longest body that is passed on.
const BODY_MAX: usize = 4 << 20;

/// What is answered in the apiserver's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error with this status and reason.
    Status(u16, &'static str),
    /// Nothing.
    Silence,
}

/// Which calls about one namespace are answered otherwise.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The call, as [`FaultProxy::seen`] names it.
    pub call: String,
    /// What is answered.
    pub fault: Fault,
    /// Whether the apiserver gets the call all the same, so that it takes effect.
    pub takes_effect: bool,
    /// How many such calls.
    pub times: u32,
}

#[derive(Default)]
struct Shared {
    plans: BTreeMap<String, Plan>,
    seen: BTreeMap<String, BTreeSet<String>>,
}

/// The proxy; ends with the value.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Proxy {
    client: reqwest::Client,
    upstream: String,
    shared: Arc<Mutex<Shared>>,
}

impl FaultProxy {
    /// Starts a proxy before the apiserver that `kubeconfig` names.
    pub async fn start(platform: &Platform, kubeconfig: &Path) -> Result<Self> {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(platform.ca_file())?)?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build()?;
        let upstream =
            read(kubeconfig)?["clusters"][0]["cluster"]["server"].as_str().context("a server")?.to_owned();
        let shared = Arc::<Mutex<Shared>>::default();
        let proxy = Proxy { client, upstream, shared: Arc::clone(&shared) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(proxy);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, server })
    }

    /// The same account, by way of the proxy.
    pub fn kubeconfig(&self, kubeconfig: &Path) -> Result<PathBuf> {
        let mut content = read(kubeconfig)?;
        content["clusters"][0]["cluster"] = json!({ "server": format!("http://{}", self.address) });
        let path = crate::workspace::root()
            .join(format!(".local/programs/proxy-{}.kubeconfig", self.address.port()));
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(&path, serde_json::to_vec(&content)?)?;
        Ok(path)
    }

    /// Plans faults for a namespace.
    pub fn plan(&self, namespace: &str, plan: Plan) {
        self.lock().plans.insert(namespace.to_owned(), plan);
    }

    /// The calls that were made about a namespace, as method and path with `*` for its name.
    pub fn seen(&self, namespace: &str) -> BTreeSet<String> {
        self.lock().seen.get(namespace).cloned().unwrap_or_default()
    }

    /// How many faults of a namespace's plan are left.
    pub fn left(&self, namespace: &str) -> u32 {
        self.lock().plans.get(namespace).map_or(0, |plan| plan.times)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn read(kubeconfig: &Path) -> Result<Value> {
    serde_norway::from_slice(&std::fs::read(kubeconfig)?).context("read the kubeconfig")
}

/// Which namespace a call is about: by its path, or by its body where the path does not say.
fn namespace_of(path: &str, body: &[u8]) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(1);
    if let Some(name) = parts.next() {
        return Some(name.to_owned());
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    let name =
        body.pointer("/spec/resourceAttributes/namespace").or_else(|| body.pointer("/metadata/name"))?;
    name.as_str().map(str::to_owned)
}

impl Proxy {
    /// Takes the fault for a call out of the plan, and notes the call.
    fn fault(&self, namespace: Option<&str>, call: &str) -> Option<(Fault, bool)> {
        let namespace = namespace?;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.seen.entry(namespace.to_owned()).or_default().insert(call.to_owned());
        let plan = shared.plans.get_mut(namespace).filter(|plan| plan.call == call && plan.times > 0)?;
        plan.times -= 1;
        Some((plan.fault, plan.takes_effect))
    }

    async fn forward(&self, request: reqwest::RequestBuilder) -> Response {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap_or_default();
        let mut response = (status, body).into_response();
        if let Some(kind) = headers.get(header::CONTENT_TYPE) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        }
        response
    }
}

async fn pass(State(proxy): State<Proxy>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let namespace = namespace_of(parts.uri.path(), &body);
    let path = match &namespace {
        Some(name) => parts.uri.path().replace(name.as_str(), "*"),
        None => parts.uri.path().to_owned(),
    };
    let fault = proxy.fault(namespace.as_deref(), &format!("{} {path}", parts.method));
    let url = format!("{}{}", proxy.upstream, parts.uri.path_and_query().map_or("/", |path| path.as_str()));
    let mut headers = HeaderMap::new();
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let forwarded = proxy.client.request(parts.method, url).headers(headers).body(body);
    let Some((fault, takes_effect)) = fault else { return proxy.forward(forwarded).await };
    if takes_effect {
        proxy.forward(forwarded).await;
    }
    match fault {
        Fault::Silence => {
            tokio::time::sleep(SILENCE).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Fault::Status(code, reason) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "a fault that the test made", "reason": reason, "code": code,
            });
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (code, axum::Json(status)).into_response()
        }
    }
}
