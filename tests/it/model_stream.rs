//! Answers that come in pieces: the same answer as in one piece, whatever is wrong with the stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sentrix::model::{ChatModel, ChatRequest, Client, Dialect, Mask, Models, Surroundings, TokenSink, Usage};
use serde_json::{Value, json};

use crate::model::{ALL, KEY, ONE_CALL, alone, client, good, hello, name, settings};
use crate::model_server::{ModelServer, Reply};

/// What a sink was given.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn sink(&self) -> TokenSink {
        let heard = self.clone();
        TokenSink::new(move |piece| heard.0.lock().unwrap().push(piece.to_owned()))
    }

    fn pieces(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().concat()
    }
}

fn listening(heard: &Heard) -> ChatRequest {
    ChatRequest { on_token: Some(heard.sink()), ..hello() }
}

/// A question for an answer of a shape.
fn shaped(request: ChatRequest) -> ChatRequest {
    let schema = json!({ "type": "object" });
    ChatRequest { output: Some(sentrix::model::OutputSchema { name: "verdict".into(), schema }), ..request }
}

#[tokio::test]
async fn a_streamed_answer_is_the_answer_that_comes_whole() {
    let replies = [
        Reply::Text("Grüße, 世界! \"quoted\" \\ and\nlines".into()),
        Reply::Answer(good()),
        Reply::Answer(json!({ "deep": { "ä": [1, 2.5, null, "x".repeat(500)] } })),
        Reply::Parts(vec!["one ".into(), "two".into()]),
        Reply::Empty,
        Reply::Text("  ".into()),
        Reply::Refusal("I will not".into()),
        Reply::Truncated("half an ans".into()),
        Reply::Status(503, vec![], "<html>down</html>".into()),
        Reply::error(401, "invalid_api_key", "Incorrect API key"),
        Reply::error(429, "rate_limit", "slow down"),
    ];
    for dialect in ALL {
        for reply in &replies {
            for wrapped in [None, Some(3), Some(50), Some(1_000)] {
                let played = match wrapped {
                    None => reply.clone(),
                    Some(chunks) => Reply::Trickle(chunks, Duration::ZERO, Box::new(reply.clone())),
                };
                let server = ModelServer::answering(move |_| played.clone());
                let heard = Heard::default();
                let whole = client(dialect, &server).complete(shaped(hello())).await;
                let streamed = client(dialect, &server).complete(shaped(listening(&heard))).await;
                let row = format!("{dialect:?} {reply:?} in {wrapped:?}");
                match (whole, streamed) {
                    (Ok(whole), Ok(streamed)) => {
                        assert_eq!(streamed, whole, "{row}");
                        let said = heard.text();
                        let same = said == whole.text || whole.structured == serde_json::from_str(&said).ok();
                        assert!(same, "{row}: said `{said}`");
                        assert!(heard.pieces() > 1, "{row}");
                    }
                    (Err(whole), Err(streamed)) => {
                        assert_eq!(
                            (&streamed.kind, streamed.attempts),
                            (&whole.kind, whole.attempts),
                            "{row}"
                        );
                        assert_eq!(streamed.usage, whole.usage, "{row}");
                    }
                    (whole, streamed) => panic!("{row}: {whole:?} and {streamed:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stream_is_asked_for_only_where_somebody_listens() {
    let server = ModelServer::answering(|_| Reply::Text("hi".into()));
    for dialect in ALL {
        let model = client(dialect, &server);
        model.complete(listening(&Heard::default())).await.unwrap();
        model.complete(hello()).await.unwrap();
    }
    let sent = server.requests();
    let asked: Vec<(&Value, &Value, &str)> = sent
        .iter()
        .map(|request| {
            (&request.body["stream"], &request.body["stream_options"], request.headers["accept"].as_str())
        })
        .collect();
    let (yes, usage, no) = (json!(true), json!({ "include_usage": true }), Value::Null);
    let (stream, whole) = ("text/event-stream", "application/json");
    assert_eq!(
        asked,
        [
            (&yes, &usage, stream),
            (&no, &no, whole),
            (&yes, &no, stream),
            (&no, &no, whole),
            (&no, &no, stream),
            (&no, &no, whole)
        ]
    );
    assert!(
        sent[4].path.ends_with(":streamGenerateContent?alt=sse")
            && sent[5].path.ends_with(":generateContent")
    );
}

/// A stream of these events, without an end of its own.
fn events(dialect: Dialect, events: &[&str]) -> String {
    let begun = match dialect {
        Dialect::OpenAi => vec![r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}]}"#],
        Dialect::Anthropic => vec![
            r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":11,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#,
        ],
        Dialect::Gemini => vec![r#"{"candidates":[{"content":{"parts":[{"text":"Hel"}]}}]}"#],
    };
    let events: Vec<&str> = begun.into_iter().chain(events.iter().copied()).collect();
    format!("data: {}\n\n", events.join("\n\ndata: "))
}

/// The event that ends an answer.
fn done(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => r#"{"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}"#,
        Dialect::Anthropic => r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
        Dialect::Gemini => {
            r#"{"candidates":[{"content":{"parts":[{"text":"lo"}]},"finishReason":"STOP"}],"usageMetadata":{}}"#
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_no_answer_is_an_error() {
    for dialect in ALL {
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
        let limited = r#"{"type":"error","error":{"type":"rate_limit_error","message":"later"}}"#;
        let echo = format!(r#"{{"error":{{"code":401,"message":"no such key {KEY}"}}}}"#);
        let with = |last: &[&str]| Reply::Stream(events(dialect, last).into_bytes());
        let mut half = events(dialect, &[]).into_bytes();
        half.extend_from_slice(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xc3");
        let mut broken = half.clone();
        broken.extend_from_slice(b"\"}}]}\n\n");
        let table: Vec<(&str, Reply, &str, usize)> = vec![
            ("breaks off", with(&[]), "Connect", 3),
            ("ends without an answer", with(&["[DONE]"]), "Connect", 3),
            ("says nothing", Reply::Stream(Vec::new()), "Connect", 3),
            ("says only `done`", Reply::Stream(b"data: [DONE]\n\n".to_vec()), "Connect", 3),
            ("only keeps the line open", Reply::Stream(b": ping\n\n: ping\n\n".to_vec()), "Connect", 3),
            ("is cut in a character", Reply::Stream(half), "Connect", 3),
            ("is cut on the wire", Reply::Cut(Box::new(with(&["1"; 100]))), "Connect", 3),
            ("holds no UTF-8", Reply::Stream(broken), "Malformed", 1),
            ("holds no JSON", with(&["{\"choices\":[{\"mess"]), "Malformed", 1),
            ("holds words", with(&["Internal error"]), "Malformed", 1),
            ("tells of an error", with(&[overloaded]), "Server", 3),
            ("tells of a limit", with(&[limited]), "RateLimited", 3),
            ("tells of a key", with(&[&echo]), "Unauthorized", 1),
        ];
        for (what, reply, kind, attempts) in table {
            let server = ModelServer::answering(move |_| reply.clone());
            let error = client(dialect, &server).complete(listening(&Heard::default())).await.unwrap_err();
            let row = format!("{dialect:?}: a stream that {what}: {error}");
            assert_eq!((name(&error).as_str(), server.requests().len()), (kind, attempts), "{row}");
            assert!(!format!("{error} {error:?}").contains(KEY), "{row}");
        }
    }
}

#[tokio::test]
async fn no_stream_is_read_for_ever() {
    let minute = Duration::from_mins(1);
    for dialect in ALL {
        let more = events(dialect, &[]).lines().nth_back(1).unwrap().to_owned() + "\n\n";
        let begin = events(dialect, &[]);
        let table: Vec<(&str, Reply, &str)> = vec![
            ("one line", Reply::Endless("data: ".into(), "x".into()), "AnswerTooLarge"),
            ("one event of many lines", Reply::Endless(String::new(), "data: x\n".into()), "AnswerTooLarge"),
            ("an answer", Reply::Endless(begin.clone(), more), "AnswerTooLarge"),
            ("comments", Reply::Endless(begin.clone(), ": ping\n\n".into()), "AnswerTooLarge"),
            ("empty lines", Reply::Endless(begin.clone(), "\n".into()), "AnswerTooLarge"),
            ("silence", Reply::Trickle(2, minute, Box::new(Reply::Stream(begin.into_bytes()))), "Timeout"),
        ];
        for (what, reply, kind) in table {
            let server = ModelServer::answering(move |_| reply.clone());
            let mut settings = settings(dialect, &server.url());
            settings.max_answer_bytes = 1 << 15;
            settings.max_attempts = 1;
            if kind == "Timeout" {
                settings.timeouts.total = Duration::from_millis(60);
            }
            let error = Client::new(settings).complete(listening(&Heard::default())).await.unwrap_err();
            assert_eq!(name(&error), kind, "{dialect:?} {what}: {error}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_whole_once_the_model_says_so() {
    for dialect in ALL {
        let end = match dialect {
            Dialect::OpenAi => "[DONE]",
            Dialect::Anthropic => r#"{"type":"message_stop"}"#,
            Dialect::Gemini => "{}",
        };
        let full = events(dialect, &[done(dialect), end]);
        let without_end = events(dialect, &[done(dialect)]);
        for reply in [
            // Nothing behind the end is waited for.
            Reply::Endless(full.clone(), ": ping\n\n".into()),
            Reply::Stream(format!("{full}data: what is this\n\n").into_bytes()),
            // Some servers leave the end out, or the last line break.
            Reply::Stream(without_end.clone().into_bytes()),
            Reply::Stream(without_end.trim_end().as_bytes().to_vec()),
            Reply::Stream(full.replace('\n', "\r\n").into_bytes()),
            Reply::Stream(full.replace("data: ", "data:").into_bytes()),
        ] {
            let server = ModelServer::playing([reply.clone()]);
            let heard = Heard::default();
            let answer = client(dialect, &server).complete(listening(&heard)).await.unwrap();
            let text = if dialect == Dialect::Anthropic { "Hel" } else { "Hello" };
            assert_eq!((answer.text.as_str(), heard.text().as_str()), (text, text), "{dialect:?} {reply:?}");
        }
    }
}

#[tokio::test]
async fn what_a_broken_stream_cost_is_charged() {
    let broken = || Reply::Stream(events(Dialect::Anthropic, &[]).into_bytes());
    let server = ModelServer::playing([broken(), broken(), Reply::Text("here".into())]);
    let heard = Heard::default();
    let answer = client(Dialect::Anthropic, &server).complete(listening(&heard)).await.unwrap();
    let begun = Usage { input_tokens: 11, output_tokens: 1, ..Usage::default() };
    assert_eq!(answer.usage, begun + begun + ONE_CALL);
    assert_eq!(heard.text(), "Hel\nHel\nhere", "each attempt begins anew");

    let server = ModelServer::answering(move |_| broken());
    let error = client(Dialect::Anthropic, &server).complete(listening(&Heard::default())).await.unwrap_err();
    assert_eq!((error.usage, error.attempts), (begun + begun + begun, 3));
}

#[tokio::test]
async fn a_server_that_cannot_stream_answers_all_the_same() {
    for dialect in ALL {
        // It takes no notice.
        let server = ModelServer::playing([Reply::Whole(Box::new(Reply::Text("hello".into())))]);
        let heard = Heard::default();
        let answer = client(dialect, &server).complete(listening(&heard)).await.unwrap();
        assert_eq!((answer.text.as_str(), heard.text().as_str(), heard.pieces()), ("hello", "hello", 1));
        // It objects.
        let server = ModelServer::answering(|request| {
            if request.headers["accept"] == "text/event-stream" {
                Reply::error(400, "invalid_request_error", "Unknown parameter: 'stream_options'")
            } else {
                Reply::Text("hello".into())
            }
        });
        let heard = Heard::default();
        let answer = client(dialect, &server).complete(listening(&heard)).await.unwrap();
        assert_eq!((answer.text.as_str(), heard.text().as_str()), ("hello", "hello"));
        // First without `stream_options`, which OpenAI's dialect has, then without a stream.
        assert_eq!(server.requests().len(), if dialect == Dialect::OpenAi { 3 } else { 2 });
    }
}

#[tokio::test]
async fn a_masked_model_masks_what_it_says_while_it_says_it() {
    for dialect in ALL {
        let words = "some more words ".repeat(200);
        let text = format!("{words}the password is swordfish, {words}");
        let server = ModelServer::playing([Reply::Text(text.clone())]);
        let mask: Mask = |text| text.replace("swordfish", "[masked]");
        let around = Surroundings { mask, ..Surroundings::default() };
        let models = Models::build(vec![alone(settings(dialect, &server.url()))], &around);
        let heard = Heard::default();
        let model = Arc::clone(models.get("patrol").unwrap());
        let answer = model.complete(listening(&heard)).await.unwrap();
        assert_eq!(answer.text, mask(&text));
        assert_eq!(heard.text(), mask(&text));
        assert!(heard.pieces() > 5, "{}", heard.pieces());
    }
}

#[tokio::test]
async fn many_streams_at_once_do_not_mix() {
    let server = ModelServer::answering(|request| Reply::Text(format!("you said {}", request.prompt())));
    let model = client(Dialect::OpenAi, &server);
    let calls = (0..100).map(|n| {
        let (model, heard) = (&model, Heard::default());
        async move {
            let request =
                ChatRequest { on_token: Some(heard.sink()), ..ChatRequest::new("", format!("{n}")) };
            let answer = model.complete(request).await.unwrap();
            assert_eq!(answer.text, format!("you said {n}"));
            assert_eq!(heard.text(), answer.text);
        }
    });
    futures_util::future::join_all(calls).await;
}
