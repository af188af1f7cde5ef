//! Supersteps, edges, reducers, fan-out, inputs and outputs.

use std::sync::Mutex;

use super::*;

/// start → a, b, c → end; b and c both go to `join`.
fn diamond() -> Arc<Graph> {
    let graph = GraphBuilder::new("diamond")
        .channel("log", "string[]", Reducer::Append)
        .node(NodeBuilder::task("start", "demo.note").writes(["log"]).to(["b", "a", "c"]))
        .node(NodeBuilder::task("a", "demo.note").writes(["log"]))
        .node(NodeBuilder::task("b", "demo.note").writes(["log"]).to(["join"]))
        .node(NodeBuilder::task("c", "demo.note").writes(["log"]).to(["join"]))
        .node(NodeBuilder::task("join", "demo.note").writes(["log"]))
        .build()
        .unwrap();
    Arc::new(graph)
}

#[tokio::test]
async fn a_loop_runs_until_its_condition_fails() {
    let (engine, store) = engine(registry(&Trace::default()));
    let done = engine.run(counter(5), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!((done.status, done.steps), (Outcome::Done, 5));
    assert_eq!(done.state, input(json!({ "n": 5 })));
    let list = store.list(RunFilter::default()).await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].status, list[0].steps, list[0].live), (RunStatus::Done, 5, false));
}

