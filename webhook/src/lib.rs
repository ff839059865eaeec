//! The gate: an admission webhook that lets no pod start in a namespace that is not proved isolated.
