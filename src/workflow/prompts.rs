//! Prompt nodes: template → question → model → an answer that fits its type.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::engine::{Ctx, ErrorClass, NodeError, PromptCall, PromptRunner, PromptTexts};
use crate::model::{
    Account, ChatRequest, ModelError, Models, OutputSchema, Retry, TokenSink, Usage, Work, structured_value,
};
use crate::prompt::Prompts;
use crate::text;

/// Endings of a prompt's two files.
const HALVES: [&str; 2] = ["system", "user"];

/// Answers prompt nodes with the configured models.
#[derive(Debug)]
pub struct ModelPrompts {
    prompts: Arc<Prompts>,
    models: Models,
    schemas: BTreeMap<String, Value>,
    max_tokens: BTreeMap<String, u32>,
}

impl ModelPrompts {
    /// Answers with these prompts and models; `schemas` are the registered types' by name, `max_tokens` the longest
    /// answers by role.
    pub fn new(
        prompts: Arc<Prompts>,
        models: Models,
        schemas: BTreeMap<String, Value>,
        max_tokens: BTreeMap<String, u32>,
    ) -> Self {
        Self { prompts, models, schemas, max_tokens }
    }

    async fn answer(&self, ctx: &Ctx, call: &PromptCall) -> Result<Value, NodeError> {
        let rendered = if let Some(kept) = kept(&call.prompt, &call.texts) {
            // A run keeps its prompts: an edit in the meantime does not change what it asks.
            Prompts::from_sources(&kept).and_then(|prompts| prompts.render(&call.prompt, &call.variables))
        } else {
            self.prompts.render(&call.prompt, &call.variables)
        };
        let rendered = rendered.map_err(|error| NodeError::permanent(&error).because(error))?;
        let model = self.models.get(&call.role).ok_or_else(|| {
            NodeError::permanent(format!("no model is configured for the role `{}`", call.role))
        })?;
        let schema = self
            .schemas
            .get(&call.output)
            .ok_or_else(|| NodeError::permanent(format!("the type `{}` is not registered", call.output)))?;
        let mut request = ChatRequest::new(rendered.system, rendered.user);
        request.max_tokens = self.max_tokens.get(&call.role).copied();
        request.output = Some(OutputSchema { name: call.output.clone(), schema: schema.clone() });
        request.on_token = sink(ctx);
        request.nonce = rendered.nonce;
        request.account = Some(Account { work: work_of(ctx.graph()), id: ctx.run().to_string() });
        // What a call cost counts, also where its answer is none.
        match structured_value(model.as_ref(), request, schema).await {
            Ok(answer) => {
                spend(ctx, answer.usage);
                Ok(answer.value)
            }
            Err(error) => {
                spend(ctx, error.usage);
                Err(node_error(error))
            }
        }
    }
}

impl PromptRunner for Arc<ModelPrompts> {
    fn run(&self, ctx: Ctx, call: PromptCall) -> BoxFuture<'static, Result<Value, NodeError>> {
        let runner = Arc::clone(self);
        Box::pin(async move { runner.answer(&ctx, &call).await })
    }
}

/// Whoever listens to the answers of this run while they come, if somebody does.
fn sink(ctx: &Ctx) -> Option<TokenSink> {
    let ctx = ctx.wants_tokens().then(|| ctx.clone())?;
    Some(TokenSink::new(move |piece| ctx.token(piece)))
}

/// Counts a call against the budgets of its run.
fn spend(ctx: &Ctx, usage: Usage) {
    ctx.spend(usage.tokens(), usage.micro_usd);
}

/// What kind of work the runs of a graph are.
fn work_of(graph: &str) -> Work {
    match graph {
        "patrol" => Work::Sweep,
        "investigate" => Work::Investigation,
        _ => Work::Run,
    }
}

/// A model's error as the engine takes it.
fn node_error(error: ModelError) -> NodeError {
    let class: ErrorClass = error.class().parse().unwrap_or(ErrorClass::Permanent);
    let message = text::bounded(&text::plain(&error.to_string()), 500);
    let wait = match error.retry() {
        Retry::After(wait) => Some(wait),
        Retry::Never | Retry::Backoff => None,
    };
    let node_error = NodeError::new(class, message).because(error);
    match wait {
        Some(wait) => node_error.retry_after(wait),
        None => node_error,
    }
}

/// The texts of a graph's prompts, as a run keeps them.
pub(super) fn texts<'a>(prompts: &Prompts, names: impl Iterator<Item = &'a str>) -> PromptTexts {
    let mut texts = PromptTexts::new();
    for name in names {
        if let Some((system, user)) = prompts.sources(name) {
            for (half, text) in HALVES.into_iter().zip([system, user]) {
                texts.insert(format!("{name}.{half}.j2"), text);
            }
        }
    }
    texts
}

