//! Arguments and configuration → what is to be run, checked before anything is touched.

use super::args::RunArgs;
use crate::cli::failure::Failure;
use crate::cli::sandbox::failure as sandbox_failure;
use crate::config::{Config, Egress as Configured, Exec};
use crate::sandbox::{ContainerSpec, Egress, Layout, Relax, Relaxations, SandboxName};

/// What is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: SandboxName,
    pub(super) layout: Layout,
    pub(super) spec: ContainerSpec,
}

impl Plan {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`Failure::Usage`], with the argument and what it takes.
    pub(super) fn of(args: &RunArgs, config: &Config) -> Result<Self, Failure> {
        let name: SandboxName = args.name.parse().map_err(|error| sandbox_failure(&error))?;
        let layout = Layout::new(&crate::cli::sandbox::root()?, &name);
        let security = config.security();
        for given in &args.env {
            let name = given.split_once('=').map_or(given.as_str(), |(name, _)| name);
            if config.handed_on(name).is_none() {
                return Err(Failure::Usage(format!(
                    "-e {name}: your environment has no such variable, or it is empty; -e {name}=VALUE gives it"
                )));
            }
        }
        let mut relaxed = Relaxations::default();
        for given in &args.relax {
            for word in given.split(',') {
                relaxed.add(word.parse().map_err(|error| sandbox_failure(&error))?);
            }
        }
        // What the configuration opens is as loud as what the command line opens.
        if security.exec != Exec::Deny {
            relaxed.add(Relax::Exec);
        }
        if !security.workspace_only {
            relaxed.add(Relax::Workspace);
        }
        let egress = if relaxed.has(Relax::EgressOpen) {
            Egress::Open
        } else {
            match args.egress.unwrap_or(security.egress) {
                Configured::Door => Egress::Door,
                Configured::Open => Egress::Open,
                Configured::None => Egress::None,
            }
        };
        if egress == Egress::Open {
            relaxed.add(Relax::EgressOpen);
        }
        let memory_bytes = size(&args.memory).ok_or_else(|| {
            Failure::Usage(format!(
                "--memory is `{}`; it takes a size as 2g, 3072m or a number of bytes",
                crate::text::plain(&args.memory)
            ))
        })?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the argument is from 0.5 to 256"
        )]
        let milli_cpus = (args.cpus * 1_000.0).round() as u32;
        let spec = ContainerSpec {
            egress,
            memory_bytes,
            milli_cpus,
            runtime: args.runtime.clone(),
            relaxed,
            ..ContainerSpec::new(&args.image)
        };
        Ok(Self { name, layout, spec })
    }
}

/// A size as Docker's command line writes it: a number with `b`, `k`, `m` or `g`, powers of 1024.
fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix("ib").or_else(|| text.strip_suffix('b')).unwrap_or(&text);
    let (number, shift) = match text.char_indices().last()? {
        (at, 'k') => (text.get(..at)?, 10),
        (at, 'm') => (text.get(..at)?, 20),
        (at, 'g') => (text.get(..at)?, 30),
        _ => (text, 0),
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("2g", Some(2 << 30)),
            ("2G", Some(2 << 30)),
            ("2GiB", Some(2 << 30)),
            ("3072m", Some(3 << 30)),
            ("4096", Some(4096)),
            ("512b", Some(512)),
            ("", None),
            ("g", None),
            ("-1g", None),
            ("0", None),
            ("99999999999g", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
