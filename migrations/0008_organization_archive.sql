-- The two ways in which history leaves and comes back: purge and import of a whole organization. Both are audited.

CREATE TABLE archive_audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- No foreign key and no policy: the entry outlives the organization.
    subject_id uuid        NOT NULL,
    action     text        NOT NULL CONSTRAINT archive_audit_action CHECK (action IN ('purge', 'import')),
    actor      text        NOT NULL CHECK (actor <> ''),
    reason     text        NOT NULL CHECK (reason <> ''),
    -- Entries of the history, and the hash of the last: what was there can be held against a copy.
    entries    bigint      NOT NULL,
    last_hash  bytea,
    at         timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON archive_audit TO agent_ready_platform;
GRANT SELECT, INSERT ON archive_audit TO agent_ready_definer;

CREATE FUNCTION archive_audit_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'archive_audit is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER archive_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON archive_audit
    FOR EACH STATEMENT EXECUTE FUNCTION archive_audit_append_only();

-- Removes everything the organization has in the database but its login roles (tenant_role_drop first: the foreign key
-- refuses otherwise, so that no credential outlives its data).
CREATE FUNCTION organization_purge(organization uuid, actor text, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM public.organizations AS o WHERE o.id = organization FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such organization' USING ERRCODE = 'AR404';
    END IF;
    INSERT INTO public.archive_audit (subject_id, action, actor, reason, entries, last_hash)
    SELECT organization, 'purge', organization_purge.actor, organization_purge.reason, count(*), (array_agg(h.hash ORDER BY h.seq DESC))[1]
    FROM public.config_history AS h WHERE h.org_id = organization;
    DELETE FROM public.config_outbox AS t WHERE t.org_id = organization;
    DELETE FROM public.config_history AS t WHERE t.org_id = organization;
    DELETE FROM public.service_configs AS t WHERE t.org_id = organization;
    DELETE FROM public.config_schemas AS t WHERE t.org_id = organization;
    DELETE FROM public.quota_changes AS t WHERE t.org_id = organization;
    DELETE FROM public.memberships AS t WHERE t.org_id = organization;
    DELETE FROM public.operations AS t WHERE t.org_id = organization;
    DELETE FROM public.organizations AS t WHERE t.id = organization;
END $$;

-- Brings back configuration and history of an organization that has none: {"configs": [...], "history": [...],
-- "schemas": [...], "quota_changes": [...]}, rows by column names. The epoch goes up, so that sidecars that have seen
-- later versions follow.
CREATE FUNCTION organization_import(organization uuid, archive jsonb, actor text, reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    next_epoch bigint;
    last_revision bigint;
    foreign_rows bigint;
BEGIN
    PERFORM FROM public.organizations AS o WHERE o.id = organization FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such organization' USING ERRCODE = 'AR404';
    END IF;
    IF EXISTS (SELECT FROM public.config_history AS h WHERE h.org_id = organization)
        OR EXISTS (SELECT FROM public.service_configs AS c WHERE c.org_id = organization)
    THEN
        RAISE EXCEPTION 'the organization has a history: purge it first' USING ERRCODE = 'AR409';
    END IF;

    SELECT count(*) INTO foreign_rows FROM (
        SELECT r.org_id FROM jsonb_populate_recordset(NULL::public.config_history, archive -> 'history') AS r
        UNION ALL
        SELECT r.org_id FROM jsonb_populate_recordset(NULL::public.service_configs, archive -> 'configs') AS r
        UNION ALL
        SELECT r.org_id FROM jsonb_populate_recordset(NULL::public.config_schemas, archive -> 'schemas') AS r
        UNION ALL
        SELECT r.org_id FROM jsonb_populate_recordset(NULL::public.quota_changes, archive -> 'quota_changes') AS r
    ) AS incoming WHERE incoming.org_id IS DISTINCT FROM organization;
    IF foreign_rows > 0 THEN
        RAISE EXCEPTION 'the archive holds rows of another organization' USING ERRCODE = 'AR400';
    END IF;

    -- JSON cannot tell the value null from no value: a live entry has one, and the old value is the entry's before.
    INSERT INTO public.config_history
    SELECT f.org_id, f.seq, f.service, f.key, f.version, f.epoch, f.revision,
        lag(f.filled) OVER (PARTITION BY f.service, f.key ORDER BY f.seq), f.filled, f.deleted, f.changed_by,
        f.changed_at, f.reason, f.prev_hash, f.hash
    FROM (
        SELECT r.*, CASE WHEN r.deleted THEN NULL ELSE coalesce(r.new_value, 'null') END AS filled
        FROM jsonb_populate_recordset(NULL::public.config_history, archive -> 'history') AS r
    ) AS f;
    IF public.config_history_verify(organization) IS NOT NULL THEN
        RAISE EXCEPTION 'the history of the archive is not whole' USING ERRCODE = 'AR400';
    END IF;

    SELECT greatest(o.epoch, coalesce(max(h.epoch), 0)) + 1, greatest(o.revision, coalesce(max(h.revision), 0))
    INTO next_epoch, last_revision
    FROM public.organizations AS o LEFT JOIN public.config_history AS h ON h.org_id = o.id
    WHERE o.id = organization GROUP BY o.id;
    INSERT INTO public.service_configs
        (org_id, service, key, value, version, epoch, revision, deleted, updated_at, updated_by)
    SELECT r.org_id, r.service, r.key, CASE WHEN r.deleted THEN NULL ELSE coalesce(r.value, 'null') END, r.version,
        next_epoch, last_revision + row_number() OVER (ORDER BY r.revision), r.deleted, r.updated_at, r.updated_by
    FROM jsonb_populate_recordset(NULL::public.service_configs, archive -> 'configs') AS r;
    UPDATE public.organizations AS o SET epoch = next_epoch,
        revision = last_revision + (SELECT count(*) FROM public.service_configs AS c WHERE c.org_id = organization)
    WHERE o.id = organization;
    INSERT INTO public.config_schemas
    SELECT * FROM jsonb_populate_recordset(NULL::public.config_schemas, archive -> 'schemas');
    INSERT INTO public.quota_changes (org_id, cpu, memory, storage, effective_at, reason, actor)
    SELECT r.org_id, r.cpu, r.memory, r.storage, r.effective_at, r.reason, r.actor
    FROM jsonb_populate_recordset(NULL::public.quota_changes, archive -> 'quota_changes') AS r;
    INSERT INTO public.config_outbox (org_id, service, key, version)
    SELECT c.org_id, c.service, c.key, c.version FROM public.service_configs AS c WHERE c.org_id = organization;

    INSERT INTO public.archive_audit (subject_id, action, actor, reason, entries, last_hash)
    SELECT organization, 'import', organization_import.actor, organization_import.reason, count(*), (array_agg(h.hash ORDER BY h.seq DESC))[1]
    FROM public.config_history AS h WHERE h.org_id = organization;
END $$;
GRANT EXECUTE ON FUNCTION organization_purge(uuid, text, text), organization_import(uuid, jsonb, text, text)
    TO agent_ready_platform;
