//! The direction of dependencies: which room may use which. A new edge is a line in this table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every room, in reading order, with the rooms it uses. A room uses only rooms above it.
const ROOMS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("id", &[]),
    ("text", &[]),
    ("redact", &[]),
    ("mark", &["text"]),
    ("supervise", &[]),
    ("socket", &[]),
    ("case", &["id"]),
    ("detect", &["case", "redact", "text"]),
    ("graph", &["mark", "text"]),
    ("engine", &["clock", "graph", "id"]),
    ("prompt", &["graph", "text"]),
    ("model", &["clock", "redact", "text"]),
    ("openclaw", &[]),
    ("gateway", &["clock", "openclaw", "socket", "supervise", "text"]),
    ("transcripts", &["clock", "openclaw"]),
    ("logs", &["case", "clock", "id", "openclaw"]),
    ("door", &["clock", "mark", "socket", "supervise", "text"]),
    ("store", &["case", "clock", "door", "engine", "graph", "id", "logs", "model", "text"]),
    ("workflow", &["clock", "engine", "graph", "id", "model", "prompt", "text"]),
    (
        "patrol",
        &["case", "clock", "detect", "engine", "id", "logs", "model", "prompt", "redact", "store", "text"],
    ),
    ("police", &["case", "clock", "detect", "engine", "id", "logs", "model", "store", "text", "workflow"]),
    ("sandbox", &["clock", "socket", "text"]),
    ("capture", &["clock", "gateway", "logs", "openclaw", "supervise", "text"]),
    ("config", &["mark", "model", "text"]),
    (
        "cli",
        &[
            "capture",
            "case",
            "clock",
            "config",
            "detect",
            "door",
            "engine",
            "gateway",
            "graph",
            "id",
            "logs",
            "model",
            "openclaw",
            "patrol",
            "police",
            "sandbox",
            "socket",
            "store",
            "supervise",
            "text",
            "transcripts",
            "workflow",
        ],
    ),
];

/// Crates that only some rooms may name, so that a room cannot do what it must not know.
const CRATES: &[(&str, &[&str])] = &[
    ("rusqlite", &["store", "transcripts"]),
    ("bollard", &["sandbox"]),
    ("reqwest", &["model"]),
    ("tokio_tungstenite", &["gateway"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli"]),
    ("comfy_table", &["cli"]),
    ("crossterm", &["cli"]),
    ("indicatif", &["cli"]),
    ("inquire", &["cli"]),
    ("unicode_width", &["cli"]),
    ("minijinja", &["graph", "prompt"]),
    ("regex", &["detect", "prompt"]),
];

/// Rooms that never wait: no async in them.
const SYNC: &[&str] = &["case", "detect", "graph", "prompt", "logs", "transcripts"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with the room it is in; `main` and `lib` are no rooms.
fn files() -> Vec<(String, PathBuf, String)> {
    fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    collect(&source(), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let inside = path.strip_prefix(source()).unwrap();
            let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            // Unit tests of a room may reach for what they like.
            let is_test = inside
                .components()
                .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")));
            (room != "main" && room != "lib" && !is_test).then_some((room, path, text))
        })
        .collect()
}

/// The text without comments and string literals that span a line: what the compiler sees of names.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names, as `crate::room` or within `use crate::{…}`.
fn used(text: &str) -> BTreeSet<String> {
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    let code = code(text);
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            rooms.insert(head(rest));
            continue;
        };
        // The list's own items are those at depth nought.
        let mut depth = 0;
        let mut item_begins = true;
        for (at, c) in list.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => item_begins = true,
                c if depth == 0 && item_begins && c.is_alphabetic() => {
                    rooms.insert(head(&list[at..]));
                    item_begins = false;
                }
                _ => {}
            }
        }
    }
    rooms.into_iter().filter(|room| known.contains(room.as_str())).collect()
}

/// The name at the start of a text.
fn head(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn a_room_uses_only_what_its_line_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut faults = Vec::new();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, path, text) in files() {
        let Some(allowed) = allowed.get(room.as_str()) else {
            faults.push(format!("{}: `{room}` is no room of the table", path.display()));
            continue;
        };
        for other in used(&text) {
            if other != room && !allowed.contains(&other.as_str()) {
                faults.push(format!("{}: `{room}` may not use `{other}`", path.display()));
            }
            seen.entry(room.clone()).or_default().insert(other);
        }
    }
    for (room, allowed) in ROOMS {
        for other in *allowed {
            if !seen.get(*room).is_some_and(|used| used.contains(*other)) {
                faults.push(format!("the table lets `{room}` use `{other}`, and it does not: take it out"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_arrow_points_only_upwards() {
    for (index, (room, allowed)) in ROOMS.iter().enumerate() {
        for other in *allowed {
            let above = ROOMS[..index].iter().any(|(name, _)| name == other);
            assert!(above, "`{room}` uses `{other}`, which does not stand above it");
        }
    }
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut faults = Vec::new();
    for (room, path, text) in files() {
        let code = code(&text);
        for (name, rooms) in CRATES {
            let named = code.contains(&format!("{name}::"));
            if named && !rooms.contains(&room.as_str()) {
                faults.push(format!("{}: `{room}` may not use the crate `{name}`", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn sync_rooms_never_wait() {
    for (room, path, text) in files() {
        let code = code(&text);
        if SYNC.contains(&room.as_str()) {
            assert!(
                !code.contains("async fn") && !code.contains(".await") && !code.contains("tokio::"),
                "{}: `{room}` is sync",
                path.display()
            );
        }
    }
}

#[test]
fn the_reader_of_use_lines_reads_them() {
    let text = "use crate::case::{A, B};\nuse crate::{id::X, text, redact::{mask, y}};\nlet _ = crate::clock::system();\n// crate::store";
    let rooms: Vec<String> = used(text).into_iter().collect();
    assert_eq!(rooms, ["case", "clock", "id", "redact", "text"]);
}
