//! Several streams of one process: the tables `[[stream]]` of a configuration file.

use std::path::{Path, PathBuf};

use super::args::StreamKey;
use super::config::{self, Config, RuntimeSettings};
use super::{RunArgs, avatars, listen, sinks};
use crate::run;
use crate::sink::feed::Feed;
use crate::sink::files::SharedFile;
use crate::sink::json::Target;
use crate::watch::Listen;
use crate::{Error, Result};

/// What a command line asks for.
pub enum Job {
    /// One stream.
    One(Box<Config>),
    /// Several streams on shared networks.
    Many(Box<Streams>),
}

impl Job {
    /// Checks flags and the configuration file that they name.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong and what would be right.
    pub fn new(args: RunArgs) -> Result<Self> {
        if let Some(path) = &args.config
            && let Some(StreamKey::Tables(_)) = config::read(path)?.stream
        {
            return Streams::new(args).map(|streams| Self::Many(Box::new(streams)));
        }
        Config::new(args).map(|config| Self::One(Box::new(config)))
    }
}

/// Streams with their settings, and what they share.
pub struct Streams {
    /// Settings of the networks.
    pub runtime: RuntimeSettings,
    /// The arguments of each stream, and its options.
    pub streams: Vec<(RunArgs, run::Options)>,
    /// Where to listen, if anywhere. It stays as it was at the start.
    pub listen: Option<Listen>,
    flags: RunArgs,
    /// The file of all records, unless they go to standard output.
    records: Option<SharedFile>,
}

impl Streams {
    fn new(flags: RunArgs) -> Result<Self> {
        Self::read(flags, None, None)
    }

    /// Reads the configuration file again.
    ///
    /// # Errors
    /// [`Error::Usage`] for what is wrong in it.
    pub fn again(&self) -> Result<Self> {
        Self::read(self.flags.clone(), self.records.clone(), Some(self.listen.clone()))
    }

    fn read(
        flags: RunArgs,
        records: Option<SharedFile>,
        listen: Option<Option<Listen>>,
    ) -> Result<Self> {
        let path = flags.config.clone().unwrap_or_default();
        let file = Listed { path: &path };
        let mut common = config::read(&path)?;
        let tables = common.take_tables().unwrap_or_default();
        let common = file.common(&flags, common)?;
        let records = match &common.json {
            Some(path) if path != Path::new("-") => Some(
                records
                    .filter(|file| file.path() == path)
                    .unwrap_or_else(|| SharedFile::new(path.clone())),
            ),
            _ => None,
        };
        let listen = listener(&common, listen)?;
        let feed = listen.as_ref().map(|listen| &listen.feed);
        let mut streams: Vec<(RunArgs, run::Options)> = Vec::new();
        let mut runtime = None;
        let mut outputs: Vec<(&str, PathBuf)> =
            records.iter().map(|file| ("--json", file.path().to_path_buf())).collect();
        for table in tables {
            let (args, config, own) = file.stream(table, &common, records.as_ref(), feed)?;
            outputs.extend(own);
            file.share(&mut runtime, config.runtime)?;
            let options = config.run;
            if streams.iter().any(|(_, other)| other.stream == options.stream) {
                return Err(file.wrong(&format!(
                    "two streams are called {}; give each a name = \"…\" of its own",
                    options.stream
                )));
            }
            streams.push((args, options));
        }
        let inputs: Vec<_> = streams.iter().map(|(_, options)| &options.source.input).collect();
        config::keep_apart(&inputs, &outputs, Some(&path))?;
        let runtime = runtime.ok_or_else(|| file.wrong("there is no [[stream]] in it"))?;
        Ok(Self { runtime, streams, listen, flags, records })
    }
}

/// Files that a stream writes, each with its flag.
type Outputs = Vec<(&'static str, PathBuf)>;

/// The file with the list of streams.
struct Listed<'a> {
    path: &'a Path,
}

