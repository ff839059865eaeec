-- The SECURITY DEFINER functions go to the role whose policies they need. ALTER ... OWNER asks that the new owner may
-- CREATE in the schema, so it may for the length of this migration.
GRANT CREATE ON SCHEMA public TO agent_ready_definer;
ALTER FUNCTION tenant_organization() OWNER TO agent_ready_definer;
ALTER FUNCTION pooler_lookup(text) OWNER TO agent_ready_definer;
ALTER FUNCTION config_record_change() OWNER TO agent_ready_definer;
ALTER FUNCTION organization_purge(uuid, text, text) OWNER TO agent_ready_definer;
ALTER FUNCTION organization_import(uuid, jsonb, text, text) OWNER TO agent_ready_definer;
REVOKE CREATE ON SCHEMA public FROM agent_ready_definer;
