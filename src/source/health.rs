//! Checks that GStreamer and the required elements are installed.

use gstreamer as gst;

use crate::{Error, Result};

/// Required elements, each with its Debian package.
const ELEMENTS: [(&str, &str); 7] = [
    ("decodebin", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("v4l2src", "gstreamer1.0-plugins-good"),
    ("rtspsrc", "gstreamer1.0-plugins-good"),
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("avdec_h264", "gstreamer1.0-libav"),
];

/// Checks GStreamer and returns its version.
///
/// # Errors
/// [`Error::Source`] if it does not start, or with the packages to install if elements are missing.
pub fn health() -> Result<String> {
    gst::init().map_err(|e| Error::Source(format!("GStreamer does not start: {e}")))?;
    let missing: Vec<_> =
        ELEMENTS.iter().filter(|(name, _)| gst::ElementFactory::find(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(gst::version_string().replace("GStreamer ", ""));
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Err(Error::Source(format!("no {}; install {}", names.join(", "), packages.join(" "))))
}
