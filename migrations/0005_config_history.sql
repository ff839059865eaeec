-- The history is append-only and chained: each entry's hash covers its content and the hash before it, so that a
-- change made by whoever gets round the privileges is evident.

-- One text for one entry, whatever the session's time zone or output settings.
CREATE FUNCTION config_history_hash(entry config_history) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(entry.prev_hash || convert_to(jsonb_build_array(
        entry.org_id, entry.seq, entry.service, entry.key, entry.version, entry.epoch, entry.revision,
        entry.old_value IS NULL, entry.old_value, entry.new_value IS NULL, entry.new_value, entry.deleted,
        entry.changed_by, to_char(entry.changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), entry.reason
    )::text, 'UTF8'))
$$;

-- The first entry that does not fit the chain, NULL when all do. Under the caller's policies.
CREATE FUNCTION config_history_verify(organization uuid) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT min(h.seq)
    FROM (
        SELECT e.seq, e.hash, e.prev_hash, public.config_history_hash(e) AS computed,
            lag(e.hash, 1, sha256('')) OVER (ORDER BY e.seq) AS before,
            row_number() OVER (ORDER BY e.seq) AS expected_seq
        FROM public.config_history AS e
        WHERE e.org_id = organization
    ) AS h
    WHERE h.hash <> h.computed OR h.prev_hash <> h.before OR h.seq <> h.expected_seq
$$;

-- Who changes and why travel in settings of the transaction: app.actor, app.reason.
CREATE FUNCTION config_record_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    actor text := nullif(current_setting('app.actor', true), '');
    entry public.config_history;
BEGIN
    IF actor IS NULL THEN
        RAISE EXCEPTION 'a configuration change needs app.actor' USING ERRCODE = 'AR400';
    END IF;
    SELECT h.seq, h.hash INTO entry.seq, entry.prev_hash
    FROM public.config_history AS h WHERE h.org_id = NEW.org_id ORDER BY h.seq DESC LIMIT 1;
    entry.seq := coalesce(entry.seq, 0) + 1;
    entry.prev_hash := coalesce(entry.prev_hash, sha256(''));
    entry.org_id := NEW.org_id;
    entry.service := NEW.service;
    entry.key := NEW.key;
    entry.version := NEW.version;
    entry.epoch := NEW.epoch;
    entry.revision := NEW.revision;
    IF TG_OP = 'UPDATE' THEN
        entry.old_value := OLD.value;
    END IF;
    entry.new_value := NEW.value;
    entry.deleted := NEW.deleted;
    entry.changed_by := actor;
    entry.changed_at := NEW.updated_at;
    entry.reason := nullif(current_setting('app.reason', true), '');
    entry.hash := public.config_history_hash(entry);
    INSERT INTO public.config_history SELECT entry.*;
    INSERT INTO public.config_outbox (org_id, service, key, version)
    VALUES (NEW.org_id, NEW.service, NEW.key, NEW.version);
    RETURN NULL;
END $$;

-- A version follows the one before it, and a row stays what it is about.
CREATE FUNCTION config_check_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.version <> 1 THEN
            RAISE EXCEPTION 'the first version is 1' USING ERRCODE = 'check_violation';
        END IF;
    ELSIF (NEW.org_id, NEW.service, NEW.key) IS DISTINCT FROM (OLD.org_id, OLD.service, OLD.key)
        OR NEW.version <> OLD.version + 1 OR NEW.epoch < OLD.epoch OR NEW.revision <= OLD.revision
    THEN
        RAISE EXCEPTION 'a change is the next version of the same key' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

-- The definer brings back whole organizations (import), with their own versions and history.
CREATE TRIGGER config_check_change BEFORE INSERT OR UPDATE ON service_configs
    FOR EACH ROW WHEN (current_user <> 'agent_ready_definer') EXECUTE FUNCTION config_check_change();
CREATE TRIGGER config_record_change AFTER INSERT OR UPDATE ON service_configs
    FOR EACH ROW WHEN (current_user <> 'agent_ready_definer') EXECUTE FUNCTION config_record_change();

-- Privileges refuse it already; the trigger also stops the owner and a superuser's slip of the hand.
CREATE FUNCTION config_history_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_user = 'agent_ready_definer' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'config_history is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER config_history_append_only BEFORE UPDATE OR DELETE ON config_history
    FOR EACH ROW EXECUTE FUNCTION config_history_append_only();
CREATE TRIGGER config_history_no_truncate BEFORE TRUNCATE ON config_history
    FOR EACH STATEMENT EXECUTE FUNCTION config_history_append_only();

GRANT EXECUTE ON FUNCTION config_history_hash(config_history), config_history_verify(uuid)
    TO agent_ready_service, agent_ready_platform, agent_ready_definer;
