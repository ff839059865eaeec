//! What the bench prints: each figure with its floor from the same run, and the aim it is held against.

use std::time::Duration;

/// Prints the heading of a section.
pub fn section(title: &str) {
    println!("\n{title}");
}

/// Prints a figure that has no aim.
pub fn figure(name: &str, value: impl std::fmt::Display) {
    println!("  {name:<58} {value}");
}

/// Which side of the aim is the good one.
#[derive(Clone, Copy)]
pub enum Aim {
    /// The value should be this or less.
    AtMost(f64),
    /// The value should be this or more.
    AtLeast(f64),
}

/// Prints a value beside its aim. The bench reports and never fails: a shared machine decides too much.
pub fn against(name: &str, value: f64, aim: Aim) {
    let (word, bound, reached) = match aim {
        Aim::AtMost(bound) => ("at most", bound, value <= bound),
        Aim::AtLeast(bound) => ("at least", bound, value >= bound),
    };
    let mark = if reached { "reached" } else { "MISSED" };
    println!("  {name:<58} {value:.2} (aim: {word} {bound}, {mark})");
}

/// The ratio of two durations.
pub fn ratio(ours: Duration, floor: Duration) -> f64 {
    ours.as_secs_f64() / floor.as_secs_f64()
}
