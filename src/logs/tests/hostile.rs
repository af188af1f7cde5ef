//! Files that lie, break off or attack: each costs its own entry alone.

use super::*;
use crate::clock::{Clock as _, SystemClock};

fn good(n: i64) -> String {
    end("good", T + n, &format!("good {n}"))
}

/// The line between two good ones, in an array and as JSON lines; what is told of it.
fn between(line: &[u8]) -> (Vec<String>, Vec<RejectReason>, ReadStats) {
    let mut results = Vec::new();
    for separator in ["\n,\n", "\n", ",\n"] {
        let mut bytes = b"[\n".to_vec();
        bytes.extend_from_slice(good(1).as_bytes());
        bytes.extend_from_slice(separator.as_bytes());
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(separator.as_bytes());
        bytes.extend_from_slice(good(2).as_bytes());
        bytes.extend_from_slice(b"\n]\n");
        let mut world = World::new();
        world.write("a.json", &bytes);
        let stats = world.read();
        let mut shown = world.shown();
        for n in [1, 2] {
            let neighbour = format!("good_{}+ | assistant.text: good {n}", T + n);
            let at = shown.iter().position(|turn| *turn == neighbour);
            let at = at.unwrap_or_else(|| panic!("lost {n}: {}", String::from_utf8_lossy(&bytes)));
            shown.remove(at);
        }
        results.push((shown, world.reasons(), ReadStats { bytes: 0, ..stats }));
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    results.remove(0)
}

fn rejected(line: &str) -> RejectReason {
    let (shown, reasons, _) = between(line.as_bytes());
    assert_eq!(shown, [""; 0], "{line}");
    assert_eq!(reasons.len(), 1, "{line}: {reasons:?}");
    reasons[0]
}

#[test]
fn what_is_no_event_is_rejected_alone() {
    use RejectReason::*;
    for (line, reason) in [
        (r#"{"ts":1,"event":"assistant_message_end","runId":"r","rawText":"cut"#, Corrupt),
        (r#"{"ts":1,"event":"assistant_message_end","runId":"r","#, Corrupt),
        (r#"{"ts":1,"event":"#, Corrupt),
        (r#"{"ts":1,"event":"x","args":["#, Corrupt),
        (r#"{"ts":1,"event":"x","args":{"#, Corrupt),
        ("{", Corrupt),
        (r#"{"ts" 1}"#, Corrupt),
        (r#"{"ts":1,}"#, Corrupt),
        (r#"{"ts":1]"#, Corrupt),
        (r#"{"args":[}]}"#, Corrupt),
        ("garbage", NotAnObject),
        ("<html>}{</html>", NotAnObject),
        ("\"string\"", NotAnObject),
        ("42", NotAnObject),
        ("{}", NoTimestamp),
        (r#"{"event":"user_message","runId":"r","text":"x"}"#, NoTimestamp),
        (r#"{"ts":"now","event":"user_message","runId":"r","text":"x"}"#, NoTimestamp),
        (r#"{"ts":null,"event":"user_message","runId":"r","text":"x"}"#, NoTimestamp),
        (r#"{"ts":[1],"event":"user_message","runId":"r","text":"x"}"#, NoTimestamp),
        (r#"{"ts":1e400,"event":"user_message","runId":"r","text":"x"}"#, NoTimestamp),
        (r#"{"ts":1,"event":"user_message","text":"x"}"#, NoRun),
        (r#"{"ts":1,"event":"user_message","runId":["r"],"text":"x"}"#, NoRun),
        (r#"{"ts":1,"event":"user_message","runId":"","text":"x"}"#, NoRun),
        (r#"{"ts":1,"runId":"r","text":"x"}"#, NoEvent),
        (r#"{"ts":1,"runId":"r","event":7,"text":"x"}"#, NoEvent),
    ] {
        assert_eq!(rejected(line), reason, "{line}");
    }
    let long_run = format!(r#"{{"ts":1,"event":"user_message","runId":"{}","text":"x"}}"#, "r".repeat(5000));
    assert_eq!(rejected(&long_run), NoRun);
}

#[test]
fn a_reject_names_its_run_where_that_is_plain() {
    let world = World::of(format!(
        "[\n{{\"ts\":1,\"event\":\"x\",\"runId\":\"the-run\",\"rawText\":\n,\n{}\n]",
        good(1)
    ));
    let reject = world.told.rejects.values().next().unwrap();
    assert_eq!(reject.run_id.as_deref(), Some("the-run"));
    assert_eq!((reject.offset, reject.reason), (2, RejectReason::Corrupt));
}

#[test]
fn what_can_be_mended_is_kept_and_counted() {
    let secret = "sk-live-hidden";
    for (line, expected) in [
        (
            format!(r#"{{"ts":"{T}","event":"user_message","runId":"r","text":"{secret}"}}"#),
            format!("r_{T} | user: {secret}"),
        ),
        (
            format!(r#"{{"ts":{T}.0,"event":"user_message","runId":"r","text":"{secret}"}}"#),
            format!("r_{T} | user: {secret}"),
        ),
        (
            format!(
                r#"{{"ts":{T},"event":"assistant_message_end","runId":"r","rawText":{{"x":"{secret}"}}}}"#
            ),
            format!(r#"r_{T}+ | assistant.text: {{"x":"{secret}"}}"#),
        ),
        (
            format!(
                r#"{{"ts":{T},"event":"assistant_message_end","runId":"r","rawText":["a\n{secret}"],"rawThinking":7}}"#
            ),
            format!("r_{T}+ | thinking: 7 | assistant.text: [\"a\n{secret}\"]"),
        ),
        (
            format!(
                r#"{{"ts":{T},"event":"assistant_message_end","runId":"r","rawText":"\ud800 {secret} \udc00\ud83d\ude00"}}"#
            ),
            format!("r_{T}+ | assistant.text: \u{fffd} {secret} \u{fffd}\u{1f600}"),
        ),
        (
            format!(
                r#"{{"ts":{T},"event":"assistant_message_end","runId":"r","rawText":"\x {secret}\u12"}}"#
            ),
            format!("r_{T}+ | assistant.text: \\x {secret}\\u12"),
        ),
        (
            format!(
                r#"{{"ts":{T},"event":"assistant_message_end","runId":"r","rawText":"{secret}","rawText":""}}"#
            ),
            format!(
                r#"r_{T}+ | assistant.text: {{"ts":{T},"event":"assistant_message_end","runId":"r","rawText":"{secret}","rawText":""}}"#
            ),
        ),
        (
            format!(
                r#"{{"ts":{T},"event":"tool_call","runId":"r","tool":"exec","args":{{"c":"\ud800{secret}"}}}}"#
            ),
            format!("r_{T} | call exec: c: \u{fffd}{secret}"),
        ),
        (
            format!(r#"{{"ts":{T},"event":"request","runId":"r","messages":"\ud800{secret}"}}"#),
            format!("r_{T} | user: \u{fffd}{secret}"),
        ),
    ] {
        let (shown, reasons, _) = between(line.as_bytes());
        assert_eq!(shown, [expected], "{line}");
        assert_eq!(reasons, [], "{line}");
    }
    let (_, _, stats) = between(
        format!(r#"{{"ts":{T},"event":"assistant_message_end","runId":"r","rawText":"\ud800"}}"#).as_bytes(),
    );
    assert_eq!((stats.repaired, stats.entries), (1, 3));
}

#[test]
fn keys_spelt_with_escapes_are_the_same_keys() {
    let line = format!(
        r#"{{"\u0074s":{T},"event":"assistant_message_end","runId":"r","r\u0061wText":"hid\u0064en"}}"#
    );
    assert_eq!(between(line.as_bytes()).0, [format!("r_{T}+ | assistant.text: hidden")]);
}

#[test]
fn bytes_that_are_not_text_are_replaced() {
    for name in ["assistant_message_end\",\"rawText", "user_message\",\"text", "tool_result\",\"output"] {
        let mut line = format!(r#"{{"ts":{T},"runId":"r","event":"{name}":"a@b"}}"#).into_bytes();
        let at = line.iter().position(|byte| *byte == b'@').unwrap();
        line[at] = 0xff;
        let (shown, reasons, stats) = between(&line);
        assert!(shown[0].ends_with("a\u{fffd}b"), "{shown:?}");
        assert_eq!((reasons.len(), stats.repaired), (0, 1), "{name}");
    }
}

#[test]
fn deep_nesting_is_kept_as_text() {
    for depth in [100, 127, 128, 129, 5000, 100_000] {
        let args = format!("{}\"find \\u006de\"{}", "[".repeat(depth), "]".repeat(depth));
        let line = format!(r#"{{"ts":{T},"event":"tool_call","runId":"r","tool":"exec","args":{args}}}"#);
        let (shown, reasons, _) = between(line.as_bytes());
        assert_eq!(reasons, [], "{depth}");
        assert_eq!(shown.len(), 1);
        assert!(shown[0].contains("find me") || depth < 128 && shown[0].contains("find me"), "{depth}");
    }
}

#[test]
fn unknown_events_are_counted() {
    let (shown, reasons, stats) =
        between(format!(r#"{{"ts":{T},"event":"novel","runId":"r","text":"x"}}"#).as_bytes());
    assert_eq!((shown.len(), reasons.len(), stats.unknown_events), (0, 0, 1));
}

#[test]
fn events_glued_to_a_torn_one_are_found() {
    let torn = r#"{"ts":1,"event":"assistant_message_end","runId":"r","rawText":"cut"#;
    let world = World::of(format!("[\n{torn}{}\n,\n{}\n]", good(1), good(2)));
    assert_eq!(world.shown().len(), 2);
    assert_eq!(world.reasons(), [RejectReason::Corrupt]);
    let world = World::of(format!("noise {}\n{}", good(1), good(2)));
    assert_eq!(world.shown().len(), 2);
    assert_eq!(world.reasons(), [RejectReason::NotAnObject]);
}

#[test]
fn a_broken_entry_of_a_one_line_array_costs_itself() {
    for broken in [
        r#"{"ts":1,"event":"x","runId":"r","rawText":"unclosed}"#,
        r#"{"ts":1 "event":"x"}"#,
        "{]",
        "nonsense",
    ] {
        let world = World::of(format!("[{},{broken},{},{}]", good(1), good(2), good(3)));
        assert_eq!(world.shown().len(), 3, "{broken}");
        assert_eq!(world.told.rejects.len(), 1, "{broken}");
    }
}

#[test]
fn a_broken_request_of_many_messages_costs_itself() {
    let messages = vec![r#"{"content":"x","text":[{"ts":1}]}"#; 300].join(",");
    let broken = format!(r#"{{"ts":1,"runId":"r","event":"request","messages":[{messages}],"x" 1}}"#);
    let world = World::of(format!("[{},{broken},{},{}]", good(1), good(2), good(3)));
    assert_eq!((world.shown().len(), world.reasons()), (3, vec![RejectReason::Corrupt]));
}

#[test]
fn a_torn_last_line_waits_while_the_file_is_active() {
    let mut world = World::new();
    let whole = good(2);
    for cut in 1..whole.len() {
        world = World::new();
        world.write("a.json", format!("[\n{}\n,\n{}", good(1), &whole[..cut]));
        let stats = world.read();
        assert_eq!((stats.incomplete, stats.rejected, world.shown().len()), (1, 0, 1), "{cut}");
        world.append("a.json", format!("{}\n", &whole[cut..]));
        assert_eq!(world.read().incomplete, 0);
        assert_eq!((world.shown().len(), world.told.rejects.len()), (2, 0), "{cut}");
    }
    // Whole, though no line break follows.
    world.append("a.json", format!(",\n{}", good(3)));
    world.read();
    assert_eq!(world.shown().len(), 3);
}

#[test]
fn a_torn_last_line_of_an_older_file_is_rejected_until_it_is_whole() {
    let mut world = World::new();
    let whole = good(2);
    world.write("a.json", format!("{}\n{}", good(1), &whole[..40]));
    let old = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::options().append(true).open(world.path("a.json")).unwrap().set_modified(old).unwrap();
    world.write("b.json", format!("{}\n", good(3)));
    world.read();
    assert_eq!(world.reasons(), [RejectReason::Torn]);
    assert_eq!(world.shown().len(), 2);
    world.append("a.json", &whole[40..]);
    world.read();
    assert_eq!(world.reasons(), []);
    assert_eq!(world.shown().len(), 3);
}

#[test]
fn cuts_inside_a_character_are_no_problem() {
    let line = end("r", T, "grüße \u{1f600}");
    let bytes = line.as_bytes();
    for cut in 1..bytes.len() {
        let mut world = World::new();
        world.write("a.jsonl", &bytes[..cut]);
        world.read();
        world.append("a.jsonl", &bytes[cut..]);
        world.read();
        assert_eq!(world.shown(), [format!("r_{T}+ | assistant.text: grüße \u{1f600}")]);
    }
}

#[test]
fn a_very_long_line_is_passed_over() {
    let mut world = World::new();
    let long = format!(r#"{{"ts":{T},"event":"assistant_message_end","runId":"big","rawText":""#);
    world.write("a.json", format!("[\n{}\n,\n{long}", good(1)));
    let piece = "x".repeat(1 << 20);
    for _ in 0..50 {
        world.append("a.json", &piece);
    }
    // In the middle of it.
    let stats = world.read();
    assert_eq!((stats.rejected, world.shown().len()), (1, 1));
    world.append("a.json", format!("\"}}\n,\n{}\n]", good(2)));
    world.read();
    assert_eq!(world.shown().len(), 2);
    let reject = world.told.rejects.values().next().unwrap();
    assert_eq!(world.told.rejects.len(), 1);
    assert_eq!((reject.reason, reject.length > 50 << 20), (RejectReason::TooLong, true));
    assert_eq!(reject.run_id.as_deref(), Some("big"));
}

#[test]
fn a_file_without_line_breaks_is_read_entry_by_entry() {
    let mut text = String::from("[");
    for n in 0..40 {
        text.push_str(&end("r", T + n, &"y".repeat(1 << 18)));
        text.push(',');
    }
    let world = World::of(text);
    assert_eq!(world.told.turns.len(), 40);
    assert_eq!(world.reasons(), []);
}

#[test]
fn a_flood_of_broken_lines_is_told_in_few_words() {
    let mut text = String::new();
    for n in 0..5000 {
        text.push_str(&format!("{{\"ts\":1,\"runId\":\"r{n}\",\n{}\n", good(n)));
    }
    let mut world = World::new();
    world.write("a.json", text + "\nx\n".repeat(1000).as_str());
    let stats = world.read();
    assert_eq!(world.told.turns.len(), 5000);
    assert!(stats.rejected < 1100, "{}", stats.rejected);
    assert!(!world.told.rejects.is_empty());
}

#[test]
fn brackets_without_end_do_not_take_for_ever() {
    let clock = SystemClock::default();
    for unit in
        ["{\"a\":", "{\n\"a\":[\n", "[{", "{\"ts\":1,\"x\":[", "{\"ts\":", "\"", "{\"", "{\"a\":\"", "\\"]
    {
        let world = World::of(unit.repeat(200_000));
        assert_eq!(world.told.turns.len(), 0);
    }
    assert!(clock.monotonic().as_secs() < 60);
}

#[test]
fn any_byte_anywhere_never_panics_and_never_hides_the_neighbours() {
    let line = format!(
        r#"{{"ts":{T},"event":"tool_call","runId":"r","tool":"e","args":{{"a":["\u00e9","b"]}},"x":-1.5e3}}"#
    );
    for at in 0..line.len() {
        for byte in [0_u8, b'"', b'\\', b'{', b'}', b'[', b']', b'\n', b',', 0x80, 0xff] {
            let mut bytes = line.clone().into_bytes();
            bytes[at] = byte;
            between(&bytes);
        }
    }
}

#[test]
fn a_run_id_from_hell_stays_one_run() {
    for run in
        ["../../etc/passwd", "a b\u{202e}c", "' OR 1=1 --", "announce:v1:", "announce:v1:agent:x:subagent:"]
    {
        let world = World::of(array(&[user(run, T, "x"), end(run, T + 1, "y")]));
        assert_eq!(world.turns().len(), 1);
        assert_eq!(world.turns()[0].run_id, run);
    }
}
