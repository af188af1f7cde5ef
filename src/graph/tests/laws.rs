//! What holds whatever a file says.

use std::fmt::Write as _;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::keys::{EVERYTHING, everything};
use super::*;

fn mutated(source: &str, edits: &[(usize, usize, String)]) -> String {
    let mut text = source.to_owned();
    for (at, len, insert) in edits {
        let start = text.floor_char_boundary(at % (text.len() + 1));
        let end = text.ceil_char_boundary((start + len).min(text.len()));
        text.replace_range(start..end, insert);
    }
    text
}

/// Pieces of the file that are moved elsewhere make texts that mean something more often than noise does.
fn pieces() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    let lines = EVERYTHING.lines().count();
    prop::collection::vec((0..lines, 0..lines, 0usize..3), 1..6)
}

fn shuffled(moves: &[(usize, usize, usize)]) -> String {
    let mut lines: Vec<&str> = EVERYTHING.lines().collect();
    for (from, to, what) in moves {
        let line = lines[*from];
        match what {
            0 => lines[*to] = line,
            1 => lines.swap(*from, *to),
            _ => lines[*from] = "",
        }
    }
    lines.join("\n")
}

/// Whatever comes out is told apart: a graph with warnings, or faults of which one is an error.
fn is_told(source: &str) -> Result<(), TestCaseError> {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(everything);
    static FIRST: LazyLock<Graph> = LazyLock::new(|| check("t", EVERYTHING, &CATALOG).unwrap());
    let catalog = &*CATALOG;
    let (graph, faults) = check_all("t", source, catalog);
    if let Some(faults) = &faults {
        let text = faults.render(false, 80);
        for report in faults.reports() {
            prop_assert!(report.line > 0 && report.column > 0 && !report.help.is_empty());
            prop_assert!(text.contains(report.code) && explain(report.code).is_some());
        }
        prop_assert_eq!(faults.errors() == 0, graph.is_some());
    }
    prop_assert!(graph.is_none() || check_kept("t", source, catalog).is_ok());
    let Some(graph) = graph else { return Ok(()) };
    // What was checked once is checked the same again, and looks the same.
    let again = check("t", &graph.source, catalog).unwrap();
    prop_assert_eq!(&again.hash, &graph.hash);
    prop_assert!(compare(&graph, &again).is_empty());
    for format in Format::ALL {
        prop_assert_eq!(draw(&graph, format), draw(&again, format));
    }
    for change in compare(&graph, &FIRST).into_iter().chain(compare(&FIRST, &graph)) {
        prop_assert!(!change.what.is_empty());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_edit_of_a_full_file_makes_check_panic(
        edits in prop::collection::vec((0usize..6000, 0usize..40, "[\\[\\]{}=\"'a-z0-9.,\n |<äé\u{202e}-]{0,8}"), 1..8)
    ) {
        is_told(&mutated(EVERYTHING, &edits))?;
        uses(&mutated(EVERYTHING, &edits));
    }

    #[test]
    fn no_shuffled_file_makes_check_panic(moves in pieces()) {
        is_told(&shuffled(&moves))?;
    }
}

#[test]
fn warnings_are_shown_as_warnings() {
    let source =
        "[graph]\nname = 'x'\nstart = 'a'\n[state]\nunused = { type = 'int' }\n[node.a]\ntask = 'noop'\n";
    let (graph, faults) = check_all("t.toml", source, &catalog());
    let faults = faults.unwrap();
    assert!(graph.is_some() && check("t.toml", source, &catalog()).is_ok());
    assert_eq!(
        (faults.errors(), faults.warnings(), faults.to_string().as_str()),
        (0, 1, "1 warning in `t.toml`")
    );
    insta::assert_snapshot!("warning", faults.render(false, 100));
    assert_eq!(serde_json::to_value(faults.reports()).unwrap()[0]["level"], "warning");
    let (graph, faults) = check_all("t.toml", &source.replace("noop", "nop"), &catalog());
    assert!(graph.is_none());
    assert!(faults.unwrap().iter().all(|fault| fault.level == Level::Error), "warnings wait for the errors");
}

#[test]
fn a_large_file_is_checked_soon() {
    let mut source =
        "[graph]\nname='x'\nstart='n0'\n[state]\nx={type='string?',trust='untrusted'}\n".to_owned();
    for node in 0..480 {
        let next: Vec<String> = (1..40).map(|step| format!("'n{}'", (node + step * step) % 480)).collect();
        let kind = match node % 5 {
            0 if node > 0 => format!("kind='gate'\nask='?'\noptions={{a=[{}],b='end'}}\n", next.join(",")),
            1 => format!("task='noop'\neffect='danger'\njoin='all'\nnext=[{}]\n", next.join(",")),
            2 => format!(
                "task='noop'\ndefer=true\nnext=[{{if='x is none',to=[{}]}},{{else='end'}}]\n",
                next.join(",")
            ),
            _ => format!("task='noop'\nnext=[{}]\n", next.join(",")),
        };
        write!(source, "[node.n{node}]\n{kind}").unwrap();
    }
    let (graph, faults) = check_all("t", &source, &catalog());
    assert!(graph.is_none() && faults.is_some_and(|faults| faults.errors() > 100));
}
