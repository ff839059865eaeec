-- Quota changes of an organization: the source of billing segments. Append-only by privilege.

CREATE TABLE quota_changes (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id       uuid        NOT NULL REFERENCES organizations (id),
    cpu          text        NOT NULL,
    memory       text        NOT NULL,
    storage      text        NOT NULL,
    effective_at timestamptz NOT NULL DEFAULT now(),
    reason       text,
    actor        text        NOT NULL
);
CREATE INDEX quota_changes_by_time ON quota_changes (org_id, effective_at);

ALTER TABLE quota_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY program_read ON quota_changes FOR SELECT TO agent_ready_service, agent_ready_platform
    USING (org_id = (SELECT current_organization()));
CREATE POLICY program_append ON quota_changes FOR INSERT TO agent_ready_service, agent_ready_platform
    WITH CHECK (org_id = (SELECT current_organization()));
CREATE POLICY definer_all ON quota_changes TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON quota_changes TO agent_ready_service, agent_ready_platform;
GRANT SELECT, INSERT, DELETE ON quota_changes TO agent_ready_definer;
