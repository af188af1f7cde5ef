//! The collector with a clock of its own, and whole captures.
