//! What makes a turn, and what goes into it.

use super::*;
use crate::case::Role;

fn stream(run: &str, ts: i64, kind: &str, delta: &str, content: &str) -> String {
    let name =
        if kind.starts_with("thinking") { "assistant_thinking_stream" } else { "assistant_text_stream" };
    let (delta, content) = (serde_json::to_string(delta).unwrap(), serde_json::to_string(content).unwrap());
    format!(
        r#"{{"ts":{ts},"event":"{name}","runId":"{run}","evtType":"{kind}","delta":{delta},"content":{content}}}"#
    )
}

fn event(run: &str, ts: i64, name: &str, rest: &str) -> String {
    format!(r#"{{"ts":{ts},"event":"{name}","runId":"{run}",{rest}}}"#)
}

fn shown(lines: &[String]) -> Vec<String> {
    World::of(array(lines)).shown()
}

#[test]
fn each_model_call_is_a_turn_with_what_came_before_it() {
    let lines = [
        event(
            "r",
            T,
            "user_message",
            r#""text":"list files","sessionKey":"agent:main:main","agentId":"main""#,
        ),
        end("r", T + 1, ""),
        event("r", T + 2, "tool_call", r#""toolCallId":"c1","tool":"exec","args":{"command":"ls"}"#),
        event("r", T + 3, "tool_result", r#""toolCallId":"c1","tool":"exec","ok":true,"output":"a\nb""#),
        stream("r", T + 4, "thinking_delta", "hm", ""),
        stream("r", T + 5, "text_delta", "two", ""),
        format!(
            r#"{{"ts":{},"event":"assistant_message_end","runId":"r","rawText":"two files","rawThinking":"hm"}}"#,
            T + 6
        ),
        event("r", T + 7, "session_changed", r#""status":"done""#),
    ];
    let world = World::of(array(&lines));
    assert_eq!(
        world.shown(),
        [
            format!("r_{}+ | user: list files", T + 1),
            format!(
                "r_{}+ | call exec: command: ls | result exec true: a\nb | thinking: hm | assistant.text: two files",
                T + 6
            ),
        ]
    );
    let turn = &world.turns()[1];
    assert_eq!(turn.session_key.as_deref(), Some("agent:main:main"));
    assert_eq!(turn.agent_id.as_deref(), Some("main"));
}

#[test]
fn deltas_without_an_end_become_fragments_in_order_of_time() {
    let lines = [
        stream("r", T + 1, "text_start", "", ""),
        stream("r", T + 3, "text_delta", "c", ""),
        stream("r", T + 1, "text_delta", "a", ""),
        stream("r", T + 2, "text_delta", "b\u{1f600}", ""),
        stream("r", T + 1, "thinking_delta", "t", ""),
    ];
    assert_eq!(shown(&lines), [format!("r_{} | fragments: t | fragments: ab\u{1f600}c", T + 3)]);
}

#[test]
fn markers_alone_are_no_turn() {
    assert_eq!(shown(&[stream("r", T, "text_start", "", ""), stream("r", T, "text_delta", "", "")]), [""; 0]);
}

#[test]
fn an_aborted_call_keeps_what_was_streamed_even_when_it_comes_late() {
    let mut world = World::new();
    world.write("a.json", [delta("r", T, "se"), delta("r", T + 2, "et"), end("r", T + 9, "")].join("\n"));
    world.read();
    assert_eq!(world.shown(), [format!("r_{}+ | fragments: seet", T + 9)]);
    world.append("a.json", format!("\n{}\n{}", delta("r", T + 1, "cr"), delta("x", T + 20, "y")));
    world.read();
    assert_eq!(
        world.shown(),
        [format!("r_{}+ | fragments: secret", T + 9), format!("x_{} | fragments: y", T + 20)]
    );
}

#[test]
fn late_stream_lines_belong_to_the_turn_that_ended_and_make_no_tail() {
    let lines = [
        delta("r", T + 1, "a"),
        end("r", T + 5, "ab"),
        delta("r", T + 2, "b"),
        stream("r", T + 5, "text_end", "", "ab"),
        stream("r", T + 3, "text_start", "", ""),
    ];
    assert_eq!(shown(&lines), [format!("r_{}+ | assistant.text: ab", T + 5)]);
}

#[test]
fn a_late_text_that_the_end_does_not_hold_is_added_to_its_turn() {
    let lines = [
        end("r", T + 5, "ab"),
        stream("r", T + 5, "text_end", "", "other"),
        stream("r", T + 4, "thinking_end", "", "th"),
    ];
    assert_eq!(
        shown(&lines),
        [format!("r_{}+ | assistant.text: ab | assistant.text: other | thinking: th", T + 5)]
    );
}

#[test]
fn messages_and_tools_that_come_late_count_to_the_next_turn() {
    let lines = [
        end("r", T + 5, "ab"),
        user("r", T + 1, "early"),
        event("r", T + 2, "tool_call", r#""tool":"x","args":{}"#),
    ];
    assert_eq!(
        shown(&lines),
        [format!("r_{}+ | assistant.text: ab", T + 5), format!("r_{} | user: early | call x: ", T + 2)]
    );
}

#[test]
fn a_clock_that_was_set_back_hides_nothing() {
    let lines = [end("r", T + 5, "ab"), delta("r", T - 3_600_000, "unseen")];
    assert_eq!(
        shown(&lines),
        [format!("r_{}+ | assistant.text: ab", T + 5), format!("r_{} | fragments: unseen", T - 3_600_000)]
    );
}

#[test]
fn whole_texts_are_added_only_where_the_end_lacks_them() {
    let lines = [
        stream("r", T, "commentary_update", "", "I will"),
        stream("r", T + 1, "commentary_update", "", "I will write the file now."),
        stream("r", T + 2, "text_end", "", "Done."),
        stream("r", T + 2, "thinking_end", "", "plan"),
        end("r", T + 3, "I will write the file now.\nDone."),
        stream("s", T + 4, "commentary_update", "", "nothing else says this"),
        end("s", T + 5, "fin"),
    ];
    assert_eq!(
        shown(&lines),
        [
            format!("r_{}+ | thinking: plan | assistant.text: I will write the file now.\nDone.", T + 3),
            format!("s_{}+ | assistant.text: nothing else says this | assistant.text: fin", T + 5),
        ]
    );
}

#[test]
fn commentary_that_was_taken_back_is_still_seen() {
    let lines = [
        stream("r", T, "commentary_update", "", "the key is hunter2"),
        stream("r", T + 1, "commentary_update", "", "the key"),
        end("r", T + 3, "fin"),
    ];
    assert_eq!(
        shown(&lines),
        [format!("r_{}+ | assistant.text: the key is hunter2 | assistant.text: fin", T + 3)]
    );
}

#[test]
fn a_tail_is_replaced_when_it_grows_and_when_it_ends() {
    let mut world = World::new();
    world.write("a.json", format!("[\n{}\n,\n{}\n", user("r", T, "hi"), delta("r", T + 1, "a")));
    world.read();
    assert_eq!(world.shown(), [format!("r_{} | user: hi | fragments: a", T + 1)]);
    let first = world.told.turns.values().next().unwrap().clone();
    world.append("a.json", format!(",\n{}\n", delta("r", T + 2, "b")));
    world.read();
    assert_eq!(world.shown(), [format!("r_{} | user: hi | fragments: ab", T + 2)]);
    world.append("a.json", format!(",\n{}\n]\n", end("r", T + 3, "ab")));
    world.read();
    assert_eq!(world.shown(), [format!("r_{}+ | user: hi | assistant.text: ab", T + 3)]);
    let last = world.told.turns.values().next().unwrap();
    assert_eq!((first.id, world.told.turns.len()), (last.id, 1));
    assert_ne!(first.digest, last.digest);
    let given_out = world.told.given_out;
    assert_eq!(world.read().files_read, 0);
    assert_eq!(world.told.given_out, given_out);
}

#[test]
fn equal_names_are_different_turns() {
    let mut world = World::new();
    world.write("1.json", array(&[end("r", T, "one"), end("r", T, "two")]));
    world.write("2.json", array(&[end("r", T, "one")]));
    world.read();
    let shown = world.shown();
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[0], shown[2]);
}

#[test]
fn the_session_is_learnt_from_any_event_of_the_run_before_or_after() {
    let child = "agent:main:subagent:aa";
    let mut world = World::new();
    world.write(
        "1.json",
        array(&[
            end("r", T, "early"),
            event("r", T + 1, "session_changed", r#""status":"running","sessionKey":"agent:main:main""#),
            event(
                "r",
                T + 2,
                "subagent_spawned",
                &format!(
                    r#""childSessionKey":"{child}","parentSessionKey":"agent:main:main","childRunId":"kid","label":"l","task":"do it""#
                ),
            ),
            end("kid", T + 3, "done"),
            end("announce:v1:agent:main:subagent:aa:kid", T + 4, "told"),
            end("nobody", T + 5, "?"),
        ]),
    );
    world.read();
    let keys: Vec<(String, Option<String>, Option<String>)> =
        world.turns().into_iter().map(|turn| (turn.run_id, turn.session_key, turn.agent_id)).collect();
    let main = || (Some("agent:main:main".to_owned()), Some("main".to_owned()));
    for (run, key, agent) in keys {
        let expected = match run.as_str() {
            "kid" => (Some(child.to_owned()), Some("main".to_owned())),
            "nobody" => (None, None),
            _ => main(),
        };
        assert_eq!((key, agent), expected, "{run}");
    }
    world.append("1.json", event("nobody", T + 9, "session_changed", r#""sessionKey":"agent:ops:main""#));
    world.read();
    let turn = world.turns().into_iter().find(|turn| turn.run_id == "nobody").unwrap();
    assert_eq!(turn.session_key.as_deref(), Some("agent:ops:main"));
}

#[test]
fn an_announce_run_of_a_nested_agent_belongs_to_its_own_parent() {
    let spawned = r#""childSessionKey":"agent:main:subagent:b","parentSessionKey":"agent:main:subagent:a","childRunId":"kid","task":"t""#;
    let world = World::of(array(&[
        event("p", T, "subagent_spawned", spawned),
        end("announce:v1:agent:main:subagent:b:kid", T + 1, "x"),
    ]));
    let turn = world.turns().into_iter().find(|turn| turn.ended).unwrap();
    assert_eq!(turn.session_key.as_deref(), Some("agent:main:subagent:a"));
}

#[test]
fn tool_search_is_unwrapped_unless_the_inner_call_is_there() {
    let wrapped = r#""toolCallId":"c9","tool":"tool_call","args":{"id":"exec","args":{"command":"id"}}"#;
    let inner = r#""toolCallId":"x:c9","parentToolCallId":"c9","tool":"exec","args":{"command":"id"}"#;
    assert_eq!(shown(&[event("r", T, "tool_call", wrapped)]), [format!("r_{T} | call exec: command: id")]);
    let both = shown(&[event("r", T, "tool_call", wrapped), event("r", T, "tool_call", inner)]);
    assert_eq!(
        both,
        [format!(
            r#"r_{T} | call tool_call: args: {{"command":"id"}}{}id: exec | call exec: command: id"#,
            '\n'
        )]
    );
}

#[test]
fn tool_arguments_and_results_of_any_shape_are_text() {
    let lines = [
        event("r", T, "tool_call", r#""tool":"a","args":"{\"command\":\"ls\"}""#),
        event("r", T, "tool_call", r#""tool":"b","args":"ls -l""#),
        event("r", T, "tool_call", r#""tool":"c","args":[1,"x"]"#),
        event(
            "r",
            T,
            "tool_result",
            r#""tool":"a","ok":false,"output":{"content":[{"type":"text","text":"l1\nl2"}],"details":{"code":7}}"#,
        ),
        event("r", T, "tool_result", r#""tool":"b","output":null"#),
    ];
    assert_eq!(
        shown(&lines),
        [format!(
            "r_{T} | call a: command: ls | call b: ls -l | call c: [1,\"x\"] | result a false: l1\nl2\ndetails:\ncode: 7 | result b true: "
        )]
    );
}

#[test]
fn requests_of_the_earlier_tool_are_read_in_every_shape() {
    let messages = r#""messages":[
        {"role":"system","content":"be good"},
        {"role":"user","content":[{"type":"text","text":"hi"},"there",{"type":"image","url":"u"}]},
        {"role":"assistant","content":[{"type":"text","text":"yes"},{"type":"tool_use","id":"1","name":"exec","input":{"command":"id"}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"uid=0"}]}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"2","function":{"name":"read","arguments":"{\"path\":\"p\"}"}}]},
        {"role":"tool","tool_call_id":"2","content":"text of p"},
        "bare string", 7, {"no":"role"}]"#;
    let line = event("r", T, "request", &messages.replace('\n', ""));
    let world = World::of(format!("[{line}]"));
    assert_eq!(
        world.shown(),
        [format!(
            "r_{T} | system: be good | user: hi | user: there | user: type: image\nurl: u | assistant.text: yes \
             | call exec: command: id | result  true: uid=0 | call read: path: p | result  true: text of p \
             | user: bare string | user: 7 | user: no: role"
        )
        .replace("type: image", "image")]
    );
    let turn = &world.turns()[0];
    assert_eq!(turn.parts[0].role, Role::System);
    // Known by its messages, whatever its name.
    assert_eq!(shown(&[event("r", T, "whatever", r#""messages":["x"]"#)]), [format!("r_{T} | user: x")]);
}

#[test]
fn interleaved_runs_keep_apart_however_many_deltas_there_are() {
    let mut lines = Vec::new();
    for n in 0..2000 {
        lines.push(delta("r", T + n, &format!("r{n} ")));
        lines.push(delta("s", T + n, &format!("s{n} ")));
    }
    lines.push(end("s", T + 3000, ""));
    let world = World::of(array(&lines));
    let turns = world.turns();
    for (turn, name) in turns.iter().zip(["r", "s"]) {
        let words: Vec<String> = (0..2000).map(|n| format!("{name}{n} ")).collect();
        assert_eq!(turn.run_id, name);
        assert_eq!(turn.parts[0].text, words.concat());
    }
    let record = world.told.turns.values().next().unwrap();
    assert!(record.extents.encode().len() < 16_000);
}

#[test]
fn a_run_without_ends_is_given_out_in_pieces() {
    let lines: Vec<String> = (0..1500)
        .flat_map(|n| [user("r", T + n, &format!("m{n}")), end(&format!("x{n}"), T + n, "")])
        .collect();
    let world = World::of(array(&lines));
    let pieces: Vec<Turn> = world.turns().into_iter().filter(|turn| turn.run_id == "r").collect();
    assert!(pieces.len() > 1, "{}", pieces.len());
    let texts: Vec<&str> =
        pieces.iter().flat_map(|turn| &turn.parts).map(|part| part.text.as_str()).collect();
    assert_eq!(texts.len(), 1500);
    assert_eq!(texts[1499], "m1499");
}

#[test]
fn many_runs_at_once_lose_nothing() {
    let starts = (0..3000).map(|n| delta(&format!("run{n}"), T + n, &format!("start {n} ")));
    let ends = (0..3000).map(|n| end(&format!("run{n}"), T + 9000, &format!("end {n}")));
    let lines: Vec<String> = starts.chain(ends).collect();
    let world = World::of(array(&lines));
    let all: String = world.shown().join("\n");
    for n in 0..3000 {
        assert!(all.contains(&format!("end {n}")), "{n}");
    }
    assert!(world.assembler.encode().unwrap().len() < 1_500_000);
}

#[test]
fn ends_that_are_out_of_order_keep_their_late_lines() {
    let lines = [end("r", T + 10, "first"), end("r", T + 5, ""), delta("r", T + 3, "late")];
    assert_eq!(
        shown(&lines),
        [format!("r_{}+ | assistant.text: first", T + 10), format!("r_{}+ | fragments: late", T + 5)]
    );
}
