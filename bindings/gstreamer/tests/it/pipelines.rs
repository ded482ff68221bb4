//! `mmface` in pipelines of this process.

use gstreamer as gst;
use gstreamer::prelude::*;
use mmface::record::Record;

use crate::common::{Running, count, frame, media, only, portrait, posted, samples};

#[test]
fn branches_of_a_tee_meet_in_a_compositor() {
    let source = portrait(6, "format=I420,width=320,height=240,pixel-aspect-ratio=1/1");
    let description = format!(
        "{source} ! tee name=t \
         t. ! queue ! mmface name=a ! mmfaceoverlay ! c. \
         t. ! queue ! mmface name=b smooth=off ! c. \
         t. ! queue ! c. \
         compositor name=c sink_1::xpos=320 sink_2::xpos=640 ! video/x-raw,format=I420 \
         ! appsink name=out sync=false"
    );
    let running = Running::start(&description);
    let samples = running.samples();
    assert!(samples.len() >= 6);
    for name in ["a", "b"] {
        let element = running.element(name);
        assert_eq!([count(&element, "processed"), count(&element, "faces")], [6, 1]);
    }
}

#[test]
fn a_seek_forgets_the_faces_and_goes_on() {
    let running = Running::start(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! mmface name=it reidentify=0 \
         ! fakesink sync=false",
        media("single_face.mp4")
    ));
    running.until_end();
    let seconds = gst::ClockTime::from_seconds;
    running
        .pipeline
        .seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, seconds(1))
        .unwrap();
    running.until_end();
    let it = running.element("it");
    assert_eq!(count(&it, "resets"), 1);
    let frames: Vec<_> = posted(&running.bus)
        .into_iter()
        .filter_map(|(r, _)| if let Record::Frame(frame) = r { Some(frame) } else { None })
        .collect();
    // `until_end` has taken the messages of the first round.
    assert_eq!(frames.len(), 0);
    assert_eq!(count(&it, "processed"), 72 + 42);
}

#[test]
fn records_have_the_time_of_the_stream() {
    let samples = samples(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! mmface ! appsink name=out sync=false",
        media("single_face.mp4")
    ));
    for sample in &samples[..10] {
        let pts = sample.buffer().unwrap().pts().unwrap();
        let pts =
            sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap().to_stream_time(pts);
        let told = frame(sample.buffer().unwrap()).pts;
        assert!((told - pts.unwrap().nseconds() as f64 / 1e9).abs() < 1e-5, "{told}");
    }
}

#[test]
fn a_live_source_never_waits_for_the_detector() {
    // The first frame of a live stream asks the detector and goes on without its answer.
    let source = portrait(1, "format=I420,width=320,height=240,pixel-aspect-ratio=1/1");
    let first = |mode: &str| {
        let samples = samples(&format!("{source} ! mmface {mode} ! appsink name=out sync=false"));
        frame(samples[0].buffer().unwrap()).faces.len()
    };
    assert_eq!([first("mode=live"), first("mode=recording"), first("")], [0, 1, 1]);
    let live = "videotestsrc is-live=true num-buffers=2 ! video/x-raw,width=160,height=120 \
                ! mmface ! appsink name=out";
    assert_eq!(samples(live).len(), 2);
}

#[test]
fn settings_may_change_between_runs() {
    let source = portrait(2, "format=I420,width=320,height=240,pixel-aspect-ratio=1/1");
    let running = Running::new(&format!("{source} ! mmface name=it ! fakesink"));
    let it = running.element("it");
    for landmarks in [false, true] {
        it.set_property("landmarks", landmarks);
        it.set_property_from_str("smooth", if landmarks { "off" } else { "strong" });
        running.pipeline.set_state(gst::State::Playing).unwrap();
        running
            .bus
            .timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::AsyncDone]);
        running.pipeline.set_state(gst::State::Null).unwrap();
        assert!(count(&it, "processed") > 0);
    }
}

/// Starts a pipeline that cannot start; returns what it says.
fn refused(properties: &str) -> String {
    let running =
        Running::new(&format!("videotestsrc num-buffers=1 ! mmface {properties} ! fakesink"));
    assert!(running.pipeline.set_state(gst::State::Paused).is_err(), "{properties}");
    let message = running.bus.pop_filtered(&[gst::MessageType::Error]).expect("an error");
    let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
    assert!(running.bus.pop_filtered(&[gst::MessageType::Error]).is_none(), "one error is enough");
    error.error().to_string()
}

#[test]
fn what_cannot_work_is_one_error_with_its_cure() {
    for (properties, part, cure) in [
        ("engines=/nowhere", "/nowhere/manifest.toml", "property engines"),
        ("detector-model=/nowhere.onnx", "/nowhere.onnx does not exist", "detector-model"),
        ("variant=none", "there is no variant", "mmface-lite"),
        ("precision=f16", "f16 is for the GPU", "property precision"),
        ("detect-size=5", "64 to 4096", "gst-inspect-1.0 mmface"),
    ] {
        let said = refused(properties);
        assert!(said.contains(part) && said.contains(cure), "{properties}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn pixels_that_are_not_square_are_warned_of() {
    let running = Running::start(&format!(
        "{} ! mmface ! fakesink",
        portrait(1, "format=I420,width=320,height=240,pixel-aspect-ratio=4/3")
    ));
    let types = [gst::MessageType::Warning, gst::MessageType::Eos];
    let message = running.bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &types).unwrap();
    let gst::MessageView::Warning(warning) = message.view() else { panic!("{message:?}") };
    assert!(warning.error().to_string().contains("4:3"), "{warning:?}");
}

#[test]
fn metas_pass_a_conversion() {
    let source = portrait(1, "format=I420,width=320,height=240,pixel-aspect-ratio=1/1");
    let samples = samples(&format!(
        "{source} ! mmface ! videoconvert ! video/x-raw,format=BGRx ! appsink name=out sync=false"
    ));
    only(&frame(samples[0].buffer().unwrap()));
}
