//! Turns flags into the plans of sinks.

use std::path::{Path, PathBuf};

use mmface::mesh::Format;

#[cfg(feature = "mqtt")]
use super::mqtt;
#[cfg(feature = "fleet")]
use super::nats;
use super::{RunArgs, avatars};
use crate::sink::feed::{Feed, FeedRecords};
use crate::sink::json::{Json, Target as JsonTarget};
use crate::sink::meshes::{AnimationFile, MeshFiles, Origin};
use crate::sink::overlay::{OverlayVideo, Target as OverlayTarget};
use crate::sink::report::ReportPage;
use crate::sink::table::{TableFile, TableFormat};
use crate::sink::volumes::VolumeFiles;
use crate::sink::{Content, Plan, WhenSlow};
use crate::source::Input;
use crate::{Error, Result};

/// The plan of a sink, and the flag that requested it.
pub(super) type Wanted = (&'static str, Box<dyn Plan>);

/// The requested sinks, records first.
pub(super) fn plans(args: &RunArgs, input: &Input, feed: Option<&Feed>) -> Result<Vec<Wanted>> {
    let target = match &args.json {
        Some(path) if path != Path::new("-") => JsonTarget::File(path.clone()),
        _ => JsonTarget::Stdout,
    };
    plans_with(args, input, target, feed)
}

/// The requested sinks, with records to `target`.
pub(super) fn plans_with(
    args: &RunArgs,
    input: &Input,
    target: JsonTarget,
    feed: Option<&Feed>,
) -> Result<Vec<Wanted>> {
    no_urls(args)?;
    let mut plans: Vec<Wanted> = vec![("--json", Box::new(json(args, target)))];
    let records = |feed: &Feed| FeedRecords { feed: feed.clone(), content: content(args) };
    plans.extend(feed.map(|feed| ("--listen", Box::new(records(feed)) as _)));
    #[cfg(feature = "fleet")]
    plans.extend(nats::plan(args, None)?.map(|plan| ("--nats", Box::new(plan) as _)));
    #[cfg(feature = "mqtt")]
    plans.extend(mqtt::plan(args)?.map(|plan| ("--mqtt", Box::new(plan) as _)));
    plans.extend(report(args)?.map(|plan| ("--report", Box::new(plan) as _)));
    for (flag, path, format) in tables(args) {
        let Some(path) = path.clone() else { continue };
        if path == Path::new("-") {
            return Err(Error::Usage(format!("{flag} - is no file: name one for the table")));
        }
        plans.push((flag, Box::new(TableFile { path, format, raw: args.raw })));
    }
    plans.extend(overlay(args)?.map(|plan| ("--overlay", Box::new(plan) as _)));
    plans.extend(volumes(args).map(|plan| ("--volume-out", Box::new(plan) as _)));
    plans.extend(meshes(args, input)?.map(|plan| ("--mesh", plan)));
    plans.extend(avatars::plans(args, input)?);
    Ok(plans)
}

/// Refuses URLs: a folder of that name, with a password in it, is nobody's wish.
fn no_urls(args: &RunArgs) -> Result<()> {
    let RunArgs { json, csv, parquet, report, overlay, volume_out, mesh, .. } = args;
    for (flag, path) in [
        ("--json", json),
        ("--csv", csv),
        ("--parquet", parquet),
        ("--report", report),
        ("--overlay", overlay),
        ("--volume-out", volume_out),
        ("--mesh", mesh),
    ] {
        if let Some(path) = path.as_deref().filter(|p| p.to_string_lossy().contains("://")) {
            let path = path.display();
            return Err(Error::Usage(format!(
                "{flag} {path} is a URL, and outputs go to files and folders"
            )));
        }
    }
    Ok(())
}

pub(super) fn content(args: &RunArgs) -> Content {
    let RunArgs { landmarks, vertices, raw, .. } = *args;
    let relative = args.neutral.as_deref().is_some_and(|source| source != Path::new("off"));
    Content { landmarks, vertices, raw, volumes: args.volume_out.is_some(), relative }
}

fn json(args: &RunArgs, target: JsonTarget) -> Json {
    let when_slow = args.on_slow_reader.map_or(WhenSlow::DropOldest, Into::into);
    Json { target, content: content(args), when_slow }
}

fn tables(args: &RunArgs) -> [(&'static str, &Option<PathBuf>, TableFormat); 2] {
    [("--csv", &args.csv, TableFormat::Csv), ("--parquet", &args.parquet, TableFormat::Parquet)]
}

fn report(args: &RunArgs) -> Result<Option<ReportPage>> {
    if args.report.as_deref() == Some(Path::new("-")) {
        return Err(Error::Usage("--report - is no file: name one for the page".into()));
    }
    Ok(args.report.clone().map(|path| ReportPage { path }))
}

fn overlay(args: &RunArgs) -> Result<Option<OverlayVideo>> {
    let target = match args.overlay.clone() {
        Some(path) if path == Path::new("window") => OverlayTarget::Window,
        Some(path) if path != Path::new("none") => OverlayTarget::File(path),
        none_or_absent => {
            if args.overlay_style.is_some() && none_or_absent.is_none() {
                return Err(Error::Usage(
                    "--overlay-style says how the overlay looks: add --overlay window or FILE"
                        .into(),
                ));
            }
            return Ok(None);
        }
    };
    let style = args.overlay_style.map_or_else(Default::default, Into::into);
    Ok(Some(OverlayVideo { target, style }))
}

fn volumes(args: &RunArgs) -> Option<VolumeFiles> {
    args.volume_out.clone().map(|folder| VolumeFiles { folder })
}

/// The sink for meshes: a file is an animation, any other path is a folder.
fn meshes(args: &RunArgs, input: &Input) -> Result<Option<Box<dyn Plan>>> {
    let wrong = |why: &str| Err(Error::Usage(why.into()));
    let Some(path) = args.mesh.clone() else {
        return if args.mesh_format.is_some() || args.mesh_from.is_some() {
            wrong("--mesh-format and --mesh-from say how meshes are written: add --mesh DIR")
        } else {
            Ok(None)
        };
    };
    let format: Option<Format> = args.mesh_format.map(Into::into);
    let from: Origin = args.mesh_from.map_or_else(Default::default, Into::into);
    if is_folder(&path) {
        let format = format.unwrap_or_default();
        return Ok(Some(Box::new(MeshFiles { folder: path, format, from })));
    }
    let extension = extension(&path);
    if extension != "glb" || format.is_some_and(|format| format != Format::Glb) {
        return wrong("one file holds all frames only as .glb; name a folder for --mesh instead");
    }
    if from == Origin::Volume {
        return wrong("an animation moves the face model; name a folder for --mesh-from volume");
    }
    if matches!(input, Input::Images(_)) {
        return wrong("an animation is for one video; name a folder for the meshes of pictures");
    }
    Ok(Some(Box::new(AnimationFile { path })))
}

fn is_folder(path: &Path) -> bool {
    path.is_dir() || !["glb", "gltf", "obj", "ply"].contains(&extension(path).as_str())
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase()
}
