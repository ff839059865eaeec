-- Users are global, memberships per organization.

CREATE TABLE users (
    id                uuid PRIMARY KEY,
    email             text        NOT NULL,
    -- Argon2id in PHC form; NULL: cannot log in with a password.
    password_hash     text,
    platform_operator boolean     NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE memberships (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    org_id  uuid NOT NULL REFERENCES organizations (id),
    role    text NOT NULL
        CONSTRAINT memberships_role CHECK (role IN ('owner', 'admin', 'developer', 'viewer')),
    PRIMARY KEY (user_id, org_id)
);
CREATE INDEX memberships_of_organization ON memberships (org_id);

CREATE TABLE registration_invites (
    -- SHA-256 of the code: a leaked table gives no invitation away.
    code_hash         bytea PRIMARY KEY,
    expires_at        timestamptz NOT NULL,
    used_by_operation uuid
);

-- Counters of fixed windows, for brute-force and registration limits.
CREATE TABLE throttle (
    bucket       text        NOT NULL,
    window_start timestamptz NOT NULL,
    count        integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (bucket, window_start)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON users, registration_invites, throttle TO agent_ready_platform;

ALTER TABLE memberships ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_all ON memberships TO agent_ready_platform USING (true) WITH CHECK (true);
CREATE POLICY service_own ON memberships FOR SELECT TO agent_ready_service
    USING (org_id = (SELECT current_organization()));
CREATE POLICY definer_all ON memberships TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON memberships TO agent_ready_platform;
GRANT SELECT ON memberships TO agent_ready_service;
GRANT SELECT, DELETE ON memberships TO agent_ready_definer;
