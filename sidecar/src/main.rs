//! sidecar

fn main() {}
