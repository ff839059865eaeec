//! What the programs of agent-ready-k8s agree on, and nothing else: names, channels, SQL and Redis identities, the
//! objects of a tenant's baseline and the proof that a namespace has one.
//!
//! No I/O, no runtime, no clock: a test keeps it so.

pub mod baseline;
pub mod channel;
mod identifiers;
pub mod names;
mod owner;
pub mod proof;
mod quantity;
mod quota;
pub mod redis_acl;
mod slug;
pub mod sql;

pub use identifiers::{ConfigKey, InvalidIdentifier, OrganizationId, ServiceName};
pub use owner::{InvalidOwner, Owner};
pub use quantity::{InvalidQuantity, Quantity};
pub use quota::{InvalidQuota, Quota};
pub use slug::{Slug, SlugError};
