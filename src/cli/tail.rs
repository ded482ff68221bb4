//! `mmface-live tail`: records from NATS to standard output.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::ContextBuilder;
use futures_util::StreamExt;

use super::fleet::ServerArgs;
use super::printed;
use crate::nats::{self, STREAM, source_of};
use crate::{Error, Result};

/// How long the first answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a signal is looked for.
const ASK: Duration = Duration::from_millis(100);

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Subject of the records: mmface.records.* for all, mmface.records.door for one stream
    #[arg(value_name = "SUBJECT", default_value = "mmface.records.*")]
    subject: String,
    /// From so long ago on: 90s, 15m, 1h, 2d; all: from the oldest that is kept
    /// [default: from now on]
    #[arg(long, value_name = "TIME|all")]
    since: Option<String>,
    /// End when everything that is kept was written, instead of waiting for more
    #[arg(long)]
    no_follow: bool,
    /// Where NATS is.
    #[command(flatten)]
    server: ServerArgs,
}

/// Reads a time such as 90s, 15m, 1h or 2d.
fn time(text: &str) -> Result<Duration> {
    let wrong =
        || Error::Usage(format!("--since {text} is no time: write 90s, 15m, 1h, 2d or all"));
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

fn policy(since: Option<&str>) -> Result<DeliverPolicy> {
    Ok(match since {
        None => DeliverPolicy::New,
        Some("all") => DeliverPolicy::All,
        Some(text) => {
            let start =
                SystemTime::now().checked_sub(time(text)?).unwrap_or(SystemTime::UNIX_EPOCH);
            DeliverPolicy::ByStartTime { start_time: start.into() }
        }
    })
}

/// Writes records as they come.
///
/// # Errors
/// [`Error::Usage`] for wrong arguments, [`Error::Source`] if there is nothing to read,
/// [`Error::ReaderGone`] or [`Error::Sink`] if standard output cannot be written.
pub fn run(args: &Args, stop: &AtomicBool) -> Result<()> {
    let policy = policy(args.since.as_deref())?;
    let servers = args.server.servers()?;
    let failed = |why: String| Error::Source(format!("the records cannot be read: {why}"));
    nats::runtime()?.block_on(async {
        let (client, _link) = servers.connect("mmface-live tail").await?;
        let jetstream = ContextBuilder::new().timeout(ANSWER).build(client);
        let stream = jetstream.get_stream(STREAM).await.map_err(|e| {
            failed(format!("{}; it is made by the first run with --nats", source_of(&e)))
        })?;
        let config = pull::OrderedConfig {
            filter_subject: args.subject.clone(),
            deliver_policy: policy,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await;
        let consumer = consumer.map_err(|e| failed(source_of(&e)))?;
        let nothing = consumer.cached_info().num_pending == 0;
        if args.no_follow && nothing {
            return Ok(());
        }
        let mut messages = consumer.messages().await.map_err(|e| failed(source_of(&e)))?;
        while !stop.load(Ordering::Relaxed) {
            let Ok(message) = tokio::time::timeout(ASK, messages.next()).await else { continue };
            let Some(message) = message else { break };
            let message = match message {
                Ok(message) => message,
                Err(e) => {
                    // It goes on where it was once the server is back.
                    tracing::warn!("{}; trying again", source_of(&e));
                    continue;
                }
            };
            let mut out = std::io::stdout().lock();
            let written = out.write_all(&message.payload).and_then(|()| out.write_all(b"\n"));
            printed(written.and_then(|()| out.flush()))?;
            let is_last = message.info().is_ok_and(|info| info.pending == 0);
            if args.no_follow && is_last {
                break;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800), ("0.5m", 30)]
        {
            assert_eq!(time(text).expect(text), Duration::from_secs(seconds));
        }
        for wrong in ["", "h", "1", "1w", "-1h", "1é", "infh"] {
            let error = time(wrong).expect_err(wrong).to_string();
            assert!(error.contains("write 90s"), "{error}");
        }
    }
}
