//! Turns flags and a configuration file into a checked [`Config`].

use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mmface::backend::Precision;
use mmface::detect::{MAX_SIZE, MIN_SIZE};
use mmface::limited::read_text_limited;
use mmface::smooth::Strength;
use mmface::{Device, Mode, Models, Runtime, TrackerOptions};

use super::RunArgs;
use super::args::StreamKey;
use super::sinks::{self, Wanted};
use super::values::WaitArg;
use super::{avatars, listen};
use crate::cores;
use crate::lens::Lens;
use crate::run;
use crate::sink::{Needs, Plan, VolumeSource, Volumes};
use crate::source::{self, Input, Wait};
use crate::watch::Listen;
use crate::{Error, Result};

/// Everything that a run needs, checked as far as possible without opening a device.
pub struct Config {
    /// Settings of the runtime.
    pub runtime: RuntimeSettings,
    /// Options of the run.
    pub run: run::Options,
    /// Where to listen, if anywhere.
    pub listen: Option<Listen>,
}

/// Settings of a [`Runtime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The folder of the models, if it is not in the usual place.
    pub models: Option<PathBuf>,
    /// Name of the networks' variant.
    pub variant: String,
    /// The device that runs the networks.
    pub device: Device,
    /// Precision of the networks; `None` is the fastest.
    pub precision: Option<Precision>,
    /// Most cores that the program computes on; `None` is all.
    pub threads: Option<u32>,
    /// The face detector.
    pub detector: mmface::detect::Kind,
    /// The detector's file, if it is not in the usual place.
    pub detector_model: Option<PathBuf>,
    /// Folder for built GPU engines.
    pub engine_cache: Option<PathBuf>,
    /// Whether the GPU replays CUDA graphs.
    pub cuda_graphs: bool,
    /// Resolution of the volume head, if its volumes are needed.
    pub volume: Option<u32>,
}

impl RuntimeSettings {
    /// Opens the runtime, and keeps what starts later to so many cores as are allowed.
    ///
    /// # Errors
    /// The library's errors.
    pub fn open(&self) -> Result<Runtime> {
        if let Some(threads) = self.threads {
            cores::limit(threads);
        }
        let models = self.models.as_deref().map_or_else(Models::find, Models::open)?;
        let builder = Runtime::builder(models)
            .variant(&self.variant)
            .device(self.device)
            .precision(self.precision)
            .threads(self.threads)
            .detector(self.detector, self.detector_model.clone())
            .engine_cache(self.engine_cache.clone())
            .cuda_graphs(self.cuda_graphs)
            .volume(self.volume);
        Ok(builder.build()?)
    }
}

/// Default number of voxels along each side of a volume: what a CPU can compute live.
const VOLUME: u32 = 64;
/// Longest side of the detector's canvas for pictures. Larger than for videos, because a picture
/// has time for small faces.
const DETECT_SIZE_OF_PICTURES: u32 = 960;

impl Config {
    /// Checks flags and the configuration file that they name.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong and what would be right.
    pub fn new(mut args: RunArgs) -> Result<Self> {
        if let Some(path) = args.config.take() {
            args = RunArgs { config: Some(path.clone()), ..args.over(read(&path)?) };
        }
        let input = input(&args)?;
        let listen = listen::of(&args)?;
        let wanted = sinks::plans(&args, &input, listen.as_ref().map(|listen| &listen.feed))?;
        keep_apart(&[&input], &outputs(&wanted), args.config.as_deref())?;
        let plans = wanted.into_iter().map(|(_, plan)| plan).collect();
        let sized = args.volume.is_some();
        let config = Self { listen, ..Self::with_sinks(args, input, plans)? };
        if sized && config.run.volumes.is_none() {
            tracing::warn!(
                "nothing asks for volumes, so none are made: add --volume-out, --mesh-from volume, \
                 --refine icp or --overlay-style volume"
            );
        }
        Ok(config)
    }

