-- The roles of agent-ready, for the whole cluster. Run once as a superuser; idempotent.
--
-- No role that a program logs in as has CREATEROLE, BYPASSRLS, SUPERUSER or ownership of a table. What needs more runs
-- in SECURITY DEFINER functions that belong to roles nobody can log in as. Passwords are set by whoever installs.

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            -- Owns schema and tables. NOINHERIT: it may hand functions to the definer without gaining its row policies.
            ('agent_ready_owner',      'NOLOGIN NOINHERIT'),
            -- `provisioner migrate`.
            ('agent_ready_migrator',   'LOGIN NOINHERIT CONNECTION LIMIT 4'),
            -- The provisioner's coordination across organizations.
            ('agent_ready_platform',   'LOGIN INHERIT'),
            -- The provisioner's work on the data of one organization at a time.
            ('agent_ready_service',    'LOGIN INHERIT'),
            -- Group of the tenants' login roles: what a sidecar may read.
            ('agent_ready_tenant',     'NOLOGIN INHERIT'),
            -- Owns the SECURITY DEFINER functions on data: history, outbox, mapping, purge, import.
            ('agent_ready_definer',    'NOLOGIN NOINHERIT'),
            -- Owns the two functions that make and drop tenant roles. CREATEROLE takes over every role that is not a
            -- superuser, so nobody is ever a member of this one. INHERIT: it drops what a tenant's role owns.
            ('agent_ready_role_admin', 'NOLOGIN INHERIT CREATEROLE'),
            -- Owns the function that ends tenants' long transactions.
            ('agent_ready_watchdog',   'NOLOGIN INHERIT'),
            -- PgBouncer's auth_query.
            ('agent_ready_pooler',     'LOGIN NOINHERIT')
        ) AS roles (name, options)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE format('CREATE ROLE %I', wanted.name);
        END IF;
        EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOREPLICATION NOBYPASSRLS %s', wanted.name,
            CASE WHEN wanted.options LIKE '%CREATEROLE%' THEN wanted.options ELSE 'NOCREATEROLE ' || wanted.options END);
    END LOOP;
END $$;

GRANT agent_ready_owner TO agent_ready_migrator;
GRANT agent_ready_definer TO agent_ready_owner;
-- The right to hand out membership, which PostgreSQL 16 asks of a CREATEROLE role too.
GRANT agent_ready_tenant TO agent_ready_role_admin WITH ADMIN OPTION;
GRANT pg_signal_backend, pg_read_all_stats TO agent_ready_watchdog;
-- A tenant's sort may not fill the disk; only a superuser may set this unless it is granted.
GRANT SET ON PARAMETER temp_file_limit TO agent_ready_role_admin;

-- What the migrator makes belongs to the owner.
ALTER ROLE agent_ready_migrator SET role = 'agent_ready_owner';
ALTER ROLE agent_ready_migrator SET lock_timeout = '10s';
-- A program that forgets a transaction must not hold an organization's row lock for ever.
ALTER ROLE agent_ready_platform SET idle_in_transaction_session_timeout = '15s';
ALTER ROLE agent_ready_platform SET statement_timeout = '15s';
ALTER ROLE agent_ready_service SET idle_in_transaction_session_timeout = '15s';
ALTER ROLE agent_ready_service SET statement_timeout = '15s';
ALTER ROLE agent_ready_pooler SET statement_timeout = '5s';
ALTER ROLE agent_ready_pooler SET default_transaction_read_only = on;

-- PostgreSQL lets everybody into the databases it is installed with, to make temporary tables and large objects there.
-- Another program that logs in to one of them needs a grant of its own from here on.
DO $$
DECLARE
    stock text;
BEGIN
    FOR stock IN
        SELECT datname FROM pg_catalog.pg_database
        WHERE datname IN ('postgres', 'template1')
          AND EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)
    LOOP
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', stock);
    END LOOP;
END $$;
