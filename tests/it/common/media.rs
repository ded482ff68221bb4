//! Test media, made by GStreamer on the spot.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;

/// Runs a `gst-launch` description to its end.
pub fn run(description: &str) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let over = [gst::MessageType::Eos, gst::MessageType::Error];
    let message =
        pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &over);
    pipeline.set_state(gst::State::Null).unwrap();
    match message.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Eos(_)) => {}
        other => panic!("{description}: {other:?}"),
    }
}

/// Writes a video of `frames` frames at 30 a second and 320×240 in the format that its name
/// tells; `options` are those of the test source.
pub fn video(path: &Path, frames: u32, options: &str) -> PathBuf {
    let muxer = match path.extension().and_then(|e| e.to_str()) {
        Some("mkv") => "matroskamux",
        Some("ts") => "mpegtsmux",
        _ => "qtmux",
    };
    run(&format!(
        "videotestsrc num-buffers={frames} {options} \
         ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 \
         ! x264enc bframes=0 speed-preset=ultrafast key-int-max=15 ! h264parse ! {muxer} \
         ! filesink location={}",
        path.display()
    ));
    path.to_owned()
}

/// Writes a picture in the format that its name tells.
pub fn picture(path: &Path, width: u32, height: u32) -> PathBuf {
    let encoder = match path.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref()
    {
        Some("png") => "pngenc",
        Some("webp") => "webpenc",
        Some("bmp") => "avenc_bmp",
        Some("tif") => "avenc_tiff",
        _ => "jpegenc",
    };
    run(&format!(
        "videotestsrc num-buffers=1 ! video/x-raw,width={width},height={height} ! videoconvert \
         ! {encoder} ! filesink location={}",
        path.display()
    ));
    path.to_owned()
}