#[tokio::test]
async fn a_node_reached_twice_runs_once_and_writes_merge_in_file_order() {
    let trace = Trace::default();
    let (engine, _) = engine(registry(&trace));
    let done = engine.run(diamond(), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state, input(json!({ "log": ["start", "a", "b", "c", "join"] })));
    assert_eq!(done.steps, 3);
    let history = engine.history(done.run).await.unwrap();
    let shape: Vec<(u32, usize, Vec<&str>)> = history
        .iter()
        .map(|step| (step.step, step.tasks.len(), step.next.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(shape, [(0, 1, vec!["a", "b", "c"]), (1, 3, vec!["join"]), (2, 1, vec![])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_keeps_the_order_of_its_items_whatever_finishes_first() {
    for lanes in [1, 3, 100] {
        let graph = GraphBuilder::new("squares")
            .input("list", "int[]")
            .channel("out", "int[]", Reducer::Append)
            .node(NodeBuilder::task("square", "demo.square").each("list", "x", lanes).writes(["out"]))
            .build()
            .unwrap();
        let (engine, _) = engine(registry(&Trace::default()));
        let items: Vec<u64> = (0..50).collect();
        let done = engine
            .run(Arc::new(graph), input(json!({ "list": items })), RunOptions::default())
            .await
            .unwrap();
        let squares: Vec<u64> = (0..50).map(|x| x * x).collect();
        assert_eq!(done.state["out"], json!(squares), "{lanes} lanes");
    }
}

#[tokio::test]
async fn fan_outs_over_nothing_and_over_one() {
    let graph = GraphBuilder::new("few")
        .channel("list", "int[]?", Reducer::Last)
        .channel("out", "int[]", Reducer::Append)
        .channel("log", "string[]", Reducer::Append)
        .node(NodeBuilder::task("square", "demo.square").each("list", "x", 4).writes(["out"]).to(["after"]))
        .node(NodeBuilder::task("after", "demo.note").writes(["log"]))
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    for (list, out) in [(json!(null), json!([])), (json!([]), json!([])), (json!([3]), json!([9]))] {
        let (engine, store) = engine(registry(&Trace::default()));
        let done = engine
            .run(Arc::clone(&graph), input(json!({ "list": list })), RunOptions::default())
            .await
            .unwrap();
        assert_eq!((&done.state["out"], &done.state["log"]), (&out, &json!(["after"])), "{list}");
        assert_eq!(store.history(done.run).await.unwrap().entries.len(), 2, "one entry a superstep");
    }
    let (engine, _) = engine(registry(&Trace::default()));
    let graph = GraphBuilder::new("none")
        .channel_from("list", "any", Reducer::Last, json!("no list"))
        .node(NodeBuilder::task("square", "demo.square").each("list", "x", 4))
        .build()
        .unwrap();
    let error = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::NoList { .. }), "{error}");
}

#[tokio::test]
async fn the_first_arm_that_holds_wins_and_sees_the_state_after_the_superstep() {
    let graph = GraphBuilder::new("arms")
        .channel_from("n", "int", Reducer::Last, json!(0))
        .channel("log", "string[]", Reducer::Append)
        .node(
            NodeBuilder::task("add", "demo.add")
                .reads(["n"])
                .writes(["n"])
                .when("n == 0", ["zero"])
                .when("n == 1", ["one"])
                .when("n >= 1", ["more"])
                .to(["zero"]),
        )
        .node(NodeBuilder::task("zero", "demo.note").writes(["log"]))
        .node(NodeBuilder::task("one", "demo.note").writes(["log"]))
        .node(NodeBuilder::task("more", "demo.note").writes(["log"]))
        .build()
        .unwrap();
    let (engine, _) = engine(registry(&Trace::default()));
    let done = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["log"], json!(["one"]));
}

#[tokio::test]
async fn two_writers_of_a_last_channel_are_a_fault() {
    let graph = GraphBuilder::new("conflict")
        .channel_from("n", "int", Reducer::Last, json!(0))
        .channel("log", "string[]", Reducer::Append)
        .node(NodeBuilder::task("start", "demo.note").writes(["log"]).to(["left", "right"]))
        .node(NodeBuilder::task("left", "demo.add").reads(["n"]).writes(["n"]))
        .node(NodeBuilder::task("right", "demo.add").reads(["n"]).writes(["n"]))
        .build()
        .unwrap();
    let (engine, _) = engine(registry(&Trace::default()));
    let error = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await.unwrap_err();
    let EngineErrorKind::Reduce { node, channel, message, .. } = &error.kind else { panic!("{error}") };
    assert_eq!((node.as_str(), channel.as_str()), ("right", "n"));
    assert!(message.contains("`left`"), "{message}");
}

#[tokio::test]
async fn null_is_no_write_except_where_a_last_channel_allows_it() {
    #[derive(Serialize, JsonSchema)]
    struct Out {
        cleared: Option<i64>,
        kept: Option<i64>,
        listed: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<i64>,
        unmapped: i64,
    }
    let mut registry = Registry::new();
    registry.task("demo.null", "writes nothing", |_: Ctx, (): ()| async move {
        Ok(Out { cleared: None, kept: None, listed: None, absent: None, unmapped: 1 })
    });
    let graph = GraphBuilder::new("nulls")
        .channel_from("cleared", "int?", Reducer::Last, json!(1))
        .channel_from("kept", "int", Reducer::Last, json!(1))
        .channel("listed", "int[]", Reducer::Append)
        .channel_from("absent", "int?", Reducer::Last, json!(1))
        .node(NodeBuilder::task("null", "demo.null").writes(["cleared", "kept", "listed", "absent"]))
        .build()
        .unwrap();
    let (engine, _) = engine(registry);
    let done = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state, input(json!({ "cleared": null, "kept": 1, "listed": [], "absent": 1 })));
}

#[tokio::test]
async fn inputs_come_from_channels_constants_and_the_item() {
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct In {
        from_channel: String,
        from_constant: u8,
        item: bool,
        missing: Option<String>,
        #[serde(default)]
        defaulted: Vec<u8>,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        seen: Value,
    }
    let mut registry = Registry::new();
    registry.task("demo.in", "shows its input", |ctx: Ctx, i: In| async move {
        let seen = json!([i.from_channel, i.from_constant, i.item, i.missing, i.defaulted, ctx.item()]);
        Ok(Out { seen: json!([seen]) })
    });
    let graph = GraphBuilder::new("in")
        .input("text", "string")
        .input("flags", "bool[]")
        .channel("empty", "string?", Reducer::Last)
        .channel("seen", "any[]", Reducer::Append)
        .node(
            NodeBuilder::task("in", "demo.in")
                .read("from_channel", "text")
                .read("missing", "empty")
                .with("from_constant", json!(7))
                .each("flags", "item", 2)
                .writes(["seen"]),
        )
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    let (engine, _) = engine(registry);
    let given = input(json!({ "text": "t", "flags": [true, false] }));
    let done = engine.run(Arc::clone(&graph), given, RunOptions::default()).await.unwrap();
    assert_eq!(done.state["seen"], json!([["t", 7, true, null, [], 0], ["t", 7, false, null, [], 1]]));

    let given = input(json!({ "text": "t", "flags": [true], "other": 1 }));
    let error = engine.run(Arc::clone(&graph), given, RunOptions::default()).await.unwrap_err();
    assert!(matches!(&error.kind, EngineErrorKind::Input { channel, .. } if channel == "other"), "{error}");
    let error = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(matches!(&error.kind, EngineErrorKind::Input { channel, .. } if channel == "text"), "{error}");
    let given = input(json!({ "text": 3, "flags": [] }));
    let error = engine.run(graph, given, RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("input `text`: is no string"), "{error}");
}

#[tokio::test]
async fn an_input_that_does_not_fit_names_field_and_channel() {
    let graph = GraphBuilder::new("wrong")
        .channel_from("text", "any", Reducer::Last, json!({ "a": [1] }))
        .node(NodeBuilder::task("add", "demo.add").read("n", "text"))
        .build()
        .unwrap();
    let (engine, _) = engine(registry(&Trace::default()));
    let error = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await.unwrap_err();
    let EngineErrorKind::Task { node, error, .. } = &error.kind else { panic!("{error}") };
    assert_eq!((node.as_str(), error.class), ("add", ErrorClass::Permanent));
    assert!(error.message.starts_with("input field `n` (channel `text`): invalid type"), "{error}");
}

#[tokio::test]
async fn prompt_nodes_ask_the_host() {
    struct Scripted(Mutex<Vec<PromptCall>>);
    impl PromptRunner for Scripted {
        fn run(
            &self,
            _: Ctx,
            call: PromptCall,
        ) -> futures_util::future::BoxFuture<'static, Result<Value, NodeError>> {
            let answer = json!({ "case": call.variables["topic"], "unused": 1, "why": null });
            self.0.lock().unwrap().push(call);
            Box::pin(async move { Ok(answer) })
        }
    }
    let runner = Arc::new(Scripted(Mutex::default()));
    let engine = Engine::builder().prompts(Arc::clone(&runner) as _).build();
    let graph = |ty| {
        let graph = GraphBuilder::new("ask")
            .input("topic", "any")
            .channel("draft", ty, Reducer::Last)
            .channel_from("why", "string?", Reducer::Last, json!("old"))
            .node(
                NodeBuilder::prompt("ask", "investigate/lead", "investigator", "Answer")
                    .reads(["topic"])
                    .write("case", "draft")
                    .writes(["why"]),
            )
            .build()
            .unwrap();
        Arc::new(graph)
    };
    let texts = Arc::new(PromptTexts::from([("investigate/lead".to_owned(), "text".to_owned())]));
    let options = RunOptions { prompt_texts: Arc::clone(&texts), ..RunOptions::default() };
    let given = input(json!({ "topic": "fire" }));
    let done = engine.run(graph("string"), given.clone(), options).await.unwrap();
    assert_eq!(done.state, input(json!({ "topic": "fire", "draft": "fire", "why": null })));
    let call = runner.0.lock().unwrap().pop().unwrap();
    assert_eq!((call.prompt.as_str(), call.role.as_str()), ("investigate/lead", "investigator"));
    assert_eq!((call.output.as_str(), call.texts), ("Answer", texts));

    let error = engine.run(graph("int"), given.clone(), RunOptions::default()).await.unwrap_err();
    assert_eq!(error.kind.class(), Some(ErrorClass::Malformed), "{error}");
    let error = Engine::builder().build().run(graph("int"), given, RunOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::NoPrompts { .. }), "{error}");
}

