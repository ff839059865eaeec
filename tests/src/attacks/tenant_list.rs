//! What a tenant tries with the credentials of its sidecar.
//!
//! An attack that sets something first does so in the same message: the pooler takes back what a session was set to.

use super::{Attack, harmless, refused};

/// Reading other rows of the one table that it may read.
pub const READS: &[Attack] = &[
    harmless("no WHERE at all", &["SELECT org_id, service, key, value::text FROM service_configs"]),
    harmless(
        "asking by organization",
        &["SELECT key, value::text FROM service_configs WHERE org_id = '{victim}'"],
    ),
    harmless(
        "app.current_org for the session",
        &["SET app.current_org = '{victim}'; SELECT key, value::text FROM service_configs"],
    ),
    harmless(
        "app.current_org in a transaction",
        &[
            "BEGIN; SELECT set_config('app.current_org', '{victim}', true); SELECT key, value::text FROM service_configs; COMMIT",
        ],
    ),
    harmless(
        "another session_user by a setting",
        &["SET session_user = '{victim_role}'; SELECT key FROM service_configs"],
    ),
    refused("row security off", &["SET row_security = off; SELECT key, value::text FROM service_configs"]),
    refused("every column", &["SELECT * FROM service_configs"]),
    refused("the row as a whole", &["SELECT row_to_json(c) FROM service_configs AS c"]),
    refused("TABLE", &["TABLE service_configs"]),
    refused("who changed it", &["SELECT updated_by FROM service_configs"]),
    harmless(
        "a row by its place",
        &["SELECT key FROM service_configs WHERE ctid = ANY (ARRAY['(0,1)','(0,2)','(0,3)','(0,4)']::tid[])"],
    ),
    harmless(
        "an error that prints a value",
        &["SELECT key FROM service_configs WHERE (value #>> '{}')::int > 0"],
    ),
    harmless("an error that prints a key", &["SELECT 1 FROM service_configs WHERE key::uuid IS NOT NULL"]),
    harmless(
        "division by zero as an oracle",
        &["SELECT 1 / (CASE WHEN org_id = '{victim}' THEN 0 ELSE 1 END) FROM service_configs"],
    ),
    harmless(
        "a plan with counts and values",
        &["EXPLAIN (ANALYZE, VERBOSE, BUFFERS) SELECT key, value FROM service_configs"],
    ),
    harmless(
        "a generic plan",
        &[
            "PREPARE p (uuid) AS SELECT key, value::text FROM service_configs WHERE org_id = $1; EXECUTE p('{victim}')",
        ],
    ),
    harmless(
        "a cursor that outlives its transaction",
        &[
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT key, value::text FROM service_configs; COMMIT; FETCH ALL FROM c",
        ],
    ),
    harmless("COPY of the columns", &["COPY service_configs (org_id, service, key, value) TO STDOUT"]),
    harmless("COPY of a query", &["COPY (SELECT key, value FROM service_configs) TO STDOUT"]),
    refused("COPY of the table", &["COPY service_configs TO STDOUT"]),
    harmless(
        "query_to_xml",
        &["SELECT query_to_xml('SELECT key, value FROM service_configs', true, false, '')::text"],
    ),
    refused("table_to_xml", &["SELECT table_to_xml('service_configs', true, false, '')::text"]),
    harmless("schema_to_xml", &["SELECT schema_to_xml('public', true, false, '')::text"]),
    harmless("database_to_xml", &["SELECT database_to_xml(true, false, '')::text"]),
    harmless(
        "a recursive query",
        &[
            "WITH RECURSIVE r AS (SELECT key FROM service_configs UNION SELECT s.key FROM service_configs AS s, r) SELECT * FROM r",
        ],
    ),
    harmless(
        "a search path of its own",
        &["SET search_path = pg_temp, pg_catalog, public; SELECT key, value::text FROM service_configs"],
    ),
    harmless(
        "the tenants' group role",
        &["SET ROLE agent_ready_tenant; SELECT key, value::text FROM service_configs"],
    ),
    harmless("row locks", &["SELECT key FROM service_configs FOR KEY SHARE"]),
    harmless("a sample of the pages", &["SELECT key FROM service_configs TABLESAMPLE SYSTEM (100)"]),
];

