//! The config sidecar: serves a tenant's configuration on localhost and follows changes.
