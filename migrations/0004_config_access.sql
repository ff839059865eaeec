-- Who may see and change which configuration row. Every policy names its role: one without TO is for everybody, and
-- policies are OR-ed.

ALTER TABLE service_configs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY program_own ON service_configs TO agent_ready_service, agent_ready_platform
    USING (org_id = (SELECT current_organization())) WITH CHECK (org_id = (SELECT current_organization()));
CREATE POLICY tenant_own ON service_configs FOR SELECT TO agent_ready_tenant
    USING (org_id = (SELECT tenant_organization()));
CREATE POLICY definer_all ON service_configs TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON service_configs TO agent_ready_service, agent_ready_platform;
-- Not who changed it: that is a person.
GRANT SELECT (org_id, service, key, value, version, epoch, revision, deleted, updated_at)
    ON service_configs TO agent_ready_tenant;
GRANT SELECT, INSERT, DELETE ON service_configs TO agent_ready_definer;

ALTER TABLE config_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY program_own ON config_history FOR SELECT TO agent_ready_service, agent_ready_platform
    USING (org_id = (SELECT current_organization()));
CREATE POLICY definer_all ON config_history TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT ON config_history TO agent_ready_service, agent_ready_platform;
GRANT SELECT, INSERT, DELETE ON config_history TO agent_ready_definer;

ALTER TABLE config_schemas ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY service_own ON config_schemas TO agent_ready_service
    USING (org_id = (SELECT current_organization())) WITH CHECK (org_id = (SELECT current_organization()));
CREATE POLICY definer_all ON config_schemas TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON config_schemas TO agent_ready_service;
GRANT SELECT, INSERT, DELETE ON config_schemas TO agent_ready_definer;

ALTER TABLE config_outbox ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_all ON config_outbox TO agent_ready_platform USING (true) WITH CHECK (true);
CREATE POLICY service_own ON config_outbox TO agent_ready_service
    USING (org_id = (SELECT current_organization())) WITH CHECK (org_id = (SELECT current_organization()));
CREATE POLICY definer_all ON config_outbox TO agent_ready_definer USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON config_outbox TO agent_ready_platform, agent_ready_service;
GRANT SELECT, INSERT, DELETE ON config_outbox TO agent_ready_definer;

ALTER TABLE tenant_roles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY platform_read ON tenant_roles FOR SELECT TO agent_ready_platform USING (true);
CREATE POLICY role_admin_all ON tenant_roles TO agent_ready_role_admin USING (true) WITH CHECK (true);
CREATE POLICY definer_read ON tenant_roles FOR SELECT TO agent_ready_definer USING (true);
GRANT SELECT (role_name, org_id, slot, created_at) ON tenant_roles TO agent_ready_platform;
GRANT SELECT, INSERT, UPDATE (verifier), DELETE ON tenant_roles TO agent_ready_role_admin;
GRANT SELECT ON tenant_roles TO agent_ready_definer;

-- PgBouncer's auth_query: verifiers of tenants and of nobody else.
CREATE FUNCTION pooler_lookup(login text) RETURNS TABLE (username text, verifier text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT r.role_name, r.verifier FROM public.tenant_roles AS r WHERE r.role_name = login $$;
GRANT EXECUTE ON FUNCTION pooler_lookup(text) TO agent_ready_pooler;
GRANT EXECUTE ON FUNCTION tenant_organization() TO agent_ready_tenant;