/// Becoming someone else.
pub const IDENTITIES: &[Attack] = &[
    refused("SET ROLE superuser", &["SET ROLE postgres"]),
    refused("SET ROLE owner", &["SET ROLE agent_ready_owner"]),
    refused("SET ROLE service", &["SET ROLE agent_ready_service"]),
    refused("SET ROLE platform", &["SET ROLE agent_ready_platform"]),
    refused("SET ROLE definer", &["SET ROLE agent_ready_definer"]),
    refused("SET ROLE role admin", &["SET ROLE agent_ready_role_admin"]),
    refused("SET ROLE victim", &["SET ROLE {victim_role}"]),
    refused("SET SESSION AUTHORIZATION victim", &["SET SESSION AUTHORIZATION '{victim_role}'"]),
    refused("SET SESSION AUTHORIZATION superuser", &["SET SESSION AUTHORIZATION postgres"]),
    harmless(
        "RESET SESSION AUTHORIZATION",
        &["RESET SESSION AUTHORIZATION; SELECT key, value::text FROM service_configs"],
    ),
    refused("GRANT of the owner", &["GRANT agent_ready_owner TO {own_role}"]),
    refused("GRANT of the victim", &["GRANT {victim_role} TO {own_role}"]),
    refused("CREATE ROLE", &["CREATE ROLE intruder SUPERUSER LOGIN"]),
    refused("BYPASSRLS for itself", &["ALTER ROLE {own_role} BYPASSRLS"]),
    refused("the victim's password", &["ALTER ROLE {victim_role} PASSWORD 'x'"]),
    refused("the victim's settings", &["ALTER ROLE {victim_role} SET search_path = ''"]),
    refused("the victim's name", &["ALTER ROLE {own_role} RENAME TO t_00000000000000000000000000000000"]),
    refused("DROP ROLE victim", &["DROP ROLE {victim_role}"]),
    refused("REASSIGN OWNED", &["REASSIGN OWNED BY agent_ready_owner TO {own_role}"]),
];