    /// Checks flags for a run with the given source and sinks, whatever source and sinks the flags
    /// name.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong and what would be right.
    pub fn with_sinks(args: RunArgs, input: Input, sinks: Vec<Box<dyn Plan>>) -> Result<Self> {
        let stills = match &input {
            Input::Images(_) | Input::Pictures { .. } => true,
            Input::File(path) => source::is_picture(path),
            _ => false,
        };
        let neutral = avatars::neutral(&args, &input)?;
        let source = source_options(&args, input, stills)?;
        let lens = lens(&args, stills)?;
        let refine = args.refine.is_some_and(Into::into);
        let volumes = volumes(&args, refine, sinks.iter().map(|sink| sink.needs()))?;
        let of_network = |v: &Volumes| v.source == VolumeSource::Network;
        let head = volumes.filter(of_network).map(|volumes| volumes.resolution);
        let on_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        let records_on_terminal = args.json.as_deref().is_none_or(|p| p == Path::new("-"));
        let detect_size =
            args.detect_size.map(|n| within("detect-size", n, MIN_SIZE, MAX_SIZE)).transpose()?;
        let defaults = TrackerOptions::default();
        let tracker = TrackerOptions {
            mode: if stills { Mode::Stills } else { Mode::Live },
            faces: args
                .faces
                .map_or(Ok(defaults.faces), |n| within("faces", n, 1, 64).map(|n| n as usize))?,
            detect_size: detect_size.or(stills.then_some(DETECT_SIZE_OF_PICTURES)),
            detect_every: args.detect_every.map_or(Ok(defaults.detect_every), |seconds| {
                seconds_within("detect-every", seconds, 0.05..=3600.0)
            })?,
            reidentify: args.reidentify.map_or(Ok(defaults.reidentify), |seconds| {
                seconds_within("reidentify", seconds, 0.0..=86_400.0)
            })?,
            smoothing: args.smooth.map_or(defaults.smoothing, Into::into),
            refine,
            volumes: head.is_some(),
        };
        Ok(Self {
            runtime: RuntimeSettings {
                models: args.engines,
                variant: args.variant.unwrap_or_else(|| "mmface-lite".into()),
                device: args.device.map_or_else(Default::default, Into::into),
                precision: args.precision.and_then(Into::into),
                threads: args.threads.map(|n| within("threads", n, 1, 1024)).transpose()?,
                detector: args.detector.map_or_else(Default::default, Into::into),
                detector_model: args.detector_model,
                engine_cache: args.engine_cache,
                cuda_graphs: !args.no_cuda_graph,
                volume: head,
            },
            run: run::Options {
                stream: match args.stream {
                    Some(StreamKey::Name(name)) => source::mask(&name),
                    Some(StreamKey::Tables(_)) => {
                        return Err(Error::Usage("[[stream]] stands within another table".into()));
                    }
                    None => source.input.label(),
                },
                counters: Arc::default(),
                source,
                tracker,
                volumes,
                neutral,
                sinks,
                lens,
                idle_keyframes: args.idle.is_some_and(Into::into),
                sink_failure: args.sink_failure.map_or_else(Default::default, Into::into),
                progress: !(records_on_terminal && on_terminal),
            },
            listen: None,
        })
    }
}

fn within(flag: &str, value: u32, low: u32, high: u32) -> Result<u32> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(Error::Usage(format!("--{flag} {value} is not within {low} to {high}")))
    }
}

