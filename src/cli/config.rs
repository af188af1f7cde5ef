//! `sentrix config`: what counts and where it comes from, faults, a template, the schema.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::args::{Format, Global, Where};
use super::failure::{self, Failure, Outcome};
use super::printer::{self, bold, dim};
use super::world::{config, store_failure};
use crate::config::{self, Config, Fault, Flags, Level, Row};
use crate::store::export;
use crate::text;

/// `sentrix config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every value that counts and where it comes from; of secrets only whether they are set
    Show {
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Find every fault of the configuration: files, environment and what follows from them
    Check {
        /// The file that is checked instead of the usual ones
        file: Option<PathBuf>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write a configuration file with every setting, commented out
    Init {
        /// The file
        #[arg(default_value = "sentrix.toml")]
        path: PathBuf,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
    },
    /// Print the JSON Schema of sentrix.toml, for editors
    Schema,
}

/// Runs the verb.
pub(super) fn run(global: &Global, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Show { place, format } => show(&config(global, Some(&place))?, format),
        ConfigCommand::Check { file, format } => check(global, file, format),
        ConfigCommand::Init { path, force } => init(&path, force),
        ConfigCommand::Schema => {
            printer::json(&config::schema())?;
            Ok(failure::DONE)
        }
    }
}

fn show(config: &Config, format: Format) -> Outcome {
    let rows = config.rows();
    if format == Format::Json {
        let object =
            json!({ "version": 1, "files": config.files(), "settings": rows, "notes": config.notes() });
        printer::json(&object)?;
        return Ok(failure::DONE);
    }
    let width = |of: fn(&Row) -> &str, most: usize| {
        rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default().min(most)
    };
    let (settings, values) = (width(|row| &row.setting, 60), width(|row| &row.shown, 40));
    // One line a setting, however wide the terminal: for eyes and for `grep`.
    let lines = rows.iter().map(|row| {
        let origin = match (&row.origin, &row.looked_for) {
            (_, Some(looked)) => format!("looked for: {}", text::plain(looked)),
            // A secret's value says it already.
            (Some(origin), None) if !row.secret => text::plain(&origin.to_string()),
            _ => String::new(),
        };
        let line = format!("{:<settings$}   {:<values$}", row.setting, row.shown);
        if origin.is_empty() { line.trim_end().to_owned() } else { format!("{line}   {}", dim(origin)) }
    });
    printer::data(lines.collect::<Vec<_>>().join("\n"))?;
    if config.files().is_empty() {
        printer::note(dim("No configuration file; `sentrix config init` writes one."));
    }
    Ok(failure::DONE)
}

fn check(global: &Global, file: Option<PathBuf>, format: Format) -> Outcome {
    let flags = Flags { config: file.or_else(|| global.config.clone()), ..Flags::default() };
    let (files, notes, faults) = match Config::load(&flags) {
        Ok(config) => (config.files().to_vec(), config.notes().to_vec(), config.warnings()),
        Err(error) => (Vec::new(), Vec::new(), error.faults().to_vec()),
    };
    let is_right = faults.iter().all(|fault| fault.level() == Level::Warning);
    if format == Format::Json {
        let reports: Vec<_> = faults.iter().map(Fault::report).collect();
        printer::json(
            &json!({ "version": 1, "ok": is_right, "files": files, "faults": reports, "notes": notes }),
        )?;
    } else {
        for note in notes {
            printer::note(dim(note));
        }
        let read = if files.is_empty() { String::from("environment") } else { files.join(", ") };
        let mut said = config::render(&faults, printer::colour(), usize::from(printer::width()));
        let verdict = match (is_right, faults.is_empty()) {
            (true, true) => format!("{}  {read}", bold("right")),
            (true, false) => format!("{}  {read}: {}", bold("right"), config::count(&faults)),
            (false, _) => config::count(&faults),
        };
        said.push_str(&verdict);
        printer::data(said)?;
    }
    Ok(if is_right { failure::DONE } else { failure::USAGE })
}

fn init(path: &Path, force: bool) -> Outcome {
    let fault = |error: std::io::Error| {
        Failure::Unavailable(anyhow::Error::new(error).context(format!("cannot write {}", path.display())))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        export::private_dir(folder).map_err(store_failure)?;
    }
    if force && path.exists() {
        export::replace(path, &config::template()).map_err(store_failure)?;
    } else {
        export::write_private_new(path, config::template().as_bytes()).map_err(|error| {
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => Failure::Usage(format!(
                    "{} is there already; --force replaces it, and what is in it is lost",
                    path.display()
                )),
                _ => fault(error),
            }
        })?;
    }
    printer::data(format_args!("wrote {}", path.display()))?;
    printer::note(dim("Every setting is commented out; `sentrix config check` finds faults."));
    Ok(failure::DONE)
}
