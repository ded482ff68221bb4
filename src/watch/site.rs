//! What the server answers.

use std::sync::{Arc, OnceLock};

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use url::form_urlencoded;

use super::guard::{Guard, Refusal};
use super::head::head;
use super::health::{Health, Readiness};
use super::metrics::Metrics;
use super::records::Events;
use crate::board::Board;
use crate::sink::feed::Feed;

/// Most readers of records at once.
const READERS: usize = 64;

/// An answer: a page, or records without an end.
pub(super) type Answer = Response<Either<Full<Bytes>, Events>>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page that shows a head, and its script.
const LIVE_PAGE: &str = include_str!("live/page.html");
const LIVE_SCRIPT: &str = include_str!("live/live.js");
/// What that page may do: nothing but fetch from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The pages that there are, but for those of single streams.
const PAGES: [&str; 7] =
    ["/", "/live.js", "/head.json", "/metrics", "/healthz", "/readyz", "/records"];

/// The pages, and what they tell about.
pub(super) struct Site {
    board: Arc<Board>,
    feed: Feed,
    metrics: Metrics,
    guard: Guard,
    /// The face model as JSON, once somebody has asked for it.
    head: OnceLock<Bytes>,
}

impl Site {
    pub(super) fn new(board: Arc<Board>, feed: Feed, guard: Guard) -> Self {
        let metrics = Metrics::new(board.clone(), feed.clone());
        Self { metrics, board, feed, guard, head: OnceLock::new() }
    }

    /// Answers a request. It reads no body.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        let stream = path.strip_prefix("/readyz/");
        if stream.is_none() && !PAGES.contains(&path) {
            let text = "there is no such page: see / for those that there are\n";
            return page(StatusCode::NOT_FOUND, TEXT, text);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let text = "this page can only be read: use GET\n";
            let mut answer = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/" => start(),
            "/live.js" => page(StatusCode::OK, JAVASCRIPT, LIVE_SCRIPT),
            "/head.json" => self.head(),
            "/metrics" => self.metrics(request),
            "/healthz" => {
                let health = Health::of(&self.board);
                json(health.is_good(), &health)
            }
            "/records" => self.records(request),
            _ => self.readiness(stream),
        }
    }

    /// The face model, as soon as a stream has one.
    fn head(&self) -> Answer {
        let Some(model) = self.feed.model() else {
            let text = "the networks are still being loaded\n";
            return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
        };
        let text = self.head.get_or_init(|| head(&model).to_string().into());
        page(StatusCode::OK, JSON, text.clone())
    }

    fn metrics<B>(&self, request: &Request<B>) -> Answer {
        let accept = request.headers().get(header::ACCEPT);
        match self.metrics.page(accept.and_then(|a| a.to_str().ok()).unwrap_or_default()) {
            Ok((text, kind)) => page(StatusCode::OK, kind, text),
            Err(_) => failed(),
        }
    }

    fn readiness(&self, stream: Option<&str>) -> Answer {
        let all = Readiness::of(&self.board);
        let Some(name) = stream else { return json(all.is_good(), &all) };
        let name = percent_decode_str(name).decode_utf8_lossy();
        match all.into_stream(&name) {
            Some(stream) => json(stream.is_good(), &stream),
            None => self.no_such_stream(),
        }
    }

    fn records<B>(&self, request: &Request<B>) -> Answer {
        if let Err(refusal) = self.guard.check(request) {
            return refused(refusal);
        }
        let query = request.uri().query().unwrap_or_default();
        let only = form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == "stream")
            .map(|(_, name)| name.into_owned());
        let is_listed = |name: &String| {
            self.board.views().iter().any(|view| view.listed && *view.name == **name)
        };
        if only.as_ref().is_some_and(|name| !is_listed(name)) {
            return self.no_such_stream();
        }
        let mut answer = if request.method() == Method::HEAD {
            page(StatusCode::OK, TEXT, "")
        } else {
            let Some(reader) = self.feed.subscribe(only, READERS) else {
                let text = format!("there are {READERS} readers of records already\n");
                return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
            };
            with_headers(Response::new(Either::Right(Events::new(reader))))
        };
        let kind = HeaderValue::from_static("text/event-stream");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        answer
    }

    fn no_such_stream(&self) -> Answer {
        let views = self.board.views();
        let names: Vec<_> = views.iter().filter(|v| v.listed).map(|view| &*view.name).collect();
        let text = format!("there is no such stream; there are: {}\n", names.join(", "));
        page(StatusCode::NOT_FOUND, TEXT, text)
    }
}

fn start() -> Answer {
    let mut answer = page(StatusCode::OK, "text/html; charset=utf-8", LIVE_PAGE);
    let policy = HeaderValue::from_static(POLICY);
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::OtherSite => {
            let text = "pages of other sites may not read the records\n";
            page(StatusCode::FORBIDDEN, TEXT, text)
        }
        Refusal::NoToken => {
            let text = "the records need the token: \"Authorization: Bearer …\", or ?token=…\n";
            let mut answer = page(StatusCode::UNAUTHORIZED, TEXT, text);
            let scheme = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            answer
        }
    }
}

fn json(good: bool, body: &impl Serialize) -> Answer {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_string(body) {
        Ok(text) => page(status, JSON, text + "\n"),
        Err(_) => failed(),
    }
}

fn failed() -> Answer {
    page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "this page could not be made\n")
}

fn page(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = with_headers(Response::new(Either::Left(Full::new(text.into()))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Nothing may be kept, or taken for something else. Pages of other hosts may read nothing: there
/// are no headers that would allow it.
fn with_headers(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
