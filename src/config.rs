//! Flags and a configuration file become one checked [`Config`].

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{Refine, RunArgs};
use crate::smooth::Strength;
use crate::source::{self, Input};
use crate::{Error, Result, detect, nets, sink};

/// Everything a run needs to know, checked as far as it can be without opening a device.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the stream in the records.
    pub stream: String,
    /// What to open, and how.
    pub source: source::Options,
    /// Pictures stand for themselves: no following, no probation, no smoothing.
    pub pictures: bool,
    /// Which detector.
    pub detector: detect::Kind,
    /// Its file, where it is not in its usual place.
    pub detector_model: Option<PathBuf>,
    /// Longest side of the pictures that the detector sees; `None` goes by the frame's size.
    pub detect_size: Option<u32>,
    /// Seconds between detections while there is room for one more face.
    pub detect_every: f64,
    /// At most this many faces.
    pub faces: usize,
    /// The folder of the engines, where it is not in its usual place.
    pub engines: Option<PathBuf>,
    /// Which networks.
    pub variant: String,
    /// What runs them.
    pub nets: nets::Options,
    /// How much is smoothed over time.
    pub smooth: Strength,
    /// The pose is aligned to the surface of the volume.
    pub icp: bool,
    /// Records carry landmarks.
    pub landmarks: bool,
    /// Records carry the mesh.
    pub vertices: bool,
    /// Records carry the unsmoothed parameters too.
    pub raw: bool,
    /// Where records go.
    pub json: sink::json::Target,
    /// Where drawn frames go, if anywhere.
    pub overlay: Option<sink::overlay::Target>,
    /// What it shows of a face.
    pub overlay_style: sink::overlay::Style,
    /// What volumes are made from, if something asks for them.
    pub volumes: Option<sink::volumes::Origin>,
    /// Voxels along each side of them.
    pub volume: u32,
    /// Folder for the volumes, if anywhere.
    pub volume_out: Option<PathBuf>,
    /// Where meshes go, if anywhere.
    pub mesh: Option<sink::meshes::Target>,
    /// What they are made from.
    pub mesh_from: sink::meshes::Origin,
    /// Where the page about the run goes, if anywhere.
    pub report: Option<PathBuf>,
}

impl Config {
    /// Checks flags, and the configuration file that they name.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong and what would be right.
    pub fn new(mut args: RunArgs) -> Result<Self> {
        if let Some(path) = args.config.take() {
            args = RunArgs { config: Some(path.clone()), ..args.over(read(&path)?) };
        }
        let input = input(&args)?;
        let sized = args.volume.is_some();
        let config = Self::with_input(args, input)?;
        if sized && config.volumes.is_none() {
            tracing::warn!(
                "nothing asks for volumes, so none are made: add --volume-out, --mesh-from volume, \
                 --refine icp or --overlay-style volume"
            );
        }
        Ok(config)
    }

