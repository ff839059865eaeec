-- A change that nothing but its version decides, in one statement. A value with a schema has to be checked by the program
-- first: that is refused here with AR428, before anything is written, under the lock that also holds back a new schema.
CREATE FUNCTION config_write_at_once(
    organization uuid, wanted_service text, wanted_key text, new_value jsonb, expected_version bigint,
    actor text, reason text
) RETURNS TABLE (version bigint, revision bigint, updated_at timestamptz, created boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    exists_before boolean;
BEGIN
    PERFORM set_config('app.current_org', organization::text, true);
    PERFORM FROM public.organizations AS o WHERE o.id = organization FOR NO KEY UPDATE;
    IF new_value IS NOT NULL AND EXISTS (
        SELECT FROM public.config_schemas AS s
        WHERE s.org_id = organization AND s.service = wanted_service AND s.key = wanted_key
    ) THEN
        RAISE EXCEPTION 'the value has a schema' USING ERRCODE = 'AR428';
    END IF;
    exists_before := EXISTS (
        SELECT FROM public.service_configs AS c
        WHERE c.org_id = organization AND c.service = wanted_service AND c.key = wanted_key AND NOT c.deleted
    );
    RETURN QUERY
    SELECT w.version, w.revision, w.updated_at, NOT exists_before
    FROM public.config_write(organization, wanted_service, wanted_key, new_value, expected_version, actor, reason) AS w;
END $$;
-- The platform's role has no say on schemas, and writes the mirror by config_write.
GRANT EXECUTE ON FUNCTION config_write_at_once(uuid, text, text, jsonb, bigint, text, text) TO agent_ready_service;
