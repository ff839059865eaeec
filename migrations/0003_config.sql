-- Service configuration: current values, their history, and the outbox of announcements.
--
-- Errors that callers tell apart by SQLSTATE: AR400 malformed, AR404 no such organization or value, AR412 another
-- version than expected (the current one is in the DETAIL).

CREATE TABLE service_configs (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    service    text        NOT NULL
        CONSTRAINT service_configs_service CHECK (service ~ '^[a-z][a-z0-9-]{0,62}$'),
    key        text        NOT NULL
        CONSTRAINT service_configs_key CHECK (key ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'),
    -- NULL exactly for a tombstone; the JSON value null is a value.
    value      jsonb,
    version    bigint      NOT NULL CHECK (version > 0),
    epoch      bigint      NOT NULL,
    revision   bigint      NOT NULL,
    deleted    boolean     NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text        NOT NULL,
    PRIMARY KEY (org_id, service, key),
    CONSTRAINT service_configs_tombstone CHECK (deleted = (value IS NULL))
);
-- The sidecar asks for what is newer than a revision.
CREATE UNIQUE INDEX service_configs_revision ON service_configs (org_id, revision);

CREATE TABLE config_history (
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    seq        bigint      NOT NULL,
    service    text        NOT NULL,
    key        text        NOT NULL,
    version    bigint      NOT NULL,
    epoch      bigint      NOT NULL,
    revision   bigint      NOT NULL,
    old_value  jsonb,
    new_value  jsonb,
    deleted    boolean     NOT NULL,
    changed_by text        NOT NULL,
    changed_at timestamptz NOT NULL,
    reason     text,
    prev_hash  bytea       NOT NULL,
    hash       bytea       NOT NULL,
    PRIMARY KEY (org_id, seq)
);
CREATE INDEX config_history_of_key ON config_history (org_id, service, key, version);
CREATE INDEX config_history_by_time ON config_history (org_id, changed_at);

CREATE TABLE config_schemas (
    org_id  uuid  NOT NULL REFERENCES organizations (id),
    service text  NOT NULL,
    key     text  NOT NULL,
    schema  jsonb NOT NULL,
    PRIMARY KEY (org_id, service, key)
);

-- Announcements that are not published yet: written with the change, deleted after PUBLISH.
CREATE TABLE config_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    service    text        NOT NULL,
    key        text        NOT NULL,
    version    bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX config_outbox_of_change ON config_outbox (org_id, service, key, version);

-- The organization that the session's login belongs to. By session_user, which no SET ROLE changes; a name that is
-- not mapped gives NULL, and NULL equals no row.
CREATE TABLE tenant_roles (
    role_name  text PRIMARY KEY
        CONSTRAINT tenant_roles_name CHECK (role_name ~ '^t_[0-9a-f]{32}$'),
    org_id     uuid        NOT NULL REFERENCES organizations (id),
    slot       smallint    NOT NULL
        CONSTRAINT tenant_roles_slot CHECK (slot IN (0, 1)),
    -- For the pooler: managed PostgreSQL lets nobody read pg_authid.
    verifier   text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tenant_roles_org_slot UNIQUE (org_id, slot)
);

CREATE FUNCTION tenant_organization() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT org_id FROM public.tenant_roles WHERE role_name = session_user::text $$;
