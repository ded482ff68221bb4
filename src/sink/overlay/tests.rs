//! The writer, with real encoders and decoders.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video::NavigationEvent;

use super::Target;
use super::canvas::Canvas;
use super::writer::{Writer, on_key_n};
use crate::Error;

/// A grey picture; the grey tells which.
fn picture(width: usize, height: usize, number: usize) -> Canvas {
    let mut canvas = Canvas::black(width, height);
    canvas.bytes.fill((20 + number * 4 % 220) as u8);
    canvas
}

fn open(path: &Path) -> Writer {
    Writer::open(&Target::File(path.to_owned())).expect("opens")
}

/// Width, height, time in milliseconds and grey of the middle of every frame.
fn decoded(path: &Path) -> Vec<(i32, i32, u64, u8)> {
    let chain = "filesrc name=in ! decodebin ! videoconvert ! video/x-raw,format=RGB ! \
                 appsink name=out sync=false";
    let pipeline = gst::parse::launch(chain).expect("builds");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("is a pipeline");
    pipeline.by_name("in").expect("input").set_property("location", path);
    let out = pipeline.by_name("out").expect("output");
    let out = out.downcast::<gst_app::AppSink>().expect("is an appsink");
    pipeline.set_state(gst::State::Playing).expect("plays");
    let frames =
        std::iter::from_fn(|| out.try_pull_sample(gst::ClockTime::from_seconds(20)).or(None));
    let frames = frames.map(|sample| {
        let caps = sample.caps().and_then(|c| c.structure(0)).expect("caps");
        let (width, height) =
            (caps.get("width").expect("width"), caps.get("height").expect("height"));
        let buffer = sample.buffer().expect("a buffer");
        let bytes = buffer.map_readable().expect("readable");
        let grey = bytes[(height / 2 * ((3 * width + 3) & !3) + width / 2 * 3) as usize];
        (width, height, buffer.pts().expect("a time").mseconds(), grey)
    });
    let frames = frames.collect();
    pipeline.set_state(gst::State::Null).expect("stops");
    frames
}

#[test]
fn every_frame_is_in_the_file_in_order_and_at_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a.mp4", "a.mkv", "a.webm"] {
        let path = folder.path().join(name);
        let mut writer = open(&path);
        for i in 0..50 {
            writer.write(picture(64, 48, i), 3.0 + i as f64 * 0.04, 1).expect("is written");
        }
        writer.finish().expect("is finished");
        let frames = decoded(&path);
        assert_eq!(frames.len(), 50, "{name}");
        for (i, (width, height, at, grey)) in frames.iter().enumerate() {
            assert_eq!((*width, *height), (64, 48));
            assert!(at.abs_diff(i as u64 * 40) <= 1, "{name}: frame {i} at {at} ms");
            let expected = picture(1, 1, i).bytes[0];
            assert!(grey.abs_diff(expected) <= 6, "{name}: frame {i} is {grey}, not {expected}");
        }
    }
}

#[test]
fn odd_sizes_changing_sizes_and_repeated_times_are_no_trouble() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd.mp4");
    let mut writer = open(&path);
    let frames =
        [(65, 47, 0.0, 1), (65, 47, 0.0, 1), (120, 30, 0.1, 1), (65, 47, 0.0, 2), (9, 9, 0.5, 2)];
    for (i, (width, height, pts, connection)) in frames.into_iter().enumerate() {
        writer.write(picture(width, height, 20 + i), pts, connection).expect("is written");
    }
    writer.finish().expect("is finished");
    let frames = decoded(&path);
    assert!(frames.iter().all(|(width, height, ..)| (*width, *height) == (64, 46)));
    let times: Vec<u64> = frames.iter().map(|f| f.2).collect();
    assert_eq!(times, [0, 1, 100, 140, 640]);
}

#[test]
fn a_file_whose_end_was_never_written_can_be_played() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("killed.mp4");
    let copy = folder.path().join("copy.mp4");
    let mut writer = open(&path);
    for i in 0..100 {
        writer.write(picture(64, 48, i), i as f64 * 0.04, 1).expect("is written");
    }
    // What the disk holds while the program still runs is what a kill would leave.
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::copy(&path, &copy).expect("copies");
    let frames = decoded(&copy).len();
    assert!((50..=100).contains(&frames), "{frames} of 100 frames");
}

#[test]
fn a_picture_holds_the_first_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a.png", "a.jpg"] {
        let path = folder.path().join(name);
        let mut writer = open(&path);
        for i in 0..3 {
            writer.write(picture(33, 17, 10 * i), 0.0, 1).expect("is written");
        }
        writer.finish().expect("is finished");
        let frames = decoded(&path);
        assert_eq!((frames.len(), frames[0].0, frames[0].1), (1, 33, 17), "{name}");
        assert!(frames[0].3.abs_diff(20) <= 1);
    }
}

#[test]
fn what_cannot_be_written_is_refused_at_once_with_a_sentence() {
    let refused = |name: &str| {
        let target = Target::File(name.into());
        Writer::open(&target).err().expect("is refused")
    };
    let error = refused("/no/such/folder/a.mp4");
    assert_eq!(error.to_string(), "cannot write /no/such/folder/a.mp4: its folder does not exist");
    assert_eq!(error.exit_code(), 6);
    let error = refused("a.gif");
    assert!(matches!(error, Error::Usage(_)), "{error}");
    assert!(error.to_string().contains(".mp4, .mkv or .webm"), "{error}");
}

#[test]
fn a_full_disk_is_reported_and_does_not_hang() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("full.mkv");
    std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
    let mut writer = open(&path);
    let mut result = Ok(());
    for i in 0..2000 {
        let at = i as f64 * 0.04;
        result = result.and_then(|()| writer.write(picture(320, 240, i), at, 1).map(drop));
    }
    let error = result.and_then(|()| writer.finish()).expect_err("is refused");
    assert!(matches!(error, Error::Sink(_)), "{error}");
    assert!(error.to_string().starts_with("cannot write "), "{error}");
}

#[test]
fn without_a_screen_a_window_is_refused_with_the_cure() {
    if ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some()) {
        println!("skipped: there is a screen here");
        return;
    }
    let error = Writer::open(&Target::Window).err().expect("is refused");
    assert!(error.to_string().contains("--overlay FILE.mp4"), "{error}");
    assert_eq!(error.exit_code(), 6);
}

#[test]
fn a_run_without_frames_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    open(&folder.path().join("none.mp4")).finish().expect("is finished");
}

#[test]
fn the_key_n_in_the_window_is_heard() {
    gst::init().expect("GStreamer");
    let input = gst::ElementFactory::make("appsrc").build().expect("an element");
    let input = input.downcast::<gst_app::AppSrc>().expect("is an appsrc");
    let pressed = Arc::new(AtomicUsize::new(0));
    let counted = pressed.clone();
    on_key_n(&input, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    input.set_state(gst::State::Paused).expect("starts");
    let pad = input.static_pad("src").expect("a pad");
    let keys = ["n", "N", "m"].map(NavigationEvent::new_key_press);
    for event in keys.iter().chain([&NavigationEvent::new_key_release("n")]) {
        pad.send_event(event.build());
    }
    assert_eq!(pressed.load(Ordering::Relaxed), 2);
    input.set_state(gst::State::Null).expect("stops");
}
