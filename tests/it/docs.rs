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
fn the_table_of_variables_is_the_registry() {
    let readme = readme();
    let (before, section) = readme.split_once("## Environment\n").expect("a section `## Environment`");
    let begin = section.find("| variable |").expect("a table of variables");
    let end = begin + section[begin..].find("\n\n").expect("a line after the table") + 1;
    let told = format!("{before}## Environment\n{}{}{}", &section[..begin], env::table(), &section[end..]);
    #[expect(clippy::disallowed_methods, reason = "for whoever changes the registry, not for Sentrix")]
    let update = std::env::var_os("UPDATE_README").is_some();
    if update {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"), &told).unwrap();
    }
    assert!(
        update || told == readme,
        "the table of variables is not that of src/config/env.rs; to write it anew:\n\
        UPDATE_README=1 cargo test --test it the_table_of_variables"
    );
}

/// Puts the made text between two marks of the README, or says how.
fn made(begin: &str, end: &str, text: &str, test: &str) {
    let readme = readme();
    let (before, rest) = readme.split_once(begin).expect(begin);
    let (_, after) = rest.split_once(end).expect(end);
    let told = format!("{before}{begin}\n{text}{end}{after}");
    #[expect(clippy::disallowed_methods, reason = "for whoever changes the table, not for Sentrix")]
    let update = std::env::var_os("UPDATE_README").is_some();
    if update {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"), &told).unwrap();
    }
    assert!(
        update || told == readme,
        "out of date; to write it anew:\nUPDATE_README=1 cargo test --test it {test}"
    );
}

#[test]
fn the_table_of_escapes_is_the_self_test() {
    let mut table = String::from("| a hostile agent tries to | and is refused by |\n|---|---|\n");
    for row in sentrix::sandbox::selftest::TRIES {
        table.extend(["| ", row.what, " (`", row.id, "`) | ", row.guard.word(), " |\n"]);
    }
    made("<!-- escapes -->", "<!-- end of escapes -->", &table, "the_table_of_escapes_is_the_self_test");
}

#[test]
fn the_sections_of_providers_are_the_table() {
    made(
        "<!-- providers -->",
        "<!-- end of providers -->",
        &provider_sections(),
        "the_sections_of_providers_are_the_table",
    );
}

/// The README's section of every provider, made of the table.
fn provider_sections() -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for provider in sentrix::model::providers() {
        let key = provider.key.first().map_or("", String::as_str);
        let first = if provider.local {
            let url =
                if provider.base_url.is_empty() { "http://127.0.0.1:8080/v1" } else { &provider.base_url };
            format!(
                "export SENTRIX_PATROL_PROVIDER={} SENTRIX_PATROL_MODEL=MODEL {}={url}",
                provider.id, provider.base_url_var
            )
        } else {
            format!("export {key}=…   # made at {}", provider.keys_at)
        };
        write!(
            out,
            "\n#### {}\n\n```sh\n{first}\nsentrix patrol --once --log-dir ~/agent_logs\n```\n",
            provider.name
        )
        .unwrap();
        if provider.local {
            out += "\nNo key is needed. `SENTRIX_INVESTIGATOR_PROVIDER` and `_MODEL` do the same for investigations.\n";
            continue;
        }
        let others: Vec<String> = provider
            .models
            .iter()
            .filter(|model| model.id != provider.patrol && model.id != provider.investigator)
            .map(|model| format!("`{}`", model.id))
            .collect();
        write!(
            out,
            "\nPatrols with `{}`, investigates with `{}`; also {}. [Documentation]({})\n",
            provider.patrol,
            provider.investigator,
            others.join(", "),
            provider.docs
        )
        .unwrap();
        for quirk in &provider.quirks {
            let names: Vec<String> = quirk.models.iter().map(|name| format!("`{name}`")).collect();
            let source = if quirk.source.starts_with("https://") {
                format!("[source]({})", quirk.source)
            } else {
                format!("source: {}", quirk.source)
            };
            writeln!(out, "- {}: {} ({source})", names.join(", "), quirk.why).unwrap();
        }
    }
    out.push('\n');
    out
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
