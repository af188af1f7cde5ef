//! Reading again: what has grown, shrunk, been replaced or gone.

use proptest::prelude::*;

use super::*;

#[test]
fn nothing_is_read_where_nothing_has_changed() {
    let mut world = World::of(array(&[end("r", T, "x")]));
    assert_eq!(changed(world.dir.path(), &world.files).unwrap(), [""; 0]);
    let stats = world.read();
    assert_eq!((stats.files, stats.files_read, stats.bytes), (1, 0, 0));
    world.write("b.json", array(&[end("r", T, "x")]));
    assert_eq!(changed(world.dir.path(), &world.files).unwrap(), ["b.json"]);
    std::fs::remove_file(world.path("a.json")).unwrap();
    assert_eq!(changed(world.dir.path(), &world.files).unwrap(), ["b.json", "a.json"]);
    let stats = world.read();
    assert_eq!((stats.gone, stats.files_read), (vec!["a.json".to_owned()], 1));
    assert_eq!(world.files.len(), 1);
    assert_eq!(world.told.changes.last(), Some(&("a.json".to_owned(), FileChange::Gone)));
}

#[test]
fn a_closed_file_may_grow() {
    let mut world = World::of(array(&[end("r", T, "one")]));
    world.append("a.json", format!(",\n{}\n]\n", end("r", T + 1, "two")));
    let stats = world.read();
    assert_eq!((world.shown().len(), stats.turns, stats.rejected), (2, 1, 0));
    // The earlier tool takes the closing bracket away before it goes on.
    let text = std::fs::read_to_string(world.path("a.json")).unwrap();
    let file = std::fs::File::options().write(true).open(world.path("a.json")).unwrap();
    file.set_len(text.len() as u64 - 2).unwrap();
    world.append("a.json", format!(",\n{}\n", end("r", T + 2, "three")));
    let stats = world.read();
    assert_eq!((world.shown().len(), stats.turns, stats.rewritten.len()), (3, 1, 0));
}

#[test]
fn a_file_that_shrank_or_was_replaced_is_read_anew() {
    let long = array(&[end("r", T, "one"), end("r", T + 1, "two"), user("r", T + 2, "tail")]);
    for (name, replace) in
        [("shorter", false), ("another inode", true), ("same size", false), ("longer", false)]
    {
        let mut world = World::of(&long);
        let text = match name {
            "shorter" => array(&[end("q", T, "new")]),
            "same size" => long.replace("one", "eno"),
            "longer" => long.replace("one", "another one"),
            _ => long.clone() + "\n",
        };
        if replace {
            world.write("b.tmp", &text);
            std::fs::rename(world.path("b.tmp"), world.path("a.json")).unwrap();
        } else {
            world.write("a.json", &text);
            let later = std::time::SystemTime::UNIX_EPOCH;
            std::fs::File::options()
                .write(true)
                .open(world.path("a.json"))
                .unwrap()
                .set_modified(later)
                .unwrap();
        }
        let stats = world.read();
        assert_eq!(stats.rewritten, ["a.json"], "{name}");
        assert_eq!(world.shown(), World::of(&text).shown(), "{name}");
    }
}

#[test]
fn a_turn_whose_bytes_are_others_now_is_not_loaded() {
    let text = array(&[user("r", T, "hi"), end("r", T + 1, "clean text"), delta("s", T, "tail")]);
    let world = World::of(&text);
    let records: Vec<TurnRecord> = world.told.turns.values().cloned().collect();
    for (other, ended) in [
        (text.replace("clean", "dirty"), true),
        (text.replace("\n,\n", "\n, \n"), true),
        (text.replace("\"s\"", "\"t\""), false),
        (text[..60].to_owned(), true),
        (String::new(), true),
    ] {
        world.write("a.json", &other);
        let record = records.iter().find(|record| record.ended == ended).unwrap();
        let error = world.load(record).unwrap_err();
        assert!(matches!(error.kind, LogsErrorKind::Changed), "{other}: {error}");
    }
    std::fs::remove_file(world.path("a.json")).unwrap();
    assert!(matches!(world.load(&records[0]).unwrap_err().kind, LogsErrorKind::Gone));
}