/// The camera's lens, as far as the flags say.
fn lens(args: &RunArgs, stills: bool) -> Result<Option<Lens>> {
    match (args.fov, args.focal.map(|focal| focal.0)) {
        (Some(_), Some(_)) => Err(Error::Usage("--fov and --focal say the same: give one".into())),
        (Some(degrees), None) if (1.0..=170.0).contains(&degrees) => {
            Ok(Some(Lens::View(degrees as f32)))
        }
        (Some(degrees), None) => {
            Err(Error::Usage(format!("--fov {degrees} is not within 1 to 170 degrees")))
        }
        (None, Some(Lens::Focal(pixels))) if !(1.0..=1e6).contains(&pixels) => {
            Err(Error::Usage(format!("--focal {pixels} is not within 1 to 1000000 pixels")))
        }
        (None, Some(Lens::Exif)) if !stills => Err(Error::Usage(
            "--focal exif is for pictures: videos do not say it; give pixels, or --fov".into(),
        )),
        (None, focal) => Ok(focal),
    }
}

fn max_fps(fps: f64, stills: bool) -> Result<f64> {
    if stills {
        return Err(Error::Usage("--max-fps is for streams and videos, not for pictures".into()));
    }
    if !(0.01..=1000.0).contains(&fps) {
        return Err(Error::Usage(format!("--max-fps {fps} is not within 0.01 to 1000")));
    }
    Ok(fps)
}

pub(super) fn seconds_within(flag: &str, value: f64, range: RangeInclusive<f64>) -> Result<f64> {
    if range.contains(&value) {
        Ok(value)
    } else {
        let (low, high) = range.into_inner();
        Err(Error::Usage(format!("--{flag} {value} is not within {low} to {high} seconds")))
    }
}

fn source_options(args: &RunArgs, input: Input, stills: bool) -> Result<source::Options> {
    let mut source = source::Options::new(input);
    source.realtime = args.realtime && !stills;
    let smoothed = args.smooth.is_some_and(|smooth| Strength::from(smooth) != Strength::Off);
    if stills && (args.realtime || smoothed) {
        tracing::warn!("each picture stands for itself: --realtime and --smooth do nothing here");
    }
    source.rtsp_transport = args.rtsp_transport.map_or_else(Default::default, Into::into);
    if let Some(latency) = args.rtsp_latency {
        source.rtsp_latency_ms = within("rtsp-latency", latency, 0, 60_000)?;
    }
    source.wait = match args.wait {
        None => None,
        Some(WaitArg::Forever) => Some(Wait::Forever),
        Some(WaitArg::Seconds(seconds)) => {
            Some(Wait::For(Duration::from_secs_f64(seconds_within("wait", seconds, 0.0..=3600.0)?)))
        }
    };
    if let Some(silence) = args.silence {
        source.silence = Duration::from_secs_f64(seconds_within("silence", silence, 0.5..=3600.0)?);
    }
    source.reconnect = !args.no_reconnect;
    if let Some(pixels) = args.max_pixels {
        if pixels == 0 {
            return Err(Error::Usage("--max-pixels 0 allows no picture at all".into()));
        }
        source.max_pixels = pixels;
    }
    source.max_fps = args.max_fps.map(|fps| max_fps(fps, stills)).transpose()?;
    Ok(source)
}

/// The volumes of a run: as the flags say, else as the sinks need. ICP and sinks that show the
/// volume head's output need volumes of the network; files get the filled mesh, which is closer to
/// the true head.
fn volumes(
    args: &RunArgs,
    refine: bool,
    needs: impl Iterator<Item = Needs>,
) -> Result<Option<Volumes>> {
    let wanted: Vec<_> = needs.filter_map(|needs| needs.volumes).collect();
    let of_network = refine || wanted.contains(&VolumeSource::Network);
    let chosen: Option<VolumeSource> = args.volume_from.map(Into::into);
    if chosen.is_some() && !refine && wanted.is_empty() {
        return Err(Error::Usage(
            "--volume-from says what volumes are made from: add --volume-out DIR".into(),
        ));
    }
    if refine && chosen == Some(VolumeSource::Model) {
        return Err(Error::Usage(
            "--refine icp aligns the mesh to what the volume head saw: leave --volume-from model out"
                .into(),
        ));
    }
    let resolution = within("volume", args.volume.unwrap_or(VOLUME), 16, 256)?;
    let default = if of_network { VolumeSource::Network } else { VolumeSource::Model };
    let source = chosen.unwrap_or(default);
    Ok((refine || !wanted.is_empty()).then_some(Volumes { source, resolution }))
}