fn kept(name: &str, texts: &PromptTexts) -> Option<BTreeMap<String, (String, String)>> {
    let [system, user] = HALVES.map(|half| texts.get(&format!("{name}.{half}.j2")).cloned());
    Some(BTreeMap::from([(name.to_owned(), (system?, user?))]))
}

/// The prompts that texts kept with a run make.
pub(super) fn prompts_of(texts: &PromptTexts) -> Result<Prompts, crate::prompt::PromptError> {
    let mut sources: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (file, text) in texts {
        if let Some(name) = file.strip_suffix(".system.j2") {
            sources.entry(name.to_owned()).or_default().0.clone_from(text);
        } else if let Some(name) = file.strip_suffix(".user.j2") {
            sources.entry(name.to_owned()).or_default().1.clone_from(text);
        }
    }
    Prompts::from_sources(&sources)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::engine::{Engine, Event, GraphBuilder, NodeBuilder, RunEvent, RunOptions, Stream, Streams};
    use crate::graph::Reducer;
    use crate::model::{Answering, ChatAnswer, ChatModel, Finish, ModelContext};

    /// Says its answer in two pieces to whoever listens.
    #[derive(Debug)]
    struct Speaker(Arc<ModelContext>, Mutex<Vec<bool>>);

    impl ChatModel for Speaker {
        fn context(&self) -> &Arc<ModelContext> {
            &self.0
        }

        fn complete(&self, request: ChatRequest) -> Answering<'_> {
            self.1.lock().unwrap().push(request.on_token.is_some());
            if let Some(sink) = request.on_token {
                sink.say("{\"n\":");
                sink.say("7}");
            }
            let usage = Usage { input_tokens: 5, output_tokens: 2, ..Usage::default() };
            let (text, model) = ("{\"n\":7}".to_owned(), "m".to_owned());
            Box::pin(std::future::ready(Ok(ChatAnswer {
                text,
                structured: None,
                usage,
                finish: Finish::Stop,
                model,
            })))
        }
    }

    #[tokio::test]
    async fn whoever_listens_hears_an_answer_while_it_comes() {
        let context = ModelContext {
            provider: "p".to_owned(),
            model: "m".to_owned(),
            role: "patrol".to_owned(),
            host: "h".to_owned(),
            key_source: "k".to_owned(),
        };
        let speaker = Arc::new(Speaker(Arc::new(context), Mutex::default()));
        let mut models = Models::default();
        models.insert("patrol", Arc::clone(&speaker) as _);
        let prompts = Prompts::new(&[("a/b.system.j2", "s"), ("a/b.user.j2", "u")], None).unwrap();
        let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
        let runner = ModelPrompts::new(
            Arc::new(prompts),
            models,
            BTreeMap::from([("N".to_owned(), schema)]),
            BTreeMap::new(),
        );
        let engine = Engine::builder().prompts(Arc::new(Arc::new(runner))).build();
        let graph = GraphBuilder::new("g")
            .channel("n", "int?", Reducer::Last)
            .node(NodeBuilder::prompt("ask", "a/b", "patrol", "N").writes(["n"]))
            .build()
            .unwrap();
        let graph = Arc::new(graph);
        let mut heard = Vec::new();
        for streams in [Streams::of(&[Stream::Tokens]), Streams::default()] {
            let (sink, mut events) = tokio::sync::mpsc::unbounded_channel();
            let options = RunOptions { events: Some(Arc::new(sink)), streams, ..RunOptions::default() };
            let outcome = engine.run(Arc::clone(&graph), serde_json::Map::new(), options).await.unwrap();
            assert_eq!((&outcome.state["n"], outcome.used.tokens), (&json!(7), 7));
            while let Ok(RunEvent { event, .. }) = events.try_recv() {
                if let Event::Token { text, .. } = event {
                    heard.push(text);
                }
            }
        }
        assert_eq!(heard, ["{\"n\":", "7}"]);
        assert_eq!(*speaker.1.lock().unwrap(), [true, false], "nobody is asked to stream for nobody");
    }

    #[test]
    fn kept_prompts_are_the_prompts_that_were() {
        let prompts = Prompts::new(&[("a/b.system.j2", "s {{ x }}"), ("a/b.user.j2", "u")], None).unwrap();
        let texts = texts(&prompts, ["a/b", "missing"].into_iter());
        assert_eq!(texts.len(), 2);
        let again = prompts_of(&texts).unwrap();
        assert_eq!(again.sources("a/b"), prompts.sources("a/b"));
        assert_eq!(again.info("a/b").unwrap().hash, prompts.info("a/b").unwrap().hash);
    }
}
