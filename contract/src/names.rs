//! The names on the wire: labels, annotations, object names. Changing one is a breaking change.

/// Namespace label that opens the gate when it is [`GATE_OPEN`].
pub const GATE_LABEL: &str = "isolation-ready";
/// The one value of [`GATE_LABEL`] that opens the gate.
pub const GATE_OPEN: &str = "true";

/// Prefix of every label and annotation of ours; guarded as a whole.
pub const PREFIX: &str = "agent-ready.io/";
/// Namespace label: the tenant's organization, a UUID.
pub const ORGANIZATION_LABEL: &str = "agent-ready.io/organization";
/// Namespace annotation: the RBAC subject that owns the tenant.
pub const OWNER_ANNOTATION: &str = "agent-ready.io/owner";
/// Namespace annotation: the least keys and values of the tenant's ResourceQuota, a JSON object.
pub const QUOTA_ANNOTATION: &str = "agent-ready.io/quota";
/// Namespace label: the gate's mode, `deny`, `hold`, `warn`, `audit` or `exempt`.
pub const MODE_LABEL: &str = "agent-ready.io/gate";
/// Namespace annotation: the operation that made the namespace, a UUID made by the server.
pub const OPERATION_ANNOTATION: &str = "agent-ready.io/operation-id";
/// Namespace label and pod annotation: whether the config sidecar is injected, `enabled` or `disabled`.
pub const INJECT_LABEL: &str = "agent-ready.io/inject";
/// Pod annotation: whether app containers wait for the warm load, `wait` (default) or `go`.
pub const START_ANNOTATION: &str = "agent-ready.io/start";
/// Scheduling gate of held pods.
pub const HOLD_GATE: &str = "agent-ready.io/isolation";

/// Prefix of the Pod Security admission labels.
pub const POD_SECURITY_PREFIX: &str = "pod-security.kubernetes.io/";
/// Label that the apiserver itself sets to the namespace's name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Annotation of the pods that mirror a kubelet's own files.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Informational only: Helm sets it too.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Our value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "agent-ready-k8s";

/// ResourceQuota of a tenant.
pub const QUOTA_NAME: &str = "tenant-quota";
/// LimitRange of a tenant.
pub const LIMITS_NAME: &str = "tenant-limits";
/// NetworkPolicy that denies all ingress and egress.
pub const DEFAULT_DENY_NAME: &str = "default-deny";
/// NetworkPolicy that lets pods reach what the platform offers them.
pub const ALLOW_PLATFORM_NAME: &str = "allow-platform";
/// RoleBinding of the owner.
pub const OWNER_BINDING_NAME: &str = "tenant-owner";
/// ClusterRole that the owner is bound to.
pub const OWNER_ROLE: &str = "admin";
/// Secret with the sidecar's credentials.
pub const SECRET_NAME: &str = "config-sidecar";

/// Namespace of our own programs, always exempt from the gate.
pub const SYSTEM_NAMESPACE: &str = "agent-ready-system";
/// Prefix of tenant namespaces.
pub const NAMESPACE_PREFIX: &str = "org-";

/// Name of the injected container.
pub const SIDECAR_CONTAINER: &str = "agent-ready-config";
/// Environment variable in app containers with the sidecar's base URL.
pub const CONFIG_URL_ENV: &str = "AGENT_READY_CONFIG_URL";
/// The sidecar's base URL inside the pod.
pub const CONFIG_URL: &str = "http://127.0.0.1:7070";
/// Port of the sidecar's API, on 127.0.0.1 only.
pub const CONFIG_PORT: u16 = 7070;
/// Port of the sidecar's probes and metrics, on the pod's address.
pub const PROBE_PORT: u16 = 7071;
/// Where the Secret [`SECRET_NAME`] is mounted in the sidecar.
pub const CREDENTIALS_DIR: &str = "/etc/agent-ready/credentials";
/// Keys of the Secret [`SECRET_NAME`].
pub mod credentials {
    /// PostgreSQL URL of the tenant's read-only role.
    pub const DATABASE_URL: &str = "database-url";
    /// Redis URL (`rediss://`) of the tenant's subscribe-only user.
    pub const REDIS_URL: &str = "redis-url";
    /// PEM bundle that both servers' certificates chain to.
    pub const CA: &str = "ca.crt";
    /// The organization's UUID.
    pub const ORGANIZATION: &str = "organization";
}
