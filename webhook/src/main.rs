//! webhook

fn main() {}