impl Listed<'_> {
    fn wrong(&self, why: &str) -> Error {
        Error::Usage(format!("{}: {why}", self.path.display()))
    }

    /// What stands above the first `[[stream]]`, below the flags.
    fn common(&self, flags: &RunArgs, common: RunArgs) -> Result<RunArgs> {
        if flags.names_a_source() || flags.stream.is_some() {
            return Err(self.wrong(
                "its [[stream]] tables name the sources; leave out --camera, --rtsp, --url, --file, --images, --pipeline and --stream",
            ));
        }
        if common.names_a_source() {
            return Err(self
                .wrong("a source stands above the first [[stream]]; give it a table of its own"));
        }
        let common = flags.clone().over(common);
        for (name, path) in own_outputs(&common) {
            if path.is_some() {
                return Err(self.wrong(&format!(
                    "{name} would be one file for all streams; write it into the [[stream]] tables"
                )));
            }
        }
        if let Some((flag, ..)) = avatars::senders(&common).iter().find(|(.., to)| to.is_some()) {
            return Err(self.wrong(&format!(
                "{} would move one avatar by the faces of all streams; write it into the [[stream]] tables",
                flag.trim_start_matches('-')
            )));
        }
        Ok(common)
    }

    /// The settings of one stream, and its own outputs.
    fn stream(
        &self,
        table: RunArgs,
        common: &RunArgs,
        records: Option<&SharedFile>,
        feed: Option<&Feed>,
    ) -> Result<(RunArgs, Config, Outputs)> {
        if let Some(key) = shared_key(&table) {
            return Err(self.wrong(&format!(
                "{key} holds for all streams; write it above the first [[stream]]"
            )));
        }
        let target = match (&table.json, records) {
            (Some(path), _) if path != Path::new("-") => Target::File(path.clone()),
            (None, Some(file)) => Target::Shared(file.clone()),
            _ => Target::Stdout,
        };
        let args = table.over(common.clone());
        let input = config::input(&args)?;
        let wanted = sinks::plans_with(&args, &input, target, feed)?;
        let outputs = config::outputs(&wanted);
        let plans = wanted.into_iter().map(|(_, plan)| plan).collect();
        let mut config = Config::with_sinks(args.clone(), input, plans)?;
        config.run.progress = false;
        Ok((args, config, outputs))
    }

    /// The networks are shared, so settings of a stream that concern them must agree with the others'.
    fn share(&self, runtime: &mut Option<RuntimeSettings>, own: RuntimeSettings) -> Result<()> {
        let Some(shared) = runtime else {
            *runtime = Some(own);
            return Ok(());
        };
        match (shared.volume, own.volume) {
            (Some(one), Some(other)) if one != other => Err(self.wrong(&format!(
                "streams want volumes of {one} and of {other} voxels; one process has one size"
            ))),
            (one, other) => {
                shared.volume = one.or(other);
                Ok(())
            }
        }
    }
}

/// Where to listen, as at the start of the process (`before`) if there was one.
fn listener(common: &RunArgs, before: Option<Option<Listen>>) -> Result<Option<Listen>> {
    let asked = listen::of(common)?;
    let Some(before) = before else { return Ok(asked) };
    let place = |listen: &Option<Listen>| listen.as_ref().map(|l| (l.host.clone(), l.port));
    if place(&asked) != place(&before) {
        tracing::warn!("listen changes only with a new start");
    }
    Ok(before)
}

/// Outputs that belong to one stream.
fn own_outputs(args: &RunArgs) -> [(&'static str, &Option<PathBuf>); 6] {
    [
        ("csv", &args.csv),
        ("parquet", &args.parquet),
        ("overlay", &args.overlay),
        ("report", &args.report),
        ("mesh", &args.mesh),
        ("volume-out", &args.volume_out),
    ]
}

/// The first key in a `[[stream]]` table that belongs to all streams.
fn shared_key(table: &RunArgs) -> Option<&'static str> {
    let keys = [
        ("detector", table.detector.is_some()),
        ("detector-model", table.detector_model.is_some()),
        ("device", table.device.is_some()),
        ("precision", table.precision.is_some()),
        ("threads", table.threads.is_some()),
        ("variant", table.variant.is_some()),
        ("engines", table.engines.is_some()),
        ("engine-cache", table.engine_cache.is_some()),
        ("no-cuda-graph", table.no_cuda_graph),
        ("listen", table.listen.is_some()),
        ("listen-token", table.listen_token.is_some()),
    ];
    #[cfg(feature = "fleet")]
    let keys = keys.into_iter().chain(super::nats::keys(table));
    keys.into_iter().find(|(_, is_set)| *is_set).map(|(key, _)| key)
}
