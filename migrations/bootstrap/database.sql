-- What must be set in the database by a superuser, before the migrations. Run once after roles.sql; idempotent.

REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO agent_ready_owner;
GRANT USAGE ON SCHEMA public TO agent_ready_platform, agent_ready_service, agent_ready_tenant, agent_ready_definer,
    agent_ready_role_admin, agent_ready_watchdog, agent_ready_pooler;

-- CONNECT, and no TEMP: a temporary object is a place to put functions and to fill the disk from.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO agent_ready_migrator, agent_ready_platform, agent_ready_service, '
        'agent_ready_tenant, agent_ready_pooler', current_database());
END $$;

-- A function is callable only by those it is granted to.
ALTER DEFAULT PRIVILEGES FOR ROLE agent_ready_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE agent_ready_definer REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- No code from tenants: DO asks for the language.
REVOKE USAGE ON LANGUAGE plpgsql, sql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql, sql TO agent_ready_owner, agent_ready_definer;

-- PostgreSQL lets everybody use large objects, advisory locks, pg_notify, pg_sleep and the statistics. Tenants share
-- the database, so what one could hold, fill, or learn about another there is closed; programs get back what they use.
DO $$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT p.oid::regprocedure AS signature, p.proname AS name
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
          AND p.proname ~ ('^(lo_.*|loread|lowrite|pg_(try_)?advisory_.*|pg_notify|pg_sleep(_for|_until)?|pg_stat_get_.*'
              '|pg_lock_status|pg_export_snapshot|pg_(safe_snapshot_)?blocking_pids|pg_logical_emit_message'
              '|pg_cancel_backend|pg_terminate_backend|pg_prepared_xact)$')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', target.signature);
        IF target.name LIKE '%advisory%' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO agent_ready_owner, agent_ready_migrator, '
                'agent_ready_platform, agent_ready_service, agent_ready_role_admin', target.signature);
        ELSIF target.name LIKE 'pg_stat_get_%' OR target.name = 'pg_lock_status' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO pg_monitor, agent_ready_watchdog', target.signature);
        ELSIF target.name = 'pg_terminate_backend' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO agent_ready_watchdog', target.signature);
        END IF;
    END LOOP;
END $$;
-- Role names are opaque; their number and settings are nobody's business either.
REVOKE SELECT ON pg_catalog.pg_roles, pg_catalog.pg_user, pg_catalog.pg_group, pg_catalog.pg_auth_members,
    pg_catalog.pg_db_role_setting FROM PUBLIC;
GRANT SELECT ON pg_catalog.pg_roles TO agent_ready_role_admin;

-- The two functions that make and drop a tenant's login role. They run as the one role with CREATEROLE, which no
-- migration can become: so they are made here and not in a migration. The table tenant_roles comes with the migrations.
--
-- A client that has given up does not stop its statement: a role could be made after its organization was undone. So both
-- take one lock per organization, and making looks under it whether the organization is still wanted.

-- Whether the organization's creation is being undone, or has been.
CREATE OR REPLACE FUNCTION public.organization_abandoned(organization uuid)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM public.organizations AS o LEFT JOIN public.operations AS p ON p.id = o.operation_id
        WHERE o.id = organization AND (o.status = 'FAILED' OR p.state IN ('COMPENSATING', 'FAILED'))
    );
END $$;

