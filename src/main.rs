//! Starts Sentrix: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sentrix::cli::main()
}