#[test]
fn a_link_in_place_of_the_file_is_not_followed() {
    let world = World::of(array(&[end("r", T, "x")]));
    std::fs::rename(world.path("a.json"), world.path("moved")).unwrap();
    std::os::unix::fs::symlink(world.path("moved"), world.path("a.json")).unwrap();
    let record = world.told.turns.values().next().unwrap();
    assert!(matches!(world.load(record).unwrap_err().kind, LogsErrorKind::Gone));
}

#[test]
fn a_pass_can_be_stored_file_by_file() {
    let mut world = World::new();
    for n in 0..3 {
        world.write(&format!("{n}.json"), array(&[end("r", T + n, "x"), user("r", T + n, "y")]));
    }
    let mut pass = ReadPass::new(world.dir.path()).unwrap();
    let name = pass.next_file(&mut world.files, &mut world.assembler, &mut world.told).unwrap();
    assert_eq!(name.as_deref(), Some("0.json"));
    // Killed here; what was stored is enough to go on.
    drop(pass);
    let stats = world.read();
    assert_eq!(stats.files_read, 2);
    assert_eq!(world.shown().len(), 4);
}

fn arbitrary_event() -> impl Strategy<Value = Vec<u8>> {
    let run = prop_oneof![Just("r"), Just("s")];
    let text = prop_oneof!["[a-z]{0,6}", Just("grüße \u{1f600}\n".to_owned())];
    (run, 0..40_i64, text, 0..12_u8).prop_map(|(run, at, text, kind)| {
        let json = serde_json::to_string(&text).unwrap();
        let ts = T + at;
        match kind {
            0..=4 => delta(run, ts, &text),
            5 => end(run, ts, &text),
            6 => end(run, ts, ""),
            7 => user(run, ts, &text),
            8 => format!(
                r#"{{"ts":{ts},"event":"assistant_text_stream","runId":"{run}","evtType":"text_end","delta":"","content":{json}}}"#
            ),
            9 => format!(
                r#"{{"ts":{ts},"event":"assistant_text_stream","runId":"{run}","evtType":"commentary_update","delta":"","content":{json}}}"#
            ),
            10 => format!(
                r#"{{"ts":{ts},"event":"session_changed","runId":"{run}","sessionKey":"agent:main:{run}"}}"#
            ),
            _ => format!(r#"{{"ts":{ts},"broken":{json}"#),
        }
        .into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a file grows between reads, the turns are those of one read of the whole.
    #[test]
    fn any_growth_gives_the_same_turns(
        events in prop::collection::vec(arbitrary_event(), 1..24),
        cuts in prop::collection::vec(0.0..1.0_f64, 0..6),
        array in any::<bool>(),
    ) {
        let separator: &[u8] = if array { b"\n,\n" } else { b"\n" };
        let mut bytes = if array { b"[\n".to_vec() } else { Vec::new() };
        bytes.extend(events.join(separator));
        bytes.extend(if array { &b"\n]\n"[..] } else { b"\n" });
        let whole = World::of(&bytes);

        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a short file")]
        let mut at: Vec<usize> = cuts.iter().map(|cut| (bytes.len() as f64 * cut) as usize).collect();
        at.sort_unstable();
        at.push(bytes.len());
        let mut grown = World::new();
        let mut done = 0;
        for cut in at {
            grown.append("a.json", &bytes[done..cut]);
            grown.read();
            done = cut;
        }
        prop_assert_eq!(&whole.told.turns, &grown.told.turns);
        prop_assert_eq!(whole.turns(), grown.turns());
        let covered = |world: &World| -> u64 { world.told.rejects.values().map(|reject| reject.length).sum() };
        prop_assert_eq!(covered(&whole) > 0, covered(&grown) > 0);
    }

    /// Any bytes at all: no panic, and what is told covers what was read.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\n\\ 0aut".to_vec())], 0..300)) {
        let world = World::of(&bytes);
        prop_assert_eq!(world.told.turns.len(), 0);
    }
}
