//! Every shape of file that is a log.

use super::*;

fn lines() -> Vec<String> {
    vec![
        user("r", T, "hi"),
        delta("r", T + 1, "wor"),
        delta("r", T + 2, "ld"),
        end("r", T + 3, "world"),
        user("s", T + 4, "again"),
        end("s", T + 5, "done"),
    ]
}

fn expected() -> Vec<String> {
    vec![
        format!("r_{}+ | user: hi | assistant.text: world", T + 3),
        format!("s_{}+ | user: again | assistant.text: done", T + 5),
    ]
}

#[test]
fn arrays_lines_and_printed_objects_are_all_read() {
    let lines = lines();
    let values: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pretty = serde_json::to_string_pretty(&values).unwrap();
    let spaced: Vec<String> =
        lines.iter().map(|line| line.replace("\":", "\": ").replace(",\"", ", \"")).collect();
    for (name, text) in [
        ("ours", array(&lines)),
        ("ours, open", format!("[\n{}\n", lines.join("\n,\n"))),
        ("comma at the end of lines", format!("[\n{}\n]", lines.join(",\n"))),
        ("the earlier tool's", format!("[\n  {}\n]\n", spaced.join("\n,\n  "))),
        ("lines", lines.join("\n")),
        ("one line", format!("[{}]", lines.join(","))),
        ("one line, spaced", serde_json::to_string(&values).unwrap()),
        ("printed", pretty.clone()),
        ("printed, DOS", pretty.replace('\n', "\r\n")),
        ("lines, DOS", lines.join("\r\n")),
        ("byte order mark", format!("\u{feff}{}", array(&lines))),
        ("tabs and blank lines", lines.join("\n\n\t")),
    ] {
        let world = World::of(&text);
        assert_eq!(world.shown(), expected(), "{name}");
        assert_eq!(world.reasons(), [], "{name}");
    }
}

#[test]
fn only_regular_log_files_of_the_directory_itself_are_read() {
    let mut world = World::new();
    for name in ["b.json", "a.jsonl", "patrol_flags.jsonl", ".hidden.json", "notes.txt", "x.json.tmp"] {
        world.write(name, end("r", T, name));
    }
    std::fs::create_dir(world.path("dir.json")).unwrap();
    std::fs::create_dir(world.path("sub")).unwrap();
    world.write("sub/c.json", end("r", T, "sub"));
    std::os::unix::fs::symlink(world.path("notes.txt"), world.path("link.json")).unwrap();
    let stats = world.read();
    assert_eq!(stats.files, 2);
    let files: Vec<String> = world.turns().into_iter().map(|turn| turn.source_file).collect();
    assert_eq!(files, ["a.jsonl", "b.json"]);
}

#[test]
fn an_empty_directory_and_empty_files_are_fine() {
    let mut world = World::new();
    assert_eq!(world.read(), ReadStats::default());
    for text in ["", "[", "[\n", "[\n]\n", "[]", "\n\n"] {
        let world = World::of(text);
        assert_eq!(world.turns(), []);
        assert_eq!(world.reasons(), [], "{text:?}");
    }
    let missing = list(&world.path("nowhere")).unwrap_err();
    assert!(matches!(missing.kind, LogsErrorKind::Gone));
}

#[test]
fn a_run_may_span_files() {
    let mut world = World::new();
    world.write("1.json", array(&[user("r", T, "hi"), delta("r", T + 1, "a")]));
    world.write("2.json", array(&[delta("r", T + 2, "b"), end("r", T + 3, "ab")]));
    world.read();
    assert_eq!(world.shown(), [format!("r_{}+ | user: hi | assistant.text: ab", T + 3)]);
    assert_eq!(world.turns()[0].source_file, "2.json");
}

#[test]
fn long_entries_cross_chunks() {
    let long = "word ".repeat(300_000);
    let world = World::of(array(&[user("r", T, "hi"), end("r", T + 1, &long), end("r", T + 2, "x")]));
    let turns = world.turns();
    assert_eq!(turns[0].parts[1].text, long);
    assert_eq!(turns[1].parts[0].text, "x");
}

#[test]
fn listings_count_and_show_the_last_events() {
    let mut world = World::new();
    world.write("1.json", array(&lines()));
    world.write("2.json", format!("[\n{}\n,\n{{\"ts\":1", end("t", T + 9, "last")));
    let summaries = summaries(world.dir.path()).unwrap();
    assert_eq!((summaries[0].entries, summaries[0].incomplete), (6, false));
    assert_eq!((summaries[0].first_ts, summaries[0].last_ts), (Some(T), Some(T + 5)));
    assert_eq!((summaries[1].entries, summaries[1].incomplete), (1, true));
    let (tail, _) = tail(world.dir.path(), 3, &mut |_| true).unwrap();
    let shown: Vec<(&str, &str)> =
        tail.iter().map(|line| (line.run_id.as_str(), line.text.as_str())).collect();
    assert_eq!(shown, [("s", "again"), ("s", "done"), ("t", "last")]);
    // The pieces of a stream whose end says the same are none.
    assert_eq!(super::tail(world.dir.path(), 100, &mut |_| true).unwrap().0.len(), 5);
    world.read();
}