CREATE OR REPLACE FUNCTION public.tenant_role_create(organization uuid, wanted_slot smallint, scram_verifier text)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login text;
BEGIN
    -- Never a plain password: it would pass through logs and statistics.
    IF scram_verifier IS NULL
        OR scram_verifier !~ '^SCRAM-SHA-256\$[1-9][0-9]{0,6}:[A-Za-z0-9+/]{8,}={0,2}\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$'
    THEN
        RAISE EXCEPTION 'not a SCRAM-SHA-256 verifier' USING ERRCODE = 'AR400';
    END IF;

    PERFORM pg_advisory_xact_lock(hashtextextended('tenant_role ' || organization, 0));
    IF public.organization_abandoned(organization) THEN
        RAISE EXCEPTION 'the organization is being undone' USING ERRCODE = 'AR409';
    END IF;

    INSERT INTO public.tenant_roles (role_name, org_id, slot, verifier)
    VALUES ('t_' || replace(gen_random_uuid()::text, '-', ''), organization, wanted_slot, scram_verifier)
    ON CONFLICT (org_id, slot) DO UPDATE SET verifier = excluded.verifier
    RETURNING role_name INTO login;

    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('CREATE ROLE %I', login);
        EXECUTE format('GRANT agent_ready_tenant TO %I', login);
    END IF;
    -- Restated at each call, so that a changed limit reaches roles that exist.
    EXECUTE format('ALTER ROLE %I LOGIN INHERIT CONNECTION LIMIT 4 PASSWORD %L',
        login, scram_verifier);
    EXECUTE format('ALTER ROLE %I SET statement_timeout = ''5s''', login);
    EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = ''5s''', login);
    EXECUTE format('ALTER ROLE %I SET lock_timeout = ''1s''', login);
    EXECUTE format('ALTER ROLE %I SET work_mem = ''1MB''', login);
    EXECUTE format('ALTER ROLE %I SET temp_file_limit = ''16MB''', login);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login);
    EXECUTE format('ALTER ROLE %I SET max_parallel_workers_per_gather = 0', login);
    RETURN login;
END $$;

-- Ends the sessions of one tenant's login.
CREATE OR REPLACE FUNCTION public.tenant_sessions_end(login text)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS MATERIALIZED (
        SELECT pid FROM pg_stat_activity WHERE usename = login AND login ~ '^t_[0-9a-f]{32}$'
    )
    SELECT count(pg_terminate_backend(pid)) FROM own
$$;

CREATE OR REPLACE FUNCTION public.tenant_role_drop(organization uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tenant_role ' || organization, 0));
    FOR login IN DELETE FROM public.tenant_roles WHERE org_id = organization RETURNING role_name LOOP
        -- An open transaction of the tenant's can hold a lock that dropping waits for.
        PERFORM public.tenant_sessions_end(login);
        BEGIN
            EXECUTE format('DROP ROLE IF EXISTS %I', login);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            -- The tenant has left something behind: PostgreSQL lets nobody be kept from ALTER DEFAULT PRIVILEGES. The
            -- membership, which dropping it asks for, goes with the role.
            EXECUTE format('GRANT %I TO agent_ready_role_admin', login);
            EXECUTE format('DROP OWNED BY %I', login);
            EXECUTE format('DROP ROLE %I', login);
        END;
    END LOOP;
END $$;

-- Ends the sessions of tenants whose transaction is older than the limit: a transaction of many short statements
-- passes every per-statement limit, and a tenant can SET its own time limits away. Returns how many were ended.
CREATE OR REPLACE FUNCTION public.tenant_transactions_end(oldest interval)
RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    -- Materialized: the planner may not try pg_terminate_backend on a row before it has seen whose it is.
    WITH stale AS MATERIALIZED (
        SELECT pid FROM pg_stat_activity
        -- By name and not by membership: a superuser is a member of everything.
        WHERE usename ~ '^t_[0-9a-f]{32}$' AND xact_start < clock_timestamp() - oldest
    )
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))::integer FROM stale
$$;

ALTER FUNCTION public.tenant_role_create(uuid, smallint, text) OWNER TO agent_ready_role_admin;
ALTER FUNCTION public.tenant_role_drop(uuid) OWNER TO agent_ready_role_admin;
ALTER FUNCTION public.tenant_transactions_end(interval) OWNER TO agent_ready_watchdog;
ALTER FUNCTION public.tenant_sessions_end(text) OWNER TO agent_ready_watchdog;
ALTER FUNCTION public.organization_abandoned(uuid) OWNER TO agent_ready_definer;
REVOKE ALL ON FUNCTION public.tenant_role_create(uuid, smallint, text), public.tenant_role_drop(uuid),
    public.tenant_transactions_end(interval), public.tenant_sessions_end(text), public.organization_abandoned(uuid)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.tenant_role_create(uuid, smallint, text), public.tenant_role_drop(uuid),
    public.tenant_transactions_end(interval) TO agent_ready_platform;
GRANT EXECUTE ON FUNCTION public.tenant_sessions_end(text), public.organization_abandoned(uuid)
    TO agent_ready_role_admin;