/// Writing, locking, and changing what is defined.
pub const WRITES: &[Attack] = &[
    refused(
        "INSERT",
        &[
            "BEGIN READ WRITE; INSERT INTO service_configs (org_id, service, key, value, version, epoch, revision, updated_by) VALUES ('{own}', 'a', 'b', '1', 1, 1, 99, 'x')",
        ],
    ),
    refused("UPDATE", &["SET default_transaction_read_only = off; UPDATE service_configs SET value = '1'"]),
    refused("DELETE", &["SET default_transaction_read_only = off; DELETE FROM service_configs"]),
    refused("TRUNCATE", &["SET default_transaction_read_only = off; TRUNCATE service_configs"]),
    refused(
        "MERGE",
        &[
            "SET default_transaction_read_only = off; MERGE INTO service_configs AS c USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
        ],
    ),
    refused("SELECT FOR UPDATE", &["BEGIN READ WRITE; SELECT key FROM service_configs FOR UPDATE"]),
    refused("LOCK TABLE", &["BEGIN READ WRITE; LOCK TABLE service_configs IN ACCESS EXCLUSIVE MODE"]),
    refused("a temporary table", &["BEGIN READ WRITE; CREATE TEMP TABLE t AS SELECT 1"]),
    refused("a temporary view", &["CREATE TEMP VIEW v AS SELECT key FROM service_configs"]),
    refused(
        "a temporary function",
        &["BEGIN READ WRITE; CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
    ),
    refused("a table", &["BEGIN READ WRITE; CREATE TABLE public.t (a int)"]),
    refused("a view", &["BEGIN READ WRITE; CREATE VIEW public.v AS SELECT key FROM service_configs"]),
    refused(
        "a function",
        &["BEGIN READ WRITE; CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
    ),
    refused("a schema", &["BEGIN READ WRITE; CREATE SCHEMA intruder"]),
    refused(
        "an operator",
        &[
            "BEGIN READ WRITE; CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
        ],
    ),
    refused("an index", &["BEGIN READ WRITE; CREATE INDEX ON service_configs (key)"]),
    refused(
        "statistics",
        &["BEGIN READ WRITE; CREATE STATISTICS public.s ON service, key FROM service_configs"],
    ),
    refused(
        "a trigger",
        &[
            "BEGIN READ WRITE; CREATE TRIGGER t AFTER UPDATE ON service_configs EXECUTE FUNCTION config_record_change()",
        ],
    ),
    refused(
        "a rule",
        &["BEGIN READ WRITE; CREATE RULE r AS ON UPDATE TO service_configs DO INSTEAD NOTHING"],
    ),
    refused("an anonymous block", &["DO 'BEGIN PERFORM 1; END'"]),
    refused("a policy of its own", &["BEGIN READ WRITE; CREATE POLICY p ON service_configs USING (true)"]),
    refused("another policy", &["BEGIN READ WRITE; ALTER POLICY tenant_own ON service_configs USING (true)"]),
    refused("no policy", &["BEGIN READ WRITE; DROP POLICY tenant_own ON service_configs"]),
    refused("no row security", &["BEGIN READ WRITE; ALTER TABLE service_configs DISABLE ROW LEVEL SECURITY"]),
    refused("ownership", &["BEGIN READ WRITE; ALTER TABLE service_configs OWNER TO {own_role}"]),
    refused("an extension", &["BEGIN READ WRITE; CREATE EXTENSION pgcrypto"]),
    refused("a publication", &["BEGIN READ WRITE; CREATE PUBLICATION p FOR TABLE service_configs"]),
    refused("a foreign server", &["BEGIN READ WRITE; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw"]),
    refused("a two-phase transaction", &["BEGIN; PREPARE TRANSACTION 'x'"]),
    refused("COPY FROM a program", &["COPY service_configs FROM PROGRAM 'id'"]),
    refused("COPY TO a program", &["COPY (SELECT 1) TO PROGRAM 'cat'"]),
    refused("COPY TO a file", &["COPY (SELECT 1) TO '/tmp/agent-ready-intruder'"]),
];

/// What all share: files, large objects, locks, messages, statistics, settings.
pub const SHARED: &[Attack] = &[
    refused("a large object", &["BEGIN READ WRITE; SELECT lo_create(0)"]),
    refused("a large object with content", &["BEGIN READ WRITE; SELECT lo_from_bytea(0, 'x')"]),
    refused("a large object from a file", &["BEGIN READ WRITE; SELECT lo_import('/etc/passwd')"]),
    refused("large objects of others", &["SELECT * FROM pg_largeobject"]),
    refused("an advisory lock", &["SELECT pg_advisory_lock(1)"]),
    refused("an advisory lock by trying", &["SELECT pg_try_advisory_lock(1)"]),
    refused("a shared advisory lock", &["SELECT pg_try_advisory_xact_lock_shared(1)"]),
    harmless("LISTEN", &["LISTEN config", "LISTEN \"config:{victim}\"", "SELECT 1"]),
    refused("pg_notify", &["SELECT pg_notify('config', 'x')"]),
    refused("a long sleep", &["SELECT pg_sleep(60)"]),
    refused("a file", &["SELECT pg_read_file('/etc/passwd')"]),
    refused("a folder", &["SELECT pg_ls_dir('.')"]),
    refused("the access rules", &["SELECT * FROM pg_hba_file_rules"]),
    refused("passwords", &["SELECT rolpassword FROM pg_authid"]),
    refused("passwords by the old view", &["SELECT passwd FROM pg_shadow"]),
    refused("the names of all logins", &["SELECT rolname FROM pg_roles"]),
    refused("memberships of roles", &["SELECT * FROM pg_auth_members"]),
    refused("others' statements", &["SELECT query FROM pg_stat_activity"]),
    refused("others' statements by function", &["SELECT query FROM pg_stat_get_activity(NULL)"]),
    refused("others' locks", &["SELECT * FROM pg_locks"]),
    refused("counters of the tables", &["SELECT * FROM pg_stat_user_tables"]),
    harmless(
        "column statistics",
        &[
            "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename IN ('service_configs', 'organizations')",
        ],
    ),
    refused("raw column statistics", &["SELECT * FROM pg_statistic"]),
    refused("a snapshot for others", &["SELECT pg_export_snapshot()"]),
    refused("a message in the log", &["SELECT pg_logical_emit_message(false, 'a', 'b')"]),
    refused("a replication slot", &["SELECT pg_create_logical_replication_slot('s', 'pgoutput')"]),
    refused("ending other sessions", &["SELECT pg_terminate_backend(pg_backend_pid())"]),
    refused("another configuration", &["ALTER SYSTEM SET ssl = off"]),
    refused("reloading", &["SELECT pg_reload_conf()"]),
    refused("a checkpoint", &["CHECKPOINT"]),
    refused("a library", &["LOAD 'auto_explain'"]),
    refused("triggers off", &["SET session_replication_role = replica"]),
    refused("a logged statement", &["SET log_statement = 'all'"]),
    refused("a wider disk limit", &["SET temp_file_limit = -1"]),
    refused("the outbox's sequence", &["SELECT nextval('config_outbox_id_seq')"]),
];

/// Other tables and the product's functions.
pub const PRODUCT: &[Attack] = &[
    refused("organizations", &["SELECT name FROM organizations"]),
    refused("history", &["SELECT new_value FROM config_history"]),
    refused("users", &["SELECT email FROM users"]),
    refused("memberships", &["SELECT * FROM memberships"]),
    refused("operations", &["SELECT request FROM operations"]),
    refused("outbox", &["SELECT * FROM config_outbox"]),
    refused("the mapping", &["SELECT * FROM tenant_roles"]),
    refused("verifiers", &["SELECT verifier FROM tenant_roles"]),
    refused("verifiers by the pooler's function", &["SELECT * FROM pooler_lookup('{victim_role}')"]),
    refused("a role for itself", &["SELECT tenant_role_create('{victim}', 0::smallint, 'x')"]),
    refused("dropping the victim's roles", &["SELECT tenant_role_drop('{victim}')"]),
    refused("purging the victim", &["SELECT organization_purge('{victim}', 'x', 'x')"]),
    refused("importing over the victim", &["SELECT organization_import('{victim}', '{}', 'x', 'x')"]),
    refused("writing a value", &["SELECT config_write('{own}', 'a', 'b', '1', NULL, 'x', 'x')"]),
    refused("ending transactions", &["SELECT tenant_transactions_end('0 s')"]),
    refused("ending the victim's sessions", &["SELECT tenant_sessions_end('{victim_role}')"]),
    refused("asking what became of the victim", &["SELECT organization_abandoned('{victim}')"]),
    refused("verifying a history", &["SELECT config_history_verify('{victim}')"]),
    refused("comparing a history", &["SELECT config_matches_history('{victim}')"]),
    harmless("its own mapping", &["SELECT tenant_organization()"]),
];

/// What nobody can be kept from, and does nothing to others. Committed, and so last: the next login would fail.
///
/// - Default privileges are about objects of its own, and it makes none; its role is dropped with them.
/// - The pooler knows the verifier that the platform made, so a tenant with another password has locked itself out until
///   the platform sets it again. Its settings without their limits meet the pooler's limits and the watchdog's, and
///   `temp_file_limit` stays: that one only a superuser resets.
/// - No program of ours listens, and what two tenants tell each other is theirs.
pub const ITSELF: &[Attack] = &[
    refused(
        "its own role given to the service",
        &["BEGIN READ WRITE; GRANT {own_role} TO agent_ready_service"],
    ),
    refused("its own role given to the victim", &["BEGIN READ WRITE; GRANT {own_role} TO {victim_role}"]),
    refused("its own name", &["BEGIN READ WRITE; ALTER ROLE CURRENT_USER RENAME TO intruder"]),
    refused("its own connection limit", &["BEGIN READ WRITE; ALTER ROLE CURRENT_USER CONNECTION LIMIT -1"]),
    refused(
        "default privileges of the owner",
        &[
            "BEGIN READ WRITE; ALTER DEFAULT PRIVILEGES FOR ROLE agent_ready_owner GRANT SELECT ON TABLES TO PUBLIC",
        ],
    ),
    harmless(
        "default privileges of its own",
        &["BEGIN READ WRITE; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; COMMIT"],
    ),
    harmless("NOTIFY as a command", &["NOTIFY config, 'x'", "BEGIN READ WRITE; NOTIFY config, 'x'; COMMIT"]),
    harmless("its own settings", &["BEGIN READ WRITE; ALTER ROLE CURRENT_USER RESET ALL; COMMIT"]),
    refused(
        "a wider disk limit for good",
        &["BEGIN READ WRITE; ALTER ROLE CURRENT_USER SET temp_file_limit = -1"],
    ),
    harmless("its own password", &["BEGIN READ WRITE; ALTER ROLE CURRENT_USER PASSWORD 'x'; COMMIT"]),
];

/// All of them.
pub fn all() -> Vec<Attack> {
    [READS, IDENTITIES, WRITES, SHARED, PRODUCT, ITSELF].concat()
}
