//! Where a value comes from.

use std::fmt;

use serde::Serialize;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of a configuration file.
    File {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable.
    Variable {
        /// Its name.
        name: String,
        /// The `.env` file that it stands in; none for the real environment.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// A flag of the command line.
    Flag {
        /// The flag.
        flag: &'static str,
    },
    /// A file that holds nothing else.
    KeyFile {
        /// The file.
        file: String,
    },
    /// It follows from something else.
    Implied {
        /// What it follows from.
        by: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Variable { name, file: None } => f.write_str(name),
            Self::Variable { name, file: Some(file) } => write!(f, "{name}, from {file}"),
            Self::KeyFile { file } => write!(f, "the file {file}"),
            Self::Flag { flag } => f.write_str(flag),
            Self::Implied { by } => f.write_str(by),
        }
    }
}
