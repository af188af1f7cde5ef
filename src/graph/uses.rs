//! Which graphs a graph file uses.

use toml::de::DeTable;

/// Names of the graphs that the nodes of a file run, each once, in the order of the text. Of a text that cannot be
/// read, those that can.
pub fn uses(source: &str) -> Vec<String> {
    let (document, _) = DeTable::parse_recoverable(source);
    let mut names = Vec::new();
    let nodes = document.get_ref().get("node").and_then(|nodes| nodes.get_ref().as_table());
    for node in nodes.into_iter().flat_map(|nodes| nodes.values()) {
        let graph = node.get_ref().as_table().and_then(|node| node.get("graph"));
        if let Some(name) = graph.and_then(|name| name.get_ref().as_str())
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}
