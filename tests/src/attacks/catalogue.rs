//! What the catalogue must not hold: each query lists what breaks a rule, so an empty answer is a pass.

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, PgConnection};

/// A rule about the whole schema, and the query for what breaks it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The rule, in words.
    pub name: &'static str,
    /// Gives one text column: the offenders.
    pub query: &'static str,
}

const fn rule(name: &'static str, query: &'static str) -> Rule {
    Rule { name, query }
}

/// All rules.
pub const RULES: &[Rule] = &[
    rule(
        "every policy names its role",
        "SELECT polrelid::regclass || '.' || polname FROM pg_policy WHERE 0 = ANY (polroles)",
    ),
    rule(
        "every table with an organization forces row security",
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
         WHERE a.attname = 'org_id' AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    ),
    rule(
        "organizations force row security",
        "SELECT oid::regclass::text FROM pg_class
         WHERE oid = 'organizations'::regclass AND NOT (relrowsecurity AND relforcerowsecurity)",
    ),
    rule(
        "the service and tenants see rows by their organization alone",
        "SELECT polrelid::regclass || '.' || polname FROM pg_policy
         WHERE polroles && ARRAY['agent_ready_service'::regrole::oid, 'agent_ready_tenant'::regrole::oid]
           AND (coalesce(pg_get_expr(polqual, polrelid), 'current_organization()') !~ '(current|tenant)_organization\\(\\)'
             OR coalesce(pg_get_expr(polwithcheck, polrelid), 'current_organization()') !~ 'current_organization\\(\\)')",
    ),
    rule(
        "the platform reads configuration of one organization at a time",
        "SELECT polrelid::regclass || '.' || polname FROM pg_policy
         WHERE 'agent_ready_platform'::regrole::oid = ANY (polroles)
           AND polrelid IN ('service_configs'::regclass, 'config_history'::regclass, 'quota_changes'::regclass)
           AND coalesce(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) !~ 'current_organization\\(\\)'",
    ),
    rule(
        "a definer's function has a fixed search path, with temporary objects last",
        "SELECT oid::regprocedure::text FROM pg_proc
         WHERE prosecdef AND pronamespace <> 'pg_catalog'::regnamespace
           AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)",
    ),
    rule(
        "no function of ours is for everybody",
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p
         WHERE p.pronamespace = 'public'::regnamespace
           AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 0))",
    ),
    rule(
        "no table, schema or database of ours is for everybody, nor a database that the server came with",
        "SELECT oid::regclass::text FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0)
         UNION ALL
         SELECT nspname FROM pg_namespace
         WHERE nspname = 'public' AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0)
         UNION ALL
         SELECT datname FROM pg_database
         WHERE datname IN (current_database(), 'postgres', 'template1')
           AND (datacl IS NULL OR EXISTS (SELECT FROM aclexplode(datacl) WHERE grantee = 0))",
    ),
    rule(
        "no view runs as its owner",
        "SELECT oid::regclass::text FROM pg_class
         WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace
           AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)",
    ),
    rule(
        "the owner owns every table, and nobody logs in as it",
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner
         WHERE c.relnamespace = 'public'::regnamespace AND (r.rolname <> 'agent_ready_owner' OR r.rolcanlogin)",
    ),
    rule(
        "no login has a power over roles or rows",
        "SELECT rolname FROM pg_roles
         WHERE (rolname LIKE 'agent\\_ready\\_%' OR rolname ~ '^t_')
           AND (rolsuper OR rolbypassrls OR rolcreatedb OR rolreplication
             OR (rolcreaterole AND (rolcanlogin OR rolname <> 'agent_ready_role_admin')))",
    ),
    rule(
        "nobody can become the role with CREATEROLE, and the definer and the owner only by way of the migrator",
        "SELECT m.member::regrole || ' in ' || m.roleid::regrole FROM pg_auth_members AS m
         WHERE m.roleid::regrole::text IN ('agent_ready_role_admin', 'agent_ready_owner', 'agent_ready_definer',
             'agent_ready_watchdog')
           AND (m.roleid::regrole::text, m.member::regrole::text) NOT IN (
             ('agent_ready_owner', 'agent_ready_migrator'), ('agent_ready_definer', 'agent_ready_owner'))",
    ),
    rule(
        "a tenant may read the configuration and nothing else",
        "SELECT c.oid::regclass || ' ' || p.privilege
         FROM pg_class AS c CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('REFERENCES')) AS p (privilege)
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
           AND has_any_column_privilege('agent_ready_tenant', c.oid, p.privilege)
           AND (c.relname <> 'service_configs' OR p.privilege <> 'SELECT')
         UNION ALL
         SELECT c.oid::regclass || ' ' || p.privilege
         FROM pg_class AS c CROSS JOIN (VALUES ('DELETE'), ('TRUNCATE'), ('TRIGGER')) AS p (privilege)
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
           AND has_table_privilege('agent_ready_tenant', c.oid, p.privilege)",
    ),
    rule(
        "a tenant may call the mapping and nothing else",
        "SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND proname <> 'tenant_organization'
           AND has_function_privilege('agent_ready_tenant', oid, 'EXECUTE')",
    ),
    rule(
        "history is append-only for every login",
        "SELECT r.rolname || ' ' || p.privilege
         FROM pg_roles AS r CROSS JOIN (VALUES ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('INSERT')) AS p (privilege)
         WHERE r.rolcanlogin AND NOT r.rolsuper AND has_table_privilege(r.oid, 'config_history', p.privilege)",
    ),
    rule(
        "nothing of ours sends NOTIFY, so that LISTEN hears nothing",
        "SELECT oid::regprocedure::text FROM pg_proc
         WHERE pronamespace = 'public'::regnamespace AND prosrc ~* '(pg_notify|notify )'",
    ),
    rule(
        "no temporary objects, schemas or large objects for programs and tenants",
        "SELECT rolname FROM pg_roles
         WHERE (rolcanlogin OR rolname = 'agent_ready_tenant') AND NOT rolsuper
           AND (has_database_privilege(oid, current_database(), 'TEMP') OR has_database_privilege(oid, current_database(), 'CREATE')
             OR has_schema_privilege(oid, 'public', 'CREATE') OR has_function_privilege(oid, 'lo_create(oid)', 'EXECUTE'))",
    ),
];

/// The offenders against all rules, in words.
pub async fn offenders(superuser: &mut PgConnection) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for rule in RULES {
        let names: Vec<String> = sqlx::query_scalar(AssertSqlSafe(rule.query))
            .fetch_all(&mut *superuser)
            .await
            .context(rule.name)?;
        found.extend(names.into_iter().map(|name| format!("{}: {name}", rule.name)));
    }
    Ok(found)
}
