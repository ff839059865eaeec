-- What an organization's configuration takes is kept in its row, under the lock that every change holds anyway: limits are
-- checked where the change is written, in the one trip that it is.

-- What a key takes: names and value as JSON text, and 256 bytes for what a sidecar holds besides. A deleted key goes on
-- taking its name and the 256 bytes: sidecars keep tombstones, and names used once would otherwise grow without a bound.
-- Bound to what it calls when it is made, and without settings of its own, so that queries take it in.
CREATE FUNCTION config_bytes(service text, key text, value jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 256 + octet_length(service) + octet_length(key) + coalesce(octet_length(value::text), 0);
GRANT EXECUTE ON FUNCTION config_bytes(text, text, jsonb) TO agent_ready_service, agent_ready_platform, agent_ready_definer;

ALTER TABLE organizations
    -- Keys that have a value.
    ADD COLUMN config_keys bigint NOT NULL DEFAULT 0 CONSTRAINT organizations_config_keys CHECK (config_keys >= 0),
    -- Bytes of all keys that were ever used, see config_bytes.
    ADD COLUMN config_bytes bigint NOT NULL DEFAULT 0 CONSTRAINT organizations_config_bytes CHECK (config_bytes >= 0);

-- Measures anew, from the rows. Nobody but the definer may: everybody else changes configuration and is counted.
CREATE FUNCTION config_measure(organization uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE public.organizations AS o SET config_keys = used.keys, config_bytes = used.bytes
    FROM (
        SELECT count(*) FILTER (WHERE NOT c.deleted) AS keys,
            coalesce(sum(public.config_bytes(c.service, c.key, c.value)), 0) AS bytes
        FROM public.service_configs AS c WHERE c.org_id = organization
    ) AS used
    WHERE o.id = organization
$$;
GRANT EXECUTE ON FUNCTION config_measure(uuid) TO agent_ready_definer;

-- The same text as before (0005), as a prepared expression: an SQL function with settings is planned at each call.
CREATE OR REPLACE FUNCTION config_history_hash(entry config_history) RETURNS bytea
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN sha256(entry.prev_hash || convert_to(jsonb_build_array(
        entry.org_id, entry.seq, entry.service, entry.key, entry.version, entry.epoch, entry.revision,
        entry.old_value IS NULL, entry.old_value, entry.new_value IS NULL, entry.new_value, entry.deleted,
        entry.changed_by, to_char(entry.changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), entry.reason
    )::text, 'UTF8'));
END $$;
-- Its body was bound when it was made, so it needs no search path; without one, policies take it in.
ALTER FUNCTION current_organization() RESET search_path;

-- An import writes rows as they were, and is measured at its end.
CREATE FUNCTION archive_audit_measure_import() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM public.config_measure(NEW.subject_id);
    RETURN NULL;
END $$;
CREATE TRIGGER archive_audit_measure_import AFTER INSERT ON archive_audit
    FOR EACH ROW WHEN (NEW.action = 'import') EXECUTE FUNCTION archive_audit_measure_import();

-- The definer's own: what every change is recorded by, and the measure of what is there. It may CREATE for the length of
-- this migration.
GRANT CREATE ON SCHEMA public TO agent_ready_definer;
SET LOCAL ROLE agent_ready_definer;

SELECT config_measure(id) FROM organizations;

CREATE OR REPLACE FUNCTION config_record_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    actor text := nullif(current_setting('app.actor', true), '');
    entry public.config_history;
    more_keys integer := (NOT NEW.deleted)::integer;
    more_bytes bigint := public.config_bytes(NEW.service, NEW.key, NEW.value);
BEGIN
    IF actor IS NULL THEN
        RAISE EXCEPTION 'a configuration change needs app.actor' USING ERRCODE = 'AR400';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        entry.old_value := OLD.value;
        more_keys := more_keys - (NOT OLD.deleted)::integer;
        more_bytes := more_bytes - public.config_bytes(OLD.service, OLD.key, OLD.value);
    END IF;
    IF more_keys <> 0 OR more_bytes <> 0 THEN
        UPDATE public.organizations AS o
        SET config_keys = o.config_keys + more_keys, config_bytes = o.config_bytes + more_bytes
        WHERE o.id = NEW.org_id;
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

SET LOCAL ROLE agent_ready_owner;
REVOKE CREATE ON SCHEMA public FROM agent_ready_definer;

DROP FUNCTION config_write_at_once(uuid, text, text, jsonb, bigint, text, text);
DROP FUNCTION config_write(uuid, text, text, jsonb, bigint, text, text);

-- One configuration change in one round trip, under the caller's own privileges and policies. It sets app.current_org,
-- app.actor and app.reason for the transaction, so that a single statement in autocommit is a whole change.
--
-- new_value NULL deletes (a tombstone with the next version). expected_version NULL: whatever is there; 0: nothing, or
-- a tombstone; n: exactly that version, alive. fits false: nobody has held the value against its key's schema, so there
-- may be none. keys_max and bytes_max: what the organization may have after this change; NULL for no limit.
--
-- Nothing is written where it fails: AR404 no such organization or value, AR412 another version (DETAIL: which), AR413 no
-- room (DETAIL: keys, or the bytes needed), AR428 the key has a schema.
CREATE FUNCTION config_write(
    organization uuid, wanted_service text, wanted_key text, new_value jsonb, expected_version bigint,
    actor text, reason text, fits boolean DEFAULT true, keys_max bigint DEFAULT NULL, bytes_max bigint DEFAULT NULL
) RETURNS TABLE (version bigint, epoch bigint, revision bigint, updated_at timestamptz, created boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present bigint;
    gone boolean;
    alive boolean;
    change_epoch bigint;
    change_revision bigint;
    keys bigint;
    bytes bigint;
    bytes_before bigint;
BEGIN
    PERFORM set_config('app.current_org', organization::text, true), set_config('app.actor', actor, true),
        set_config('app.reason', coalesce(reason, ''), true);

    -- The row lock that puts the organization's changes in one order; schemas are changed under it too.
    UPDATE public.organizations AS o SET revision = o.revision + 1 WHERE o.id = organization
    RETURNING o.epoch, o.revision, o.config_keys, o.config_bytes INTO change_epoch, change_revision, keys, bytes;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such organization' USING ERRCODE = 'AR404';
    END IF;
    IF NOT fits AND new_value IS NOT NULL AND EXISTS (
        SELECT FROM public.config_schemas AS s
        WHERE s.org_id = organization AND s.service = wanted_service AND s.key = wanted_key
    ) THEN
        RAISE EXCEPTION 'the value has a schema' USING ERRCODE = 'AR428';
    END IF;

    SELECT c.version, c.deleted, public.config_bytes(c.service, c.key, c.value) INTO present, gone, bytes_before
    FROM public.service_configs AS c
    WHERE c.org_id = organization AND c.service = wanted_service AND c.key = wanted_key;
    alive := present IS NOT NULL AND NOT gone;
    IF expected_version <> (CASE WHEN alive THEN present ELSE 0 END) THEN
        RAISE EXCEPTION 'another version than expected' USING ERRCODE = 'AR412',
            DETAIL = (CASE WHEN alive THEN present ELSE 0 END)::text;
    END IF;
    IF new_value IS NULL AND NOT alive THEN
        RAISE EXCEPTION 'no such value' USING ERRCODE = 'AR404';
    END IF;
    keys := keys + (new_value IS NOT NULL)::integer - alive::integer;
    IF keys > keys_max THEN
        RAISE EXCEPTION 'more keys than the organization may have' USING ERRCODE = 'AR413', DETAIL = 'keys';
    END IF;
    bytes := bytes + public.config_bytes(wanted_service, wanted_key, new_value) - coalesce(bytes_before, 0);
    IF bytes > bytes_max THEN
        RAISE EXCEPTION 'more bytes than the organization may have' USING ERRCODE = 'AR413', DETAIL = bytes::text;
    END IF;

    IF present IS NULL THEN
        RETURN QUERY
        INSERT INTO public.service_configs AS c (org_id, service, key, value, version, epoch, revision, updated_at, updated_by)
        VALUES (organization, wanted_service, wanted_key, new_value, 1, change_epoch, change_revision, clock_timestamp(), actor)
        RETURNING c.version, c.epoch, c.revision, c.updated_at, true;
    ELSE
        RETURN QUERY
        UPDATE public.service_configs AS c
        SET value = new_value, deleted = new_value IS NULL, version = c.version + 1, epoch = change_epoch,
            revision = change_revision, updated_at = clock_timestamp(), updated_by = actor
        WHERE c.org_id = organization AND c.service = wanted_service AND c.key = wanted_key
        RETURNING c.version, c.epoch, c.revision, c.updated_at, NOT alive;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION config_write(uuid, text, text, jsonb, bigint, text, text, boolean, bigint, bigint)
    TO agent_ready_service, agent_ready_platform;
