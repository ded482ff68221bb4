//! The answer to `/records`: server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Instant, Sleep, sleep};

use crate::sink::feed::{Next, Reader};

/// A reader hears at least a comment this often, so that proxies and readers know that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A body that ends with the process.
pub(super) struct Events {
    reader: Reader,
    quiet: Pin<Box<Sleep>>,
}

impl Events {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, quiet: Box::pin(sleep(KEEP_ALIVE)) }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = match self.reader.poll_next(task) {
            Poll::Ready(Some(next)) => event(&next),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                std::task::ready!(self.quiet.as_mut().poll(task));
                ": keep-alive\n\n".into()
            }
        };
        self.quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

/// A record as on standard output; a loss by its own name.
fn event(next: &Next) -> String {
    match next {
        Next::Record(line) => format!("data: {line}\n\n"),
        Next::Dropped(records) => {
            format!("event: dropped\ndata: {{\"type\":\"dropped\",\"records\":{records}}}\n\n")
        }
    }
}
