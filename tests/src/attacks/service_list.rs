//! What the provisioner's own roles try: one who finds a hole in our code has these logins and no more.
//!
//! `app.current_org` names the organization a request is about; code alone decides it, so setting it to the victim's is
//! not an attack but the role's work. Getting round it is.

use super::{Attack, harmless, refused};

/// Attacks for the service's role and, but for those on coordination tables, the platform's.
pub const ESCALATIONS: &[Attack] = &[
    harmless("no organization at all", &["SELECT key, value::text FROM service_configs"]),
    harmless(
        "an empty organization",
        &["SET app.current_org = ''", "SELECT key, value::text FROM service_configs"],
    ),
    harmless("history of nobody", &["SELECT new_value::text, changed_by FROM config_history"]),
    harmless(
        "its own organization",
        &["SET app.current_org = '{own}'", "SELECT key, value::text FROM service_configs"],
    ),
    refused("row security off", &["SET row_security = off", "SELECT key FROM service_configs"]),
    refused("SET ROLE superuser", &["SET ROLE postgres"]),
    refused("SET ROLE owner", &["SET ROLE agent_ready_owner"]),
    refused("SET ROLE migrator", &["SET ROLE agent_ready_migrator"]),
    refused("SET ROLE definer", &["SET ROLE agent_ready_definer"]),
    refused("SET ROLE role admin", &["SET ROLE agent_ready_role_admin"]),
    refused("SET ROLE watchdog", &["SET ROLE agent_ready_watchdog"]),
    refused("SET ROLE victim", &["SET ROLE {victim_role}"]),
    refused("SET SESSION AUTHORIZATION", &["SET SESSION AUTHORIZATION postgres"]),
    refused("GRANT of the owner to itself", &["GRANT agent_ready_owner TO CURRENT_USER"]),
    refused("GRANT of the role admin to itself", &["GRANT agent_ready_role_admin TO CURRENT_USER"]),
    refused("GRANT of the tenants' group to itself", &["GRANT agent_ready_tenant TO CURRENT_USER"]),
    refused("GRANT of the victim to itself", &["GRANT {victim_role} TO CURRENT_USER"]),
    refused("GRANT of all statistics", &["GRANT pg_read_all_data TO CURRENT_USER"]),
    refused("CREATE ROLE", &["CREATE ROLE intruder LOGIN"]),
    refused("CREATE ROLE in the owner", &["CREATE ROLE intruder IN ROLE agent_ready_owner"]),
    refused("ALTER ROLE BYPASSRLS", &["ALTER ROLE CURRENT_USER BYPASSRLS"]),
    refused("ALTER ROLE CREATEROLE", &["ALTER ROLE CURRENT_USER CREATEROLE"]),
    refused("ALTER ROLE SUPERUSER", &["ALTER ROLE CURRENT_USER SUPERUSER"]),
    refused("the owner's login", &["ALTER ROLE agent_ready_owner LOGIN PASSWORD 'x'"]),
    refused("the migrator's password", &["ALTER ROLE agent_ready_migrator PASSWORD 'x'"]),
    refused("the victim's password", &["ALTER ROLE {victim_role} PASSWORD 'x'"]),
    refused("DROP ROLE", &["DROP ROLE {victim_role}"]),
    refused("ALTER POLICY", &["ALTER POLICY program_own ON service_configs USING (true)"]),
    refused("CREATE POLICY", &["CREATE POLICY p ON service_configs USING (true)"]),
    refused("DROP POLICY", &["DROP POLICY program_own ON service_configs"]),
    refused("row security disabled", &["ALTER TABLE service_configs DISABLE ROW LEVEL SECURITY"]),
    refused("row security not forced", &["ALTER TABLE service_configs NO FORCE ROW LEVEL SECURITY"]),
    refused("ownership", &["ALTER TABLE service_configs OWNER TO CURRENT_USER"]),
    refused("triggers disabled", &["ALTER TABLE config_history DISABLE TRIGGER ALL"]),
    refused("triggers off by a setting", &["SET session_replication_role = replica"]),
    refused(
        "a SECURITY DEFINER function",
        &["CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"],
    ),
    refused(
        "another body of a function",
        &[
            "CREATE OR REPLACE FUNCTION public.tenant_organization() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        ],
    ),
    refused("a view", &["CREATE VIEW public.v AS SELECT key FROM service_configs"]),
    refused("a temporary table", &["CREATE TEMP TABLE t (a int)"]),
    refused("an anonymous block", &["DO 'BEGIN PERFORM 1; END'"]),
    refused("REASSIGN OWNED", &["REASSIGN OWNED BY agent_ready_owner TO CURRENT_USER"]),
    refused(
        "history changed",
        &["SET app.current_org = '{victim}'", "UPDATE config_history SET reason = 'x'"],
    ),
    refused("history removed", &["SET app.current_org = '{victim}'", "DELETE FROM config_history"]),
    refused(
        "history written",
        &["SET app.current_org = '{victim}'", "INSERT INTO config_history SELECT * FROM config_history"],
    ),
    refused("history truncated", &["TRUNCATE config_history CASCADE"]),
    refused(
        "a value removed without a tombstone",
        &["SET app.current_org = '{own}'", "DELETE FROM service_configs"],
    ),
    refused(
        "a version skipped",
        &[
            "SET app.current_org = '{own}'",
            "SET app.actor = 'x'",
            "UPDATE service_configs SET version = version + 2, revision = revision + 1",
        ],
    ),
    refused(
        "a version taken back",
        &[
            "SET app.current_org = '{own}'",
            "SET app.actor = 'x'",
            "UPDATE service_configs SET version = version - 1, revision = revision + 1",
        ],
    ),
    refused(
        "a change by nobody",
        &[
            "SET app.current_org = '{own}'",
            "UPDATE service_configs SET version = version + 1, revision = revision + 1",
        ],
    ),
    refused(
        "a row given to the victim",
        &[
            "SET app.current_org = '{own}'",
            "SET app.actor = 'x'",
            "UPDATE service_configs SET org_id = '{victim}', version = version + 1, revision = revision + 1",
        ],
    ),
    refused(
        "a row in the victim's name",
        &[
            "SET app.current_org = '{own}'",
            "INSERT INTO service_configs (org_id, service, key, value, version, epoch, revision, updated_by) VALUES ('{victim}', 'a', 'b', '1', 1, 1, 99, 'x')",
        ],
    ),
    refused(
        "a quota in the victim's name",
        &[
            "SET app.current_org = '{own}'",
            "INSERT INTO quota_changes (org_id, cpu, memory, storage, actor) VALUES ('{victim}', '1', '1', '1', 'x')",
        ],
    ),
    refused(
        "a quota changed afterwards",
        &["SET app.current_org = '{own}'", "UPDATE quota_changes SET cpu = '1'"],
    ),
    refused("the mapping changed", &["UPDATE tenant_roles SET org_id = '{victim}'"]),
    refused("verifiers", &["SELECT verifier FROM tenant_roles"]),
    refused("verifiers by the pooler's function", &["SELECT * FROM pooler_lookup('{victim_role}')"]),
    refused("a plain password for a role", &["SELECT tenant_role_create('{own}', 0::smallint, 'secret')"]),
    refused(
        "SQL in the verifier",
        &["SELECT tenant_role_create('{own}', 0::smallint, 'SCRAM-SHA-256$4096:x''; DROP TABLE users; --')"],
    ),
    refused("passwords", &["SELECT rolpassword FROM pg_authid"]),
    refused("ending the victim's sessions", &["SELECT tenant_sessions_end('{victim_role}')"]),
    refused("a file", &["SELECT pg_read_file('/etc/passwd')"]),
    refused("a program", &["COPY (SELECT 1) TO PROGRAM 'cat'"]),
    refused("another configuration", &["ALTER SYSTEM SET ssl = off"]),
    refused("an extension", &["CREATE EXTENSION dblink"]),
    refused("audit entries removed", &["DELETE FROM archive_audit"]),
];

/// Attacks for the service's role alone: the platform's may do these.
pub const COORDINATION: &[Attack] = &[
    harmless("all organizations", &["SELECT name, slug, namespace, owner_email FROM organizations"]),
    harmless("all outboxes", &["SELECT key FROM config_outbox"]),
    harmless("all memberships", &["SELECT * FROM memberships"]),
    refused("users", &["SELECT email, password_hash FROM users"]),
    refused("operations", &["SELECT request FROM operations"]),
    refused("the mapping", &["SELECT role_name FROM tenant_roles"]),
    refused("a role for a tenant", &["SELECT tenant_role_create('{own}', 0::smallint, 'x')"]),
    refused("dropping a tenant's roles", &["SELECT tenant_role_drop('{victim}')"]),
    refused("purging the victim", &["SELECT organization_purge('{victim}', 'x', 'x')"]),
    refused("ending transactions", &["SELECT tenant_transactions_end('0 s')"]),
    refused("asking what became of the victim", &["SELECT organization_abandoned('{victim}')"]),
    refused(
        "an organization's name",
        &["SET app.current_org = '{own}'", "UPDATE organizations SET name = 'x'"],
    ),
    refused(
        "an organization's status",
        &["SET app.current_org = '{own}'", "UPDATE organizations SET status = 'FAILED'"],
    ),
    refused(
        "a membership for itself",
        &[
            "SET app.current_org = '{own}'",
            "INSERT INTO memberships SELECT gen_random_uuid(), '{own}', 'owner'",
        ],
    ),
];
