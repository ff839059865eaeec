//! Tenants made through the provisioner's API, what is there of them, and provisioners that crash on purpose.

mod proxy;
mod remains;
mod rig;

pub use proxy::{Fault, FaultProxy, Plan};
pub use remains::{Remains, remains};
pub use rig::{Outcome, Replica, Rig};
