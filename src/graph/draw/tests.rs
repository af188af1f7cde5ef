use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::graph::tests::keys::{EVERYTHING, everything};
use crate::graph::tests::{FULL, catalog};
use crate::graph::{Arm, ChannelIdx, Each, ErrorArm, Expr, Gate, Reducer, StateChannel, Type, check};
use proptest::prelude::*;

fn full() -> Graph {
    check("patrol.toml", FULL, &catalog()).unwrap()
}

type Arms = Vec<(Option<String>, Vec<usize>)>;

/// A graph of task nodes with the given arms.
fn graph(nodes: Vec<(String, Arms)>) -> Graph {
    let node = |(name, arms): (String, Arms)| Node {
        description: name.clone(),
        each: (name.len() % 3 == 0).then(|| Each::plain(ChannelIdx(0), &name, Parallel::Fixed(3))),
        next: arms
            .into_iter()
            .map(|(when, to)| Arm {
                when: when.map(|text| Expr::parse(&text).unwrap()),
                option: None,
                to: to.into_iter().map(NodeIdx).collect(),
            })
            .collect(),
        ..Node::plain(&name, NodeKind::Task { task: format!("task.{name}") })
    };
    Graph {
        deadline: Some(Duration::from_secs(90)),
        channels: vec![StateChannel::plain("list", Type::List(Box::new(Type::Any)), Reducer::Last)],
        nodes: nodes.into_iter().map(node).collect(),
        ..Graph::empty("g \"<&>\u{202e}")
    }
}

/// Edges of a graph as pairs; the end is the number of nodes.
fn pairs(graph: &Graph) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Picture::of(graph)
        .edges
        .iter()
        .map(|edge| (format!("n{}", edge.from), edge.to.map_or("stop".into(), |to| format!("n{to}"))))
        .collect();
    out.sort();
    out
}

/// Edges that a drawing by lines shows.
fn drawn(text: &str, arrow: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = text
        .lines()
        .map(|line| line.replacen("-.->", "-->", 1))
        .filter_map(|line| {
            let (from, rest) = line.trim_start().split_once(arrow)?;
            let from = from.trim();
            let is_id = from == "start" || from.strip_prefix('n').is_some_and(|n| n.parse::<usize>().is_ok());
            if !is_id || from == "start" {
                return None;
            }
            let rest = rest.trim_end_matches(';');
            let to = if arrow == "-->" {
                rest.rsplit(' ').next()?
            } else {
                rest.trim_start().split([' ', ';']).next()?
            };
            Some((from.to_owned(), to.to_owned()))
        })
        .collect();
    out.sort();
    out
}

#[test]
fn a_graph_as_mermaid() {
    insta::assert_snapshot!("mermaid", draw(&full(), Format::Mermaid));
}

#[test]
fn a_graph_as_dot() {
    insta::assert_snapshot!("dot", draw(&full(), Format::Dot));
}

#[test]
fn a_graph_as_text() {
    insta::assert_snapshot!("text", draw(&full(), Format::Text));
}

#[test]
fn everything_as_a_drawing() {
    let graph = check("everything.toml", EVERYTHING, &everything()).unwrap();
    for format in [Format::Text, Format::Mermaid, Format::Dot] {
        insta::assert_snapshot!(format!("everything_{format}"), draw(&graph, format));
    }
    let svg = draw(&graph, Format::Svg);
    for class in ["box gate", "edge fails", "edge chosen", "box danger", "frame"] {
        assert!(svg.contains(&format!("class=\"{class}\"")), "{class}");
    }
}

#[test]
fn a_graph_as_text_with_loops_and_joins() {
    let cond = |text: &str| Some(text.to_owned());
    let drawn = draw(
        &graph(vec![
            ("load".into(), vec![(cond("ready"), vec![1]), (None, vec![4])]),
            (
                "analyse".into(),
                vec![(cond("wanted and round < 3"), vec![2]), (cond("retry"), vec![1]), (None, vec![3])],
            ),
            ("expand".into(), vec![(None, vec![1])]),
            ("verify".into(), vec![(None, vec![5, 6])]),
            ("report".into(), vec![(None, vec![7])]),
            ("notify".into(), vec![(None, vec![7])]),
            ("archive".into(), vec![(None, vec![7])]),
            ("conclude".into(), vec![]),
        ]),
        Format::Text,
    );
    insta::assert_snapshot!("text_loops", drawn);
}