    /// Checks flags, whatever source they name: `input` is the source.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong and what would be right.
    pub fn with_input(args: RunArgs, input: Input) -> Result<Self> {
        let one_of = |flag: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                Ok(value)
            } else {
                Err(Error::Usage(format!("--{flag} {value} is not within {low} to {high}")))
            }
        };
        let detect_every = args.detect_every.unwrap_or(1.0);
        if !(0.05..=3600.0).contains(&detect_every) {
            return Err(Error::Usage(format!(
                "--detect-every {detect_every} is not within 0.05 to 3600 seconds"
            )));
        }
        let pictures = match &input {
            Input::Images(_) | Input::Pictures { .. } => true,
            Input::File(path) => source::is_picture(path),
            _ => false,
        };
        let mut source = source::Options::new(input);
        source.realtime = args.realtime;
        if pictures {
            source.realtime = false;
            if args.realtime || args.smooth.is_some_and(|smooth| smooth != Strength::Off) {
                tracing::warn!(
                    "each picture stands for itself: --realtime and --smooth do nothing here"
                );
            }
        }
        source.rtsp_transport = args.rtsp_transport.unwrap_or_default();
        if let Some(latency) = args.rtsp_latency {
            source.rtsp_latency_ms = one_of("rtsp-latency", latency, 0, 60_000)?;
        }
        if let Some(silence) = args.silence {
            if !(0.5..=3600.0).contains(&silence) {
                return Err(Error::Usage(format!(
                    "--silence {silence} is not within 0.5 to 3600 seconds"
                )));
            }
            source.silence = Duration::from_secs_f64(silence);
        }
        source.reconnect = !args.no_reconnect;
        let mesh = mesh(&args, &source.input)?;
        let json = match args.json {
            None => sink::json::Target::Stdout,
            Some(path) if path == Path::new("-") => sink::json::Target::Stdout,
            Some(path) => sink::json::Target::File(path),
        };
        let overlay = match args.overlay {
            None => None,
            Some(path) if path == Path::new("none") => None,
            Some(path) if path == Path::new("window") => Some(sink::overlay::Target::Window),
            Some(path) => Some(sink::overlay::Target::File(path)),
        };
        let report = args.report.as_deref();
        if report == Some(Path::new("-")) {
            return Err(Error::Usage("--report - is no file: name one for the page".into()));
        }
        keep_apart(
            &source.input,
            &json,
            overlay.as_ref(),
            mesh.as_ref(),
            report,
            args.config.as_deref(),
        )?;
        let mesh_from = args.mesh_from.unwrap_or_default();
        let overlay_style = args.overlay_style.unwrap_or_default();
        let icp = args.refine == Some(Refine::Icp);
        // These are about what the volume head saw; a written volume is to be near the truth.
        let looked_into = icp
            || (mesh.is_some() && mesh_from == sink::meshes::Origin::Volume)
            || (overlay.is_some() && overlay_style == sink::overlay::Style::Volume);
        let volumes = looked_into || args.volume_out.is_some();
        let volume_from = args.volume_from.unwrap_or(if volumes && !looked_into {
            sink::volumes::Origin::Model
        } else {
            sink::volumes::Origin::Network
        });
        let of_network = volume_from == sink::volumes::Origin::Network;
        if args.volume_from.is_some() && !volumes {
            return Err(Error::Usage(
                "--volume-from says what volumes are made from: add --volume-out DIR".into(),
            ));
        }
        if icp && !of_network {
            return Err(Error::Usage(
                "--refine icp aligns the mesh to what the volume head saw: leave --volume-from model out"
                    .into(),
            ));
        }
        let volume = args.volume.unwrap_or(VOLUME);
        one_of("volume", volume, 16, 256)?;
        let head = (of_network && volumes).then_some(volume);
        let smooth = if pictures { Strength::Off } else { args.smooth.unwrap_or_default() };
        Ok(Self {
            stream: args.stream.unwrap_or_else(|| source.input.label()),
            source,
            pictures,
            detector: args.detector.unwrap_or_default(),
            detector_model: args.detector_model,
            // A picture has time for its small faces.
            detect_size: args
                .detect_size
                .map(|n| one_of("detect-size", n, 64, 4096))
                .transpose()?
                .or(pictures.then_some(960)),
            detect_every,
            faces: one_of("faces", args.faces.unwrap_or(4), 1, 64)? as usize,
            engines: args.engines,
            variant: args.variant.unwrap_or_else(|| "mmface-lite".into()),
            nets: nets::Options {
                device: args.device.unwrap_or_default(),
                precision: args.precision.unwrap_or_default().into(),
                threads: args.threads.map(|n| one_of("threads", n, 1, 1024)).transpose()?,
                engine_cache: args.engine_cache,
                no_cuda_graph: args.no_cuda_graph,
                one_slot: false,
                volume: head,
            },
            smooth,
            icp,
            landmarks: args.landmarks,
            vertices: args.vertices,
            raw: args.raw,
            json,
            overlay,
            overlay_style,
            volumes: volumes.then_some(volume_from),
            volume,
            volume_out: args.volume_out,
            mesh,
            mesh_from,
            report: args.report,
        })
    }
}

