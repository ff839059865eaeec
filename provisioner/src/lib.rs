//! The control API: tenants, identity, configuration.
