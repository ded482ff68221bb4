//! Local cameras, through Video4Linux.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::elements::{DECODEBIN, SINK_CHAIN, element, pipeline};
use super::failure::{Failure, Kind};
use crate::{Error, Result};

/// Formats to request from a camera, best first. Motion JPEG comes before raw, because over USB 2
/// raw video of this size has only a few frames per second.
const WANTED: &str = "image/jpeg,width=1280,height=720,framerate=30/1; \
    video/x-raw,width=1280,height=720,framerate=30/1; \
    image/jpeg,width=[1,1280],height=[1,720]; video/x-raw,width=[1,1280],height=[1,720]; \
    image/jpeg; video/x-raw; video/x-h264";

/// The device file of a camera given as a number or as a path.
pub(super) fn device(name: &str) -> PathBuf {
    match name.parse::<u32>() {
        Ok(number) => PathBuf::from(format!("/dev/video{number}")),
        Err(_) => PathBuf::from(name),
    }
}

/// Checks that the device file exists.
pub(super) fn check(device: &Path) -> Result<()> {
    if device.exists() {
        return Ok(());
    }
    let found = found();
    let cure = if found.is_empty() {
        "this machine has no camera; plug one in, or play a video with --file".to_owned()
    } else {
        format!("there are: {}; choose one with --camera", found.join(", "))
    };
    Err(Error::Source(format!("there is no camera {}; {cure}", device.display())))
}

/// The video devices of this machine, with the names given by their drivers.
fn found() -> Vec<String> {
    let Ok(devices) = std::fs::read_dir("/sys/class/video4linux") else { return Vec::new() };
    let mut found: Vec<String> = devices
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            Some(format!("/dev/{} ({})", entry.file_name().to_string_lossy(), name.trim()))
        })
        .collect();
    found.sort();
    found
}

/// A pipeline that reads a camera.
pub(super) fn reader(device: &Path) -> Result<gst::Pipeline> {
    let pipeline = pipeline(&format!("v4l2src name=in ! {WANTED} ! {DECODEBIN} ! {SINK_CHAIN}"))?;
    element(&pipeline, "in")?.set_property("device", device.to_string_lossy().as_ref());
    Ok(pipeline)
}

/// A message for a failure.
pub(super) fn explain(device: &Path, failure: &Failure) -> String {
    let name = device.display();
    let text = &failure.text;
    match failure.kind {
        Kind::Busy => format!("the camera {name} is in use by another program; close that one"),
        Kind::Refused | Kind::Unreachable => format!(
            "the camera {name} cannot be opened ({text}); close other programs that use it, and check \
             that you are in the group video"
        ),
        Kind::NoDecoder | Kind::NoStream => {
            format!("the camera {name} cannot be decoded: {}", failure.cure())
        }
        _ => format!("the camera {name} gives no pictures ({text}); try another one with --camera"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_paths_name_devices() {
        assert_eq!(device("2"), Path::new("/dev/video2"));
        assert_eq!(device("/dev/v4l/by-id/cam"), Path::new("/dev/v4l/by-id/cam"));
    }
}
