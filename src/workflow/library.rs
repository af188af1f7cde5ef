//! The graph files and prompt templates that are at hand: built in, or in folders of the user's, which win.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use include_dir::{Dir, include_dir};

use super::WorkflowError;
use crate::prompt::Prompts;

static GRAPHS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/graphs");

/// Ending of a graph's tests.
const TESTS: &str = ".test.toml";
/// Ending of a graph file.
const GRAPH: &str = ".toml";

/// A graph file's text and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphSource {
    /// Name, as in `sentrix graph run NAME`: the file's name without its ending.
    pub name: String,
    /// The file as messages name it: its path, or `graphs/NAME.toml (built in)`.
    pub origin: String,
    /// Its text.
    pub text: String,
    /// The text of the tests beside it, if any, and where they come from.
    pub tests: Option<(String, String)>,
}

/// Every graph and prompt at hand.
#[derive(Debug)]
pub struct Library {
    graphs: BTreeMap<String, GraphSource>,
    prompts: Arc<Prompts>,
}

impl Library {
    /// The built-in graphs and prompts, and those of the folders, which win.
    ///
    /// # Errors
    /// Where a folder or file cannot be read, or a prompt is no template.
    pub fn load(graphs_dir: Option<&Path>, prompts_dir: Option<&Path>) -> Result<Self, WorkflowError> {
        let mut graphs = BTreeMap::new();
        for file in GRAPHS.files() {
            let (Some(name), Some(text)) = (graph_name(file.path()), file.contents_utf8()) else { continue };
            let tests = GRAPHS
                .get_file(format!("{name}{TESTS}"))
                .and_then(|tests| tests.contents_utf8())
                .map(|tests| (format!("graphs/{name}{TESTS} (built in)"), tests.to_owned()));
            let origin = format!("graphs/{name}{GRAPH} (built in)");
            graphs.insert(name.clone(), GraphSource { name, origin, text: text.to_owned(), tests });
        }
        if let Some(dir) = graphs_dir {
            let listing = std::fs::read_dir(dir).map_err(|source| WorkflowError::read(dir, source))?;
            for entry in listing {
                let path = entry.map_err(|source| WorkflowError::read(dir, source))?.path();
                if graph_name(&path).is_some() {
                    let source = read_graph(&path)?;
                    graphs.insert(source.name.clone(), source);
                }
            }
        }
        Ok(Self { graphs, prompts: Arc::new(Prompts::load(prompts_dir)?) })
    }

    /// Every graph, by name.
    pub fn graphs(&self) -> impl Iterator<Item = &GraphSource> {
        self.graphs.values()
    }

    /// Where graphs and prompts come from that are not the built-in ones: files whose text differs, or that are new.
    /// Whoever can write them decides what the patrol does, so this is shown.
    pub fn changed(&self) -> Vec<String> {
        let built_in =
            |name: &str| GRAPHS.get_file(format!("{name}{GRAPH}")).and_then(|file| file.contents_utf8());
        let graphs = self
            .graphs
            .values()
            .filter(|source| built_in(&source.name) != Some(source.text.as_str()))
            .map(|source| source.origin.clone());
        let embedded: BTreeMap<&str, &str> = Prompts::embedded().into_iter().collect();
        let same = |path: String, text: &String| embedded.get(path.as_str()) == Some(&text.as_str());
        let prompts = self.prompts.names().into_iter().filter(|name| {
            self.prompts.sources(name).is_some_and(|(system, user)| {
                !same(format!("{name}.system.j2"), &system) || !same(format!("{name}.user.j2"), &user)
            })
        });
        graphs.chain(prompts.map(|name| format!("prompt {name}"))).collect()
    }

    /// The prompts.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// The prompts, for somebody who keeps them.
    pub fn shared_prompts(&self) -> Arc<Prompts> {
        Arc::clone(&self.prompts)
    }

    /// A graph by its name, or by the path of its file.
    ///
    /// # Errors
    /// Where there is no such graph, with the names there are, or its file cannot be read.
    pub fn graph(&self, name_or_path: &str) -> Result<GraphSource, WorkflowError> {
        if let Some(source) = self.graphs.get(name_or_path) {
            return Ok(source.clone());
        }
        let path = Path::new(name_or_path);
        if path.is_file() {
            return read_graph(path);
        }
        Err(WorkflowError::NoSuchGraph {
            name: crate::text::plain(name_or_path),
            known: self.graphs.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}

/// Writes copies of every built-in graph and prompt under `to`; gives the files written.
///
/// # Errors
/// Where a file is there already and `force` is not given (nothing is written then), or cannot be written.
pub fn eject(to: &Path, force: bool) -> Result<Vec<PathBuf>, WorkflowError> {
    let graphs = GRAPHS
        .files()
        .filter_map(|file| Some((Path::new("graphs").join(file.path()), file.contents_utf8()?)));
    let prompts = Prompts::embedded().into_iter().map(|(path, text)| (Path::new("prompts").join(path), text));
    let files: Vec<(PathBuf, &str)> =
        graphs.chain(prompts).map(|(path, text)| (to.join(path), text)).collect();
    if !force && let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(WorkflowError::Exists { path: path.clone() });
    }
    for (path, text) in &files {
        let parent = path.parent().unwrap_or(to);
        std::fs::create_dir_all(parent).map_err(|source| WorkflowError::write(parent, source))?;
        std::fs::write(path, text).map_err(|source| WorkflowError::write(path, source))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn graph_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    if name.ends_with(TESTS) || name.starts_with('.') {
        return None;
    }
    name.strip_suffix(GRAPH).map(str::to_owned)
}

fn read_graph(path: &Path) -> Result<GraphSource, WorkflowError> {
    let read = |path: &Path| crate::text::read_file(path).map_err(|source| WorkflowError::read(path, source));
    let name = graph_name(path).unwrap_or_else(|| path.to_string_lossy().into_owned());
    let tests = path.with_file_name(format!("{name}{TESTS}"));
    let tests = if tests.is_file() { Some((tests.display().to_string(), read(&tests)?)) } else { None };
    Ok(GraphSource { origin: path.display().to_string(), text: read(path)?, name, tests })
}