#[test]
fn names_cannot_break_a_drawing() {
    let hostile = "a\"]-->x;<script>&amp;\n|b`{%#\\\u{1b}[2J\u{202e}";
    let graph = graph(vec![
        (
            hostile.into(),
            vec![(Some("x == '\"|<&>]' and \"</svg>\" | length > 0".into()), vec![0]), (None, vec![1])],
        ),
        ("b".into(), vec![]),
    ]);
    for format in Format::ALL {
        let text = draw(&graph, format);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{format}: {text}");
    }
    let svg = draw(&graph, Format::Svg);
    assert!(!svg.contains("<script") && svg.matches("</svg>").count() == 1);
    let mermaid = draw(&graph, Format::Mermaid);
    for line in mermaid.lines() {
        assert!(line.matches('"').count() % 2 == 0, "{line}");
    }
    assert_eq!(drawn(&mermaid, "-->"), pairs(&graph));
}

#[test]
fn no_graph_is_too_odd() {
    let long = (0..300).map(|n| (format!("n{n}"), vec![(None, vec![n + 1])]));
    let mut long: Vec<_> = long.collect();
    long.push(("last".into(), vec![(None, vec![0])]));
    let nested: Vec<_> = (0..80)
        .map(|n| {
            (format!("n{n}"), vec![(Some("x".to_owned()), vec![n]), (None, vec![(n + 1) % 80, (n + 2) % 80])])
        })
        .collect();
    let dense = (0..90).map(|n| (format!("d{n}"), vec![(None, (0..90).collect())])).collect();
    for graph in [graph(Vec::new()), graph(long), graph(nested), graph(dense)] {
        for format in Format::ALL {
            assert!(!draw(&graph, format).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_form_shows_every_node_and_edge(
        shape in prop::collection::vec(prop::collection::vec((any::<bool>(), prop::collection::btree_set(0usize..8, 0..3)), 0..3), 1..8),
        others in prop::collection::vec((
            prop::option::of(prop::collection::btree_set(0usize..8, 0..3)),
            prop::collection::btree_set(0usize..8, 0..2),
            prop::collection::btree_set(0usize..8, 0..2),
            0u8..6,
        ), 8),
    ) {
        let count = shape.len();
        let nodes = shape
            .into_iter()
            .enumerate()
            .map(|(index, arms)| {
                let arms = arms
                    .into_iter()
                    .map(|(when, to)| {
                        let to: BTreeSet<usize> = to.into_iter().map(|to| to % count).collect();
                        (when.then(|| format!("x > {index}")), to.into_iter().collect())
                    })
                    .collect();
                (format!("node{}", "x".repeat(index)), arms)
            })
            .collect();
        let mut graph = graph(nodes);
        for (index, (errors, goto, send, kind)) in others.into_iter().enumerate() {
            let Some(node) = graph.nodes.get_mut(index) else { break };
            let list = |set: BTreeSet<usize>| -> Vec<NodeIdx> {
                let set: BTreeSet<usize> = set.into_iter().map(|to| to % count).collect();
                set.into_iter().map(NodeIdx).collect()
            };
            if kind == 1 {
                node.kind = NodeKind::Gate(Gate { ask: format!("task.{}", node.name), ..Gate::default() });
                for (at, arm) in node.next.iter_mut().enumerate() {
                    (arm.when, arm.option) = (None, Some(format!("option{at}")));
                }
            } else {
                let on = vec!["timeout".to_owned()];
                node.on_error = errors.map(|to| ErrorArm { on, to: list(to), write: None }).into_iter().collect();
                (node.goto, node.send) = (list(goto), list(send));
            }
            if kind == 2 {
                node.join = Some(Join { need: Need::All, timeout: None, go_on: false });
            }
            if kind == 3 {
                graph.finally = Some(NodeIdx(index));
            }
        }
        let wanted = pairs(&graph);
        prop_assert_eq!(&drawn(&draw(&graph, Format::Mermaid), "-->"), &wanted);
        prop_assert_eq!(&drawn(&draw(&graph, Format::Dot), "->"), &wanted);
        let svg = draw(&graph, Format::Svg);
        let mut shown: Vec<(String, String)> = svg
            .split("data-edge=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next()?.split_once(' '))
            .map(|(from, to)| (from.to_owned(), to.replace("end", "stop")))
            .collect();
        shown.sort();
        prop_assert_eq!(&shown, &wanted);
        let text = draw(&graph, Format::Text);
        for (index, node) in graph.nodes.iter().enumerate() {
            let id = format!("id=\"n{index}\"");
            let detail = format!("task.{}", node.name);
            let own = text.lines().filter(|line| line.split(['"', ' ', ',']).any(|word| word == detail)).count();
            prop_assert_eq!(own, 1, "{}", text);
            prop_assert!(svg.contains(&id));
        }
        let ends = wanted.iter().filter(|(_, to)| to == "stop").count();
        prop_assert_eq!(text.matches("■ end").count(), ends);
    }
}
