//! Turns flags into the sink for NATS.

use std::time::Duration;

use super::RunArgs;
use super::sinks::content;
use crate::nats::{Keep, Servers};
use crate::sink::nats::{Fence, Nats, Settings};
use crate::{Error, Result};

/// Most replicas that JetStream knows.
const REPLICAS: u32 = 5;
/// Megabytes in a spool, unless the user says otherwise.
const SPOOL: f64 = 1024.0;

/// The sink for NATS, if one is wanted.
pub(super) fn plan(args: &RunArgs, fence: Option<Fence>) -> Result<Option<Nats>> {
    let Some(settings) = settings(args)? else { return Ok(None) };
    Ok(Some(Nats { settings, content: content(args), fence }))
}

/// Where NATS is, and how records wait for it.
pub(super) fn settings(args: &RunArgs) -> Result<Option<Settings>> {
    let Some(servers) = servers(args)? else {
        let lonely = keys(args).into_iter().find(|(_, is_set)| *is_set);
        // Those that may come from the environment say nothing about this run.
        return match lonely {
            Some((key, _)) if !["nats-credentials", "nats-token"].contains(&key) => {
                Err(Error::Usage(format!("--{key} is about records to NATS: add --nats URL")))
            }
            _ => Ok(None),
        };
    };
    let defaults = Keep::default();
    let keep = Keep {
        time: match args.nats_keep {
            Some(hours) if (0.02..=1e6).contains(&hours) => Duration::from_secs_f64(hours * 3600.0),
            Some(hours) => {
                return Err(Error::Usage(format!(
                    "--nats-keep {hours} is not within 0.02 and 1000000 hours"
                )));
            }
            None => defaults.time,
        },
        replicas: match args.nats_replicas {
            Some(n @ 1..=REPLICAS) => n as usize,
            Some(n) => {
                return Err(Error::Usage(format!(
                    "--nats-replicas {n} is not within 1 to {REPLICAS}"
                )));
            }
            None => defaults.replicas,
        },
    };
    let limit = args.spool_limit.unwrap_or(SPOOL);
    if !(1.0..=1e9).contains(&limit) {
        return Err(Error::Usage(format!("--spool-limit {limit} is not within 1 MB and 1e9 MB")));
    }
    if args.spool_limit.is_some() && args.spool.is_none() {
        return Err(Error::Usage("--spool-limit is about a folder: add --spool DIR".into()));
    }
    let spool = args.spool.clone().map(|folder| (folder, (limit * 1e6) as u64));
    Ok(Some(Settings { servers, keep, spool }))
}

/// The servers of NATS, if there are any.
pub(super) fn servers(args: &RunArgs) -> Result<Option<Servers>> {
    let Some(urls) = &args.nats else { return Ok(None) };
    let (credentials, ca) = (args.nats_credentials.clone(), args.nats_ca.clone());
    Servers::parse(urls, args.nats_token.clone(), credentials, ca).map(Some)
}

/// The keys of NATS, and which are set. They hold for all streams of a process.
pub(super) fn keys(args: &RunArgs) -> [(&'static str, bool); 8] {
    [
        ("nats", args.nats.is_some()),
        ("nats-credentials", args.nats_credentials.is_some()),
        ("nats-token", args.nats_token.is_some()),
        ("nats-ca", args.nats_ca.is_some()),
        ("nats-keep", args.nats_keep.is_some()),
        ("nats-replicas", args.nats_replicas.is_some()),
        ("spool", args.spool.is_some()),
        ("spool-limit", args.spool_limit.is_some()),
    ]
}
