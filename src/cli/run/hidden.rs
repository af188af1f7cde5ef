//! Values of `-e KEY=VALUE` leave the command line at once, so that no process list shows them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::failure::Failure;

/// Starts the program anew in the same process, with the values in its environment and `-e KEY` in its arguments. Returns
/// where there is nothing to hide.
///
/// # Errors
/// Where the program cannot be started again.
pub(in crate::cli) fn hide_values() -> Result<(), Failure> {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((shown, hidden)) = split(&given) else { return Ok(()) };
    let program = std::env::current_exe().map_err(|error| unavailable(error.into()))?;
    let error = Command::new(program).args(shown).envs(hidden).exec();
    Err(unavailable(error.into()))
}

fn unavailable(error: anyhow::Error) -> Failure {
    Failure::Unavailable(error.context("cannot start again without the values of -e on the command line"))
}

/// Variables with their values.
type Variables = Vec<(OsString, OsString)>;

/// Arguments without values, and the values by name; nothing where no argument has one.
fn split(given: &[OsString]) -> Option<(Vec<OsString>, Variables)> {
    let mut shown = Vec::with_capacity(given.len());
    let mut hidden = Vec::new();
    let mut is_value = false;
    for (index, argument) in given.iter().enumerate() {
        let bytes = argument.as_bytes();
        if bytes == b"--" && !is_value {
            shown.extend(given.iter().skip(index).cloned());
            break;
        }
        let (head, variable): (&[u8], &[u8]) = if is_value {
            (b"", bytes)
        } else if let Some(rest) = bytes.strip_prefix(b"--env=") {
            (b"--env=", rest)
        } else if let Some(rest) = bytes.strip_prefix(b"-e").filter(|rest| !rest.is_empty()) {
            (b"-e", rest.strip_prefix(b"=").unwrap_or(rest))
        } else {
            is_value = bytes == b"-e" || bytes == b"--env";
            shown.push(argument.clone());
            continue;
        };
        is_value = false;
        match variable.iter().position(|byte| *byte == b'=') {
            Some(at) if at > 0 => {
                let (name, value) = variable.split_at(at);
                shown.push(OsString::from_vec([head, name].concat()));
                let value = OsStr::from_bytes(value.get(1..).unwrap_or_default());
                hidden.push((OsStr::from_bytes(name).to_owned(), value.to_owned()));
            }
            _ => shown.push(argument.clone()),
        }
    }
    (!hidden.is_empty()).then_some((shown, hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, shown: &str, hidden: &[(&str, &str)]) {
        let given: Vec<OsString> = given.split(' ').map(OsString::from).collect();
        let (args, values) = split(&given).unwrap_or((given, Vec::new()));
        let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(args.join(" "), shown);
        let values: Vec<_> =
            values.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
        assert_eq!(values, hidden);
    }

    #[test]
    fn values_leave_the_arguments_however_they_are_written() {
        check(
            "run -e A=1 --env B=2=3 --env=C=4 -eD=5",
            "run -e A --env B --env=C -eD",
            &[("A", "1"), ("B", "2=3"), ("C", "4"), ("D", "5")],
        );
        check("run -e A --env=B --patrol", "run -e A --env=B --patrol", &[]);
        check("run -- -e A=1", "run -- -e A=1", &[]);
        check("run -e =1", "run -e =1", &[]);
        check("run -e", "run -e", &[]);
    }
}
