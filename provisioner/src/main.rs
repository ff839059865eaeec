//! provisioner

fn main() {}
