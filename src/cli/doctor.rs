//! `mmface-live doctor`: checks what works on this machine and says how to fix what does not.

use std::path::PathBuf;

use mmface::Models;
use mmface::backend::tensorrt::{self, Cache};
use mmface::detect::{self, Kind};

use super::{explain, say};
use crate::{Result, sink, source};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with manifest.toml, if it is not in the usual place
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINES")]
    engines: Option<PathBuf>,
    /// Folder for the GPU engines that are built [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINE_CACHE")]
    engine_cache: Option<PathBuf>,
}

/// Prints the result of one check.
fn print_check(what: &str, found: &Result<String>) -> Result<()> {
    match found {
        Ok(text) => say(format_args!("  ok  {what:<14} {text}")),
        Err(why) => say(format_args!("  --  {what:<14} {}", explain(why))),
    }
}

/// Runs and prints all checks. The first group is needed by every run, the others by some.
///
/// # Errors
/// The first failure in the group that every run needs.
pub fn run(args: &Args) -> Result<()> {
    say("to run")?;
    let needed = [
        ("GStreamer", source::health()),
        #[cfg(feature = "opencv")]
        ("OpenCV", Ok(detect::opencv_version())),
        ("detector", detector(Kind::default())),
        ("OpenVINO", mmface::backend::cpu_name().map_err(Into::into)),
        ("engines", engines(args)),
    ];
    for (what, found) in &needed {
        print_check(what, found)?;
    }
    say("for video out")?;
    print_check("encoder", &sink::overlay::health())?;
    say("for --report")?;
    print_check("plotly.js", &sink::report::library().map(|path| path.display().to_string()))?;
    say("for --camera")?;
    print_check("cameras", &cameras())?;
    say("for --device cuda")?;
    print_check(
        "GPU",
        &tensorrt::gpu().map_err(Into::into).map(|gpu| {
            let (major, minor) = gpu.driver;
            let memory = gpu.memory as f64 / f64::from(1 << 30);
            format!(
                "{}, {}, {memory:.0} GiB; its driver supports CUDA {major}.{minor}",
                gpu.name, gpu.chip
            )
        }),
    )?;
    print_check("TensorRT", &tensorrt::tensorrt_version().map_err(Into::into))?;
    print_check("NVRTC", &tensorrt::nvrtc_version().map_err(Into::into))?;
    print_check("built engines", &built(args))?;
    needed.into_iter().find_map(|(_, found)| found.err()).map_or(Ok(()), Err)
}

fn detector(kind: Kind) -> Result<String> {
    detect::open(&detect::Options { kind, ..detect::Options::default() })?;
    Ok("CenterFace".into())
}

fn engines(args: &Args) -> Result<String> {
    let models = args.engines.as_deref().map_or_else(Models::find, Models::open)?;
    models.face_model()?;
    let mut all = Vec::new();
    for name in models.variants() {
        let variant = models.variant(name)?;
        for network in variant.networks() {
            models.network(&variant, network)?;
        }
        all.push(format!("{name}{}", if variant.trained { "" } else { " (untrained)" }));
    }
    Ok(format!("{}, every file is intact", all.join(", ")))
}

fn cameras() -> Result<String> {
    let mut found: Vec<_> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("video"))
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(crate::Error::Source("none in /dev: plug one in".into()));
    }
    let refused: Vec<_> = found
        .iter()
        .filter(|name| std::fs::File::open(format!("/dev/{name}")).is_err())
        .map(String::as_str)
        .collect();
    if refused.is_empty() {
        return Ok(found.join(", "));
    }
    let refused = refused.join(", ");
    Err(crate::Error::Source(format!("{refused} cannot be opened: join the group `video`")))
}

fn built(args: &Args) -> Result<String> {
    let cache = Cache::new(args.engine_cache.as_deref());
    let count = cache.names().iter().filter(|name| name.ends_with(".engine")).count();
    Ok(match cache.folder() {
        Some(folder) => format!("{count} in {}; see `mmface-live engines check`", folder.display()),
        None => "no folder for them: name one with --engine-cache".into(),
    })
}
