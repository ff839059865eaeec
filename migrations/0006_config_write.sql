-- One configuration change in one round trip, under the caller's own privileges and policies. It sets app.current_org,
-- app.actor and app.reason for the transaction, so that a single statement in autocommit is a whole change.
--
-- new_value NULL deletes (a tombstone with the next version). expected_version NULL: whatever is there; 0: nothing, or
-- a tombstone; n: exactly that version, alive.
CREATE FUNCTION config_write(
    organization uuid, wanted_service text, wanted_key text, new_value jsonb, expected_version bigint,
    actor text, reason text
) RETURNS TABLE (version bigint, epoch bigint, revision bigint, updated_at timestamptz)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present bigint;
    gone boolean;
    change_epoch bigint;
    change_revision bigint;
BEGIN
    PERFORM set_config('app.current_org', organization::text, true), set_config('app.actor', actor, true),
        set_config('app.reason', coalesce(reason, ''), true);

    -- The row lock that puts the organization's changes in one order.
    UPDATE public.organizations AS o SET revision = o.revision + 1 WHERE o.id = organization
    RETURNING o.epoch, o.revision INTO change_epoch, change_revision;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such organization' USING ERRCODE = 'AR404';
    END IF;

    SELECT c.version, c.deleted INTO present, gone FROM public.service_configs AS c
    WHERE c.org_id = organization AND c.service = wanted_service AND c.key = wanted_key;
    IF expected_version IS NOT NULL
        AND expected_version <> (CASE WHEN present IS NULL OR gone THEN 0 ELSE present END)
    THEN
        RAISE EXCEPTION 'another version than expected' USING ERRCODE = 'AR412',
            DETAIL = (CASE WHEN present IS NULL OR gone THEN 0 ELSE present END)::text;
    END IF;
    IF new_value IS NULL AND (present IS NULL OR gone) THEN
        RAISE EXCEPTION 'no such value' USING ERRCODE = 'AR404';
    END IF;

    IF present IS NULL THEN
        RETURN QUERY
        INSERT INTO public.service_configs AS c (org_id, service, key, value, version, epoch, revision, updated_at, updated_by)
        VALUES (organization, wanted_service, wanted_key, new_value, 1, change_epoch, change_revision, clock_timestamp(), actor)
        RETURNING c.version, c.epoch, c.revision, c.updated_at;
    ELSE
        RETURN QUERY
        UPDATE public.service_configs AS c
        SET value = new_value, deleted = new_value IS NULL, version = c.version + 1, epoch = change_epoch,
            revision = change_revision, updated_at = clock_timestamp(), updated_by = actor
        WHERE c.org_id = organization AND c.service = wanted_service AND c.key = wanted_key
        RETURNING c.version, c.epoch, c.revision, c.updated_at;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION config_write(uuid, text, text, jsonb, bigint, text, text)
    TO agent_ready_service, agent_ready_platform;
