//! PostgreSQL, Redis and PgBouncer as components.
