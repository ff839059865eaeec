//! Names of the PostgreSQL roles, and of the setting that row-level security is keyed to.

/// Owns the schema; nobody logs in as it.
pub const OWNER: &str = "agent_ready_owner";
/// Login of `provisioner migrate`; a member of [`OWNER`].
pub const MIGRATOR: &str = "agent_ready_migrator";
/// Login of the provisioner for coordination across organizations.
pub const PLATFORM: &str = "agent_ready_platform";
/// Login of the provisioner for the data of one organization at a time.
pub const SERVICE: &str = "agent_ready_service";
/// Group of all tenant login roles; grants what a sidecar may read.
pub const TENANT: &str = "agent_ready_tenant";
/// Owner of the functions that make tenant roles; nobody logs in as it.
pub const ROLE_ADMIN: &str = "agent_ready_role_admin";
/// Login of PgBouncer's `auth_query`.
pub const POOLER: &str = "agent_ready_pooler";
/// Transaction-local setting that names the current organization for [`SERVICE`] and [`PLATFORM`].
pub const CURRENT_ORGANIZATION: &str = "app.current_org";
/// Service under which the provisioner mirrors what it manages; tenants cannot write it.
pub const PLATFORM_SERVICE: &str = "platform";
