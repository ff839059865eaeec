-- The chain vouches for the history alone: current values that are not what it ends in came from somewhere else.

-- Whether each current value is the last entry of its key, and each key that has a history is there. Under the caller's
-- policies. As text, because 1.50 and 1.5 are one jsonb value and not one entry.
CREATE FUNCTION config_matches_history(organization uuid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (
        SELECT FROM (
            SELECT service, key, version, value::text, deleted, updated_at, updated_by
            FROM public.service_configs WHERE org_id = organization
        ) AS c FULL JOIN (
            SELECT DISTINCT ON (service, key) service, key, version, new_value::text, deleted, changed_at, changed_by
            FROM public.config_history WHERE org_id = organization ORDER BY service, key, seq DESC
        ) AS h USING (service, key)
        WHERE (c.version, c.value, c.deleted, c.updated_at, c.updated_by)
            IS DISTINCT FROM (h.version, h.new_value, h.deleted, h.changed_at, h.changed_by)
    )
$$;
GRANT EXECUTE ON FUNCTION config_matches_history(uuid) TO agent_ready_service, agent_ready_platform, agent_ready_definer;

-- An import ends with its entry in the audit: one whose parts disagree gets none, and with it is undone.
CREATE FUNCTION archive_audit_check_import() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT public.config_matches_history(NEW.subject_id) THEN
        RAISE EXCEPTION 'the configuration of the archive is not what its history ends in' USING ERRCODE = 'AR400';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER archive_audit_check_import AFTER INSERT ON archive_audit
    FOR EACH ROW WHEN (NEW.action = 'import') EXECUTE FUNCTION archive_audit_check_import();
