//! The local platform of real components, and the journeys that prove the rows on it.
