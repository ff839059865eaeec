-- Organizations, and the journal of the operations that make and remove them.

CREATE TABLE organizations (
    id           uuid PRIMARY KEY,
    name         text        NOT NULL,
    slug         text        NOT NULL,
    namespace    text        NOT NULL,
    owner_email  text        NOT NULL,
    status       text        NOT NULL DEFAULT 'PENDING'
        CONSTRAINT organizations_status CHECK (status IN ('PENDING', 'COMMITTED', 'FAILED')),
    failure      text,
    operation_id uuid        NOT NULL,
    -- Goes up when the data was restored to an earlier time, so that sidecars follow versions that went back.
    epoch        bigint      NOT NULL DEFAULT 1,
    -- Number of the organization's latest configuration change; taken under the row lock, so commits are in its order.
    revision     bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    committed_at timestamptz
);
-- A name is free again once its creation has failed.
CREATE UNIQUE INDEX organizations_slug_live ON organizations (slug) WHERE status <> 'FAILED';

CREATE TABLE operations (
    id              uuid PRIMARY KEY,
    -- Checked at commit: the operation may be written before its organization.
    org_id          uuid        NOT NULL
        CONSTRAINT operations_organization REFERENCES organizations (id) DEFERRABLE INITIALLY DEFERRED,
    kind            text        NOT NULL,
    -- Whose idempotency key it is: the owner's email, or the token's subject.
    subject         text        NOT NULL,
    idempotency_key text,
    -- Of the request without its password.
    fingerprint     bytea,
    state           text        NOT NULL DEFAULT 'RUNNING'
        CONSTRAINT operations_state CHECK (state IN ('RUNNING', 'COMPENSATING', 'COMMITTED', 'FAILED')),
    cause           text,
    -- What the request was answered, for those who ask again with the same key.
    answer          jsonb,
    password_hash   text,
    request         jsonb       NOT NULL,
    lease_owner     uuid,
    lease_epoch     bigint      NOT NULL DEFAULT 0,
    lease_until     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    CONSTRAINT operations_subject_key UNIQUE (subject, idempotency_key)
);
CREATE INDEX operations_unfinished ON operations (lease_until) WHERE state IN ('RUNNING', 'COMPENSATING');
CREATE INDEX operations_of_organization ON operations (org_id);

CREATE TABLE operation_steps (
    operation_id uuid        NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    step         text        NOT NULL,
    state        text        NOT NULL DEFAULT 'PENDING'
        CONSTRAINT operation_steps_state CHECK (state IN ('PENDING', 'RUNNING', 'DONE', 'FAILED', 'UNDONE')),
    detail       jsonb,
    attempts     integer     NOT NULL DEFAULT 0,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (operation_id, step)
);

-- The organization of the running transaction. After COMMIT a SET LOCAL setting reads as the empty string, not NULL.
-- Policies call it in a sub-select, so that a scan evaluates it once.
CREATE FUNCTION current_organization() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN nullif(current_setting('app.current_org', true), '')::uuid;
GRANT EXECUTE ON FUNCTION current_organization() TO agent_ready_platform, agent_ready_service;

ALTER TABLE organizations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_all ON organizations TO agent_ready_platform USING (true) WITH CHECK (true);
CREATE POLICY service_own ON organizations TO agent_ready_service
    USING (id = (SELECT current_organization())) WITH CHECK (id = (SELECT current_organization()));
CREATE POLICY definer_all ON organizations TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON organizations TO agent_ready_platform;
GRANT SELECT, UPDATE (revision) ON organizations TO agent_ready_service;
GRANT SELECT, UPDATE, DELETE ON organizations TO agent_ready_definer;

ALTER TABLE operations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_all ON operations TO agent_ready_platform USING (true) WITH CHECK (true);
CREATE POLICY definer_all ON operations TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON operations TO agent_ready_platform;
GRANT SELECT, DELETE ON operations TO agent_ready_definer;

GRANT SELECT, INSERT, UPDATE, DELETE ON operation_steps TO agent_ready_platform;