/// Most bytes of a configuration file.
const LARGEST: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<RunArgs> {
    parse(&read_text(path)?, path)
}

/// The text of a configuration file. Passwords in it are never shown.
pub(super) fn read_text(path: &Path) -> Result<String> {
    let text =
        read_text_limited(path, LARGEST).map_err(|e| Error::Usage(format!("--config: {e}")))?;
    text.lines().for_each(source::remember);
    Ok(text)
}

/// Parses the text of the configuration file at `path`.
pub(crate) fn parse(text: &str, path: &Path) -> Result<RunArgs> {
    toml::from_str(text).map_err(|e| {
        let line =
            e.span().map_or(0, |s| 1 + text[..s.start.min(text.len())].matches('\n').count());
        let why = e.message().replace('\n', " ");
        Error::Usage(format!("{}, line {line}: {why}", path.display()))
    })
}

pub(crate) fn input(args: &RunArgs) -> Result<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    inputs.extend(args.camera.clone().map(Input::Camera));
    inputs.extend(args.rtsp.clone().map(Input::Rtsp));
    inputs.extend(args.url.clone().map(|url| {
        let is_rtsp = url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("rtsp"));
        if is_rtsp { Input::Rtsp(url) } else { Input::Http(url) }
    }));
    inputs.extend(args.file.clone().map(Input::File));
    inputs.extend(args.images.clone().map(Input::Images));
    inputs.extend(args.pipeline.clone().map(Input::Pipeline));
    match (inputs.pop(), inputs.is_empty()) {
        (Some(input), true) => Ok(input),
        (None, _) => Err(Error::Usage(
            "name a source: --camera 0, --rtsp URL, --url URL, --file PATH, --images DIR or \
             --pipeline TEXT (see --help)"
                .into(),
        )),
        (Some(_), false) => Err(Error::Usage("name one source, not several".into())),
    }
}

/// The files that sinks will write, each with the flag that named it.
pub(super) fn outputs(wanted: &[Wanted]) -> Vec<(&'static str, PathBuf)> {
    wanted.iter().filter_map(|(flag, plan)| Some((*flag, plan.file()?.to_path_buf()))).collect()
}

/// Checks that no output overwrites an input, and that no two outputs write to the same file.
pub(super) fn keep_apart(
    inputs: &[&Input],
    outputs: &[(&str, PathBuf)],
    config: Option<&Path>,
) -> Result<()> {
    let is_read = |output: &Path| {
        inputs.iter().any(|input| match input {
            Input::File(source) => same(output, source),
            Input::Images(folder) => {
                let real = output.canonicalize().unwrap_or_default();
                source::is_picture(&real)
                    && real.parent().is_some_and(|parent| same(parent, folder))
            }
            _ => false,
        })
    };
    for (flag, path) in outputs {
        let what = match config {
            Some(config) if same(path, config) => "configuration",
            _ if is_read(path) => "source",
            _ => continue,
        };
        let path = path.display();
        return Err(Error::Usage(format!("{flag} would write over the {what} {path}")));
    }
    for (i, (one, a)) in outputs.iter().enumerate() {
        if let Some((other, b)) = outputs[i + 1..].iter().find(|(_, b)| same(a, b)) {
            let flags =
                if one == other { format!("two {one}") } else { format!("{one} and {other}") };
            return Err(Error::Usage(format!("{flags} name the same file {}", b.display())));
        }
    }
    Ok(())
}

/// Whether two paths lead to the same file or folder. Devices such as /dev/null may be used twice.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.is_file() || a.is_dir()) && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => std::path::absolute(a).ok() == std::path::absolute(b).ok(),
    }
}

#[cfg(test)]
mod tests;
