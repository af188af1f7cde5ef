//! Starts Sentrix.
fn main() {}
