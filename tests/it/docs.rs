//! The README says what is.

use std::fs;
use std::path::Path;

use sentrix::config::env;
use sentrix::detect::Detectors;

use crate::world::World;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

#[test]
fn every_variable_stands_in_the_readme_as_it_is_declared() {
    let readme = readme();
    for variable in env::ALL {
        let doc = variable.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let row = format!("| `{}` | {doc} |", variable.name);
        assert!(readme.contains(&row), "the README lacks {row}");
    }
}

#[test]
fn the_readme_counts_the_rules_right() {
    let count = Detectors::builtin().rules().count();
    assert!(readme().contains(&format!("{count} deterministic rules")), "there are {count} rules");
}

#[test]
fn every_command_of_the_readme_exists() {
    let world = World::new();
    let readme = readme();
    let mut seen = 0;
    for line in readme.lines().filter_map(|line| line.strip_prefix("| `sentrix ")) {
        let verb: Vec<&str> = line
            .split('`')
            .next()
            .unwrap()
            .split_whitespace()
            .take_while(|word| !word.starts_with(['-', '[', '<']))
            .collect();
        // `list\|check` names several.
        let alternatives: Vec<Vec<&str>> = match verb.as_slice() {
            [first, second, ..] if second.contains('|') => {
                second.split('|').map(|name| vec![*first, name.trim_end_matches('\\')]).collect()
            }
            verb => vec![
                verb.iter()
                    .copied()
                    .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                    .collect(),
            ],
        };
        for words in alternatives {
            let help = world.run(words.iter().copied().chain(["--help"])).exits(0);
            assert!(help.stdout.contains("Usage: sentrix"), "{words:?}");
            seen += 1;
        }
    }
    assert!(seen >= 15, "only {seen} commands were found in the README");
}

#[test]
fn every_path_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in [
        "src/ARCHITECTURE.md",
        "tests/run",
        ".justfile",
        "src/detect/rules",
        "LICENSE",
        "CHANGELOG.md",
        ".ci/run",
    ] {
        assert!(root.join(path).exists(), "{path}");
    }
}
