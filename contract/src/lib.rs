//! What the programs agree on: names, channels, baseline objects and their proof. No I/O.
