//! `mmface-live worker`, `fleet` and `tail`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Subcommand;

use super::config::{self, Config};
use super::{RunArgs, say, sinks};
use crate::board::Board;
use crate::fleet::worker::{self, Work};
use crate::fleet::{Capacity, Made, Store, status, wanted};
use crate::nats::{self, Servers};
use crate::sink::json::Target;
use crate::sink::nats::Fence;
use crate::watch::Watch;
use crate::{Error, Result};

/// The lease, unless the user says otherwise.
const LEASE: f64 = 10.0;

/// Arguments of `worker`.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// Name of the worker; no two of a fleet may have the same [default: that of the machine, and
    /// the process's number]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many streams it takes at most; auto follows the measured load
    #[arg(long, value_name = "auto|N", default_value = "auto")]
    capacity: String,
    /// Seconds after which a worker that is not heard of is gone, if the fleet has to be made
    /// [default: 10]
    #[arg(long, value_name = "SECONDS")]
    lease: Option<f64>,
    /// What holds for all of its streams.
    #[command(flatten)]
    run: RunArgs,
}

/// Subcommands of `fleet`.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Make the streams of a file those that the fleet runs, and no others
    Apply {
        /// File with a table for each stream, as pipelines/streams.toml
        #[arg(value_name = "cameras.toml")]
        file: PathBuf,
        /// Seconds after which a worker that is not heard of is gone, if the fleet has to be made
        /// [default: 10]
        #[arg(long, value_name = "SECONDS")]
        lease: Option<f64>,
        /// Where the fleet is kept.
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Say who runs which stream, and how it is doing
    Status {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
        /// Where the fleet is kept.
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Have a worker give its streams to the others, as far as they have room
    Drain {
        /// The worker
        #[arg(value_name = "WORKER")]
        worker: String,
        /// Let it take streams again
        #[arg(long)]
        undo: bool,
        /// Where the fleet is kept.
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Where NATS is.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// Servers of NATS with JetStream
    #[arg(long, value_name = "URL[,URL…]", env = "MMFACE_NATS", hide_env_values = true)]
    #[arg(default_value = "nats://127.0.0.1:4222")]
    pub(super) nats: String,
    /// File with the credentials for NATS, as nsc makes it
    #[arg(long, value_name = "FILE", env = "MMFACE_NATS_CREDENTIALS")]
    nats_credentials: Option<PathBuf>,
    /// Token for NATS
    #[arg(long, value_name = "TOKEN", env = "MMFACE_NATS_TOKEN", hide_env_values = true)]
    nats_token: Option<String>,
    /// Certificate of the authority that NATS servers are trusted for, as PEM
    #[arg(long, value_name = "FILE")]
    nats_ca: Option<PathBuf>,
    /// On how many servers of a cluster everything is kept, if it has to be made
    #[arg(long, value_name = "N", default_value_t = 1)]
    nats_replicas: usize,
}

impl ServerArgs {
    pub(super) fn servers(&self) -> Result<Servers> {
        let (credentials, ca) = (self.nats_credentials.clone(), self.nats_ca.clone());
        Servers::parse(&self.nats, self.nats_token.clone(), credentials, ca)
    }

    /// Does something with the store of the fleet.
    fn with_store<T>(
        &self,
        lease: Option<f64>,
        work: impl AsyncFnOnce(Store) -> Result<T>,
    ) -> Result<T> {
        let made =
            Made { lease: lease_of(lease)?, asked: lease.is_some(), replicas: self.nats_replicas };
        let servers = self.servers()?;
        nats::runtime()?.block_on(async {
            let (client, _link) = servers.connect("mmface-live fleet").await?;
            work(Store::open(&client, made).await?).await
        })
    }
}

fn lease_of(seconds: Option<f64>) -> Result<Duration> {
    let seconds = config::seconds_within("lease", seconds.unwrap_or(LEASE), 1.0..=600.0)?;
    Ok(Duration::from_secs_f64(seconds))
}

/// Does what a subcommand of `fleet` says.
///
/// # Errors
/// [`Error::Usage`] for what is wrong in the file, [`Error::Sink`] if the server cannot be reached
/// or refuses.
pub fn fleet(command: &FleetCommand) -> Result<()> {
    match command {
        FleetCommand::Apply { file, lease, server } => {
            let text = config::read_text(file)?;
            let streams = wanted::read(&text, file, |settings| {
                config::input(&config::parse(settings, file)?).map(|_| ())
            })?;
            let applied =
                server.with_store(*lease, async |store| status::apply(&store, &streams).await)?;
            let status::Applied { new, changed, removed, kept } = applied;
            say(format!("{new} new, {changed} changed, {removed} removed, {kept} as they were"))
        }
        FleetCommand::Status { json, server } => {
            let status = server.with_store(None, async |store| status::status(&store).await)?;
            if *json {
                let text = serde_json::to_string(&status);
                return say(text.map_err(|e| Error::Bug(e.to_string()))?);
            }
            say(status.table().trim_end())
        }
        FleetCommand::Drain { worker, undo, server } => {
            server.with_store(None, async |store| status::drain(&store, worker, *undo).await)?;
            say(if *undo {
                format!("{worker} may take streams again")
            } else {
                format!("{worker} gives its streams away; fleet status shows how far it is")
            })
        }
    }
}

/// Runs a worker until `stop` is set.
///
/// # Errors
/// [`Error::Usage`] for wrong flags, and those of opening the networks.
pub fn work(args: &WorkerArgs, stop: &Arc<AtomicBool>) -> Result<()> {
    let run = &args.run;
    if run.names_a_source() || run.stream.is_some() {
        return Err(Error::Usage(
            "a worker gets its streams from the fleet: name them with mmface-live fleet apply"
                .into(),
        ));
    }
    let common = match &run.config {
        Some(path) => run.clone().over(config::read(path)?),
        None => run.clone(),
    };
    let common = RunArgs {
        nats: common.nats.or_else(|| Some("nats://127.0.0.1:4222".into())),
        config: None,
        ..common
    };
    let missing = || Error::Bug("a worker has no server".into());
    let records = super::nats::settings(&common)?.ok_or_else(missing)?;
    let made = Made {
        lease: lease_of(args.lease)?,
        asked: args.lease.is_some(),
        replicas: records.keep.replicas,
    };
    let capacity = match args.capacity.as_str() {
        "auto" => Capacity::Auto,
        number => match number.parse() {
            Ok(streams @ 1..=10_000) => Capacity::Streams(streams),
            _ => {
                return Err(Error::Usage(format!(
                    "--capacity {number} is no number from 1 to 10000, and not auto"
                )));
            }
        },
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = args.name.clone().unwrap_or_else(|| format!("{host}-{}", std::process::id()));
    let servers = records.servers.clone();
    let work = Work { name, servers, made, capacity, records };

    let listen = super::listen::of(&common)?;
    let feed = listen.as_ref().map(|listen| listen.feed.clone());
    let board = Arc::new(Board::default());
    let _watch = Watch::start(listen, &board, stop)?;
    let settings = runtime_settings(&common)?;
    let runtime = settings.open()?;
    let make = |text: &str, fence: Fence| {
        let own = config::parse(text, Path::new("the settings of the fleet"))?;
        let config = stream(own.over(common.clone()), feed.as_ref(), fence)?;
        match config.runtime.volume {
            Some(size) if Some(size) != settings.volume => Err(Error::Usage(format!(
                "the stream wants volumes of the network with {size} voxels, and this worker has \
                 none: start it with --refine icp, or with --volume {size}"
            ))),
            _ => Ok(config.run),
        }
    };
    worker::run(&work, &runtime, &board, &make, stop)
}

/// The settings of the networks that all streams of a worker share.
fn runtime_settings(common: &RunArgs) -> Result<config::RuntimeSettings> {
    let input = crate::source::Input::Pipeline(String::new());
    Config::with_sinks(common.clone(), input, Vec::new()).map(|config| config.runtime)
}

/// A stream's options: its records go to NATS, under the fence of the worker.
fn stream(args: RunArgs, feed: Option<&crate::sink::feed::Feed>, fence: Fence) -> Result<Config> {
    let input = config::input(&args)?;
    let local = RunArgs { nats: None, spool: None, spool_limit: None, ..args.clone() };
    let local = RunArgs { nats_keep: None, nats_replicas: None, nats_ca: None, ..local };
    let wanted = sinks::plans_with(&local, &input, Target::Stdout, feed)?;
    // Records go to standard output or a file only if somebody asks for that.
    let asked = args.json.is_some();
    let plans = wanted.into_iter().filter(|(flag, _)| asked || *flag != "--json");
    let mut plans: Vec<_> = plans.map(|(_, plan)| plan).collect();
    let nats = super::nats::plan(&args, Some(fence))?;
    plans.extend(nats.map(|plan| Box::new(plan) as _));
    let mut config = Config::with_sinks(args, input, plans)?;
    config.run.progress = false;
    // A camera that is away is waited for, where the stream is.
    let source = &mut config.run.source;
    source.wait = source.wait.or(Some(crate::source::Wait::Forever));
    Ok(config)
}
