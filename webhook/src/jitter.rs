//! The random part of waits.

/// A number in [0, 1] that differs between replicas; nothing secret depends on it.
pub fn jitter() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