#[tokio::test]
async fn events_tell_what_happened_in_order() {
    let (engine, _) = engine(registry(&Trace::default()));
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let options = RunOptions { events: Some(Arc::new(sender)), ..RunOptions::default() };
    engine.run(counter(1), Map::new(), options).await.unwrap();
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        let event = serde_json::to_value(&event).unwrap();
        assert_eq!(event["version"], json!(EVENT_VERSION));
        assert_eq!(event["seq"], json!(seen.len()));
        seen.push((event["event"].as_str().unwrap().to_owned(), event["writes"].clone()));
    }
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["run_started", "step_started", "task_started", "task_finished", "step_committed", "run_finished"]
    );
    assert_eq!(seen[4].1, json!([["n", 1]]));
}

#[test]
fn a_registry_tells_what_graph_files_may_name() {
    let mut registry = registry(&Trace::default());
    registry.type_of::<Number>();
    let catalog = registry.catalog();
    let add = &catalog.tasks["demo.add"];
    assert_eq!(add.description, "adds one");
    assert_eq!(add.inputs.len(), 1);
    assert_eq!((add.inputs[0].name.as_str(), &add.inputs[0].ty), ("n", &crate::graph::Type::Int));
    assert!(add.inputs[0].required);
    assert_eq!(catalog.types["Number"].fields, add.inputs);
}

#[tokio::test]
async fn a_graph_names_only_what_is_registered() {
    let engine = Engine::builder().build();
    let error = engine.run(counter(1), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("node `add`: no task `demo.add` is registered"), "{error}");
}