/// A file is an animation; everything else is a folder.
fn mesh(args: &RunArgs, input: &Input) -> Result<Option<sink::meshes::Target>> {
    use sink::meshes::{Origin, Target};
    let wrong = |why: &str| Err(Error::Usage(why.into()));
    let Some(path) = args.mesh.clone() else {
        return if args.mesh_format.is_some() || args.mesh_from.is_some() {
            wrong("--mesh-format and --mesh-from say how meshes are written: add --mesh DIR")
        } else {
            Ok(None)
        };
    };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if path.is_dir() || !["glb", "gltf", "obj", "ply"].contains(&extension.as_str()) {
        return Ok(Some(Target::Folder(path, args.mesh_format.unwrap_or_default())));
    }
    if extension != "glb" || args.mesh_format.is_some_and(|f| f != crate::mesh::Format::Glb) {
        return wrong("one file holds all frames only as .glb; name a folder for --mesh instead");
    }
    if args.mesh_from == Some(Origin::Volume) {
        return wrong("an animation moves the face model; name a folder for --mesh-from volume");
    }
    if matches!(input, Input::Images(_)) {
        return wrong("an animation is for one video; name a folder for the meshes of pictures");
    }
    Ok(Some(Target::Animation(path)))
}

/// Voxels along each side of a volume where nobody says: what a CPU computes live.
const VOLUME: u32 = 64;

fn read(path: &Path) -> Result<RunArgs> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::Usage(format!("cannot read --config {}: {e}", path.display())))?;
    toml::from_str(&text).map_err(|e| {
        let line =
            e.span().map_or(0, |s| 1 + text[..s.start.min(text.len())].matches('\n').count());
        let why = e.message().replace('\n', " ");
        Error::Usage(format!("{}, line {line}: {why}", path.display()))
    })
}

fn input(args: &RunArgs) -> Result<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    inputs.extend(args.camera.clone().map(Input::Camera));
    inputs.extend(args.rtsp.clone().map(Input::Rtsp));
    inputs.extend(args.file.clone().map(Input::File));
    inputs.extend(args.images.clone().map(Input::Images));
    inputs.extend(args.pipeline.clone().map(Input::Pipeline));
    match (inputs.pop(), inputs.is_empty()) {
        (Some(input), true) => Ok(input),
        (None, _) => Err(Error::Usage(
            "name a source: --camera 0, --rtsp URL, --file PATH, --images DIR or --pipeline TEXT \
             (see --help)"
                .into(),
        )),
        (Some(_), false) => Err(Error::Usage("name one source, not several".into())),
    }
}

/// Nothing may be written over what is read, nor two things into one file.
fn keep_apart(
    input: &Input,
    json: &sink::json::Target,
    overlay: Option<&sink::overlay::Target>,
    mesh: Option<&sink::meshes::Target>,
    report: Option<&Path>,
    config: Option<&Path>,
) -> Result<()> {
    let mut outputs: Vec<(&str, &Path)> = Vec::new();
    if let sink::json::Target::File(path) = json {
        outputs.push(("--json", path));
    }
    if let Some(sink::overlay::Target::File(path)) = overlay {
        outputs.push(("--overlay", path));
    }
    if let Some(sink::meshes::Target::Animation(path)) = mesh {
        outputs.push(("--mesh", path));
    }
    outputs.extend(report.map(|path| ("--report", path)));
    let is_read = |output: &Path| match input {
        Input::File(source) => same(output, source),
        Input::Images(folder) => {
            let real = output.canonicalize().unwrap_or_default();
            source::is_picture(&real) && real.parent().is_some_and(|parent| same(parent, folder))
        }
        _ => false,
    };
    for (flag, path) in &outputs {
        let what = match config {
            Some(config) if same(path, config) => "configuration",
            _ if is_read(path) => "source",
            _ => continue,
        };
        let path = path.display();
        return Err(Error::Usage(format!("{flag} would write over the {what} {path}")));
    }
    for (i, (one, a)) in outputs.iter().enumerate() {
        if let Some((other, _)) = outputs[i + 1..].iter().find(|(_, b)| same(a, b)) {
            return Err(Error::Usage(format!("{one} and {other} name the same file")));
        }
    }
    Ok(())
}

/// Whether two paths lead to one file or folder. Devices such as /dev/null may be named twice.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.is_file() || a.is_dir()) && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => std::path::absolute(a).ok() == std::path::absolute(b).ok(),
    }
}

#[cfg(test)]
mod tests;
