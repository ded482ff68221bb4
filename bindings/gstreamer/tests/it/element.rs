//! `mmface` in a harness.

use gstreamer as gst;
use gstreamer::ClockTime;
use gstreamer::prelude::*;
use gstreamer_check::Harness;
use mmface::image::{Colour, Layout, Matrix, Plane};
use mmface::record::{FaceRecord, Record};
use mmface::{Image, Mode, Models, Runtime, TrackerOptions};

use crate::common::{bytes, count, frame, media, only, picture, posted, regions, root, samples};

const I420: &str = "format=I420,width=640,height=480,pixel-aspect-ratio=1/1";

/// A harness, the portrait in it, and where the element posts.
struct Bench {
    harness: Harness,
    element: gst::Element,
    bus: gst::Bus,
    picture: gst::Buffer,
}

impl Bench {
    fn new(properties: &str) -> Self {
        Self::with_caps(properties, I420)
    }

    fn with_caps(properties: &str, caps: &str) -> Self {
        root();
        let (picture, caps) = picture(caps);
        let mut harness = Harness::new_parse(&format!("mmface {properties}"));
        harness.set_live(false);
        let element = harness.find_element("mmface").unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        harness.set_src_caps(caps);
        Self { harness, element, bus, picture }
    }

    /// The portrait at a time.
    fn buffer(&self, milliseconds: u64) -> gst::Buffer {
        let mut buffer = self.picture.copy();
        let buffer_mut = buffer.make_mut();
        buffer_mut.set_pts(ClockTime::from_mseconds(milliseconds));
        buffer_mut.set_duration(ClockTime::from_mseconds(40));
        buffer
    }

    fn pass(&mut self, milliseconds: u64) -> gst::Buffer {
        let buffer = self.buffer(milliseconds);
        self.harness.push_and_pull(buffer).unwrap()
    }

    fn ids(&mut self, milliseconds: u64) -> Vec<u64> {
        frame(&self.pass(milliseconds)).faces.iter().map(|face| face.id).collect()
    }
}

#[test]
fn a_face_is_attached_and_posted() {
    let mut bench = Bench::new("landmarks=true stream=portrait");
    let out = bench.pass(80);
    let record = frame(&out);
    let face = only(&record);
    assert_eq!((record.stream.as_str(), record.frame, record.pts), ("portrait", 0, 0.08));
    assert_eq!(face.landmarks.as_ref().map(Vec::len), Some(68));
    let [[detection, mmface]] = &regions(&out)[..] else { panic!("one region") };
    let number = |s: &gst::Structure, name: &str| s.get::<f64>(name).unwrap();
    let near = |a: f64, b: f32| assert!((a - f64::from(b)).abs() < 0.02, "{a} {b}");
    let [x, y, width, height] = face.bounds;
    near(640.0 * number(detection, "x_min"), x);
    near(640.0 * number(detection, "x_max"), x + width);
    near(480.0 * number(detection, "y_min"), y);
    near(480.0 * number(detection, "y_max"), y + height);
    near(number(detection, "confidence"), face.confidence);
    let inside: FaceRecord =
        serde_json::from_str(detection.get("extra_params_json").unwrap()).unwrap();
    assert_eq!(&inside, face);
    assert_eq!(mmface.get::<u64>("id").unwrap(), face.id);
    for (name, value) in ["pitch", "yaw", "roll"].into_iter().zip(face.r) {
        near(number(mmface, name), value);
    }
    near(number(mmface, "scale"), face.f);
    near(number(mmface, "tx"), face.t[0]);
    assert_eq!(mmface.get::<gst::Array>("landmarks").unwrap().len(), 136);
    let posted = posted(&bench.bus);
    let [(Record::Header(header), _), (Record::Stream(stream), _), (Record::Frame(told), message)] =
        &posted[..]
    else {
        panic!("{posted:?}")
    };
    assert_eq!((stream.width, stream.height, stream.fps), (640, 480, 25.0));
    assert_eq!(told, &record);
    assert_eq!(message.get::<ClockTime>("pts").unwrap(), ClockTime::from_mseconds(80));
    assert_eq!(message.get::<u32>("faces").unwrap(), 1);
    for (name, weight) in header.face_model.expressions.iter().zip(&face.expression) {
        near(number(mmface, name), *weight);
    }
}

#[test]
fn pixels_are_neither_changed_nor_copied() {
    let mut bench = Bench::new("");
    let buffer = bench.buffer(0);
    let others = buffer.clone();
    let address = |buffer: &gst::BufferRef| buffer.map_readable().unwrap().as_ptr();
    let before = (address(&buffer), bytes(&buffer));
    let out = bench.harness.push_and_pull(buffer).unwrap();
    assert_eq!(regions(&out).len(), 1);
    assert_eq!((address(&out), bytes(&out)), before);
    assert_eq!(
        (out.pts(), out.duration(), out.flags()),
        (others.pts(), others.duration(), others.flags())
    );
    assert!(regions(&others).is_empty(), "another branch of a tee sees no metas");
}

/// The library's own numbers for the pixels of a buffer in I420 with full rows.
fn measured(buffer: &gst::BufferRef, colour: Colour) -> FaceRecord {
    let runtime = Runtime::builder(Models::find().unwrap())
        .detector(mmface::detect::Kind::CenterFaceOpenVino, None)
        .build()
        .unwrap();
    let options = TrackerOptions { mode: Mode::Recording, ..TrackerOptions::default() };
    let bytes = bytes(buffer);
    let (luma, chroma) = bytes.split_at(640 * 480);
    let (blue, red) = chroma.split_at(320 * 240);
    let planes = [Plane::new(luma, 640), Plane::new(blue, 320), Plane::new(red, 320)];
    let image = Image::new(Layout::I420, 640, 480, planes).unwrap().with_colour(colour);
    let seen = runtime.tracker(options).unwrap().process(&image, 0.0).unwrap();
    let json = serde_json::to_string(&FaceRecord::from(&seen.faces[0])).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn records_are_the_librarys_for_the_same_pixels() {
    let caps = format!("{I420},colorimetry=bt709");
    let mut bench = Bench::with_caps("", &caps);
    let out = bench.pass(0);
    let colour = Colour { matrix: Matrix::Bt709, full_range: false };
    assert_eq!(only(&frame(&out)), &measured(&out, colour));
}

#[test]
fn every_format_shows_the_same_face() {
    let mut boxes = Vec::new();
    for format in ["I420", "NV12", "RGB", "BGR", "GRAY8"] {
        // Rows of odd length have padding.
        let caps = format!("format={format},width=599,height=451,pixel-aspect-ratio=1/1");
        let mut bench = Bench::with_caps("", &caps);
        let out = bench.pass(0);
        boxes.push(only(&frame(&out)).bounds);
    }
    for found in &boxes {
        let apart = found.iter().zip(boxes[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 6.0, "{boxes:?}");
    }
}

#[test]
fn the_end_passes() {
    let mut bench = Bench::new("");
    bench.pass(0);
    assert!(bench.harness.push_event(gst::event::Eos::new()));
    let seen = std::iter::from_fn(|| bench.harness.try_pull_event()).map(|e| e.type_());
    assert!(seen.collect::<Vec<_>>().contains(&gst::EventType::Eos));
}

#[test]
fn a_flush_a_jump_and_other_caps_forget_the_faces() {
    let mut bench = Bench::new("reidentify=0");
    let first = bench.ids(0);
    assert_eq!(bench.ids(40), first, "time that goes on");
    let mut dropped = bench.buffer(160);
    dropped.make_mut().set_flags(gst::BufferFlags::DISCONT);
    let out = bench.harness.push_and_pull(dropped).unwrap();
    assert_eq!(only(&frame(&out)).id, first[0], "a few dropped frames are no new stream");

    bench.harness.push_event(gst::event::FlushStart::new());
    bench.harness.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<ClockTime>::new();
    bench.harness.push_event(gst::event::Segment::new(&segment));
    let second = bench.ids(200);
    assert!(second[0] > first[0], "{first:?} {second:?}");

    let third = bench.ids(9000);
    assert!(third[0] > second[0], "{second:?} {third:?}");
    assert_eq!(count(&bench.element, "resets"), 2);

    let (picture, caps) = picture("format=NV12,width=320,height=240,pixel-aspect-ratio=1/1");
    bench.harness.set_src_caps(caps);
    bench.picture = picture;
    let fourth = bench.ids(9040);
    assert!(fourth[0] > third[0], "{third:?} {fourth:?}");
    assert_eq!(count(&bench.element, "resets"), 3);
    assert_eq!(count(&bench.element, "faces"), 4);
    let sizes: Vec<u32> = posted(&bench.bus)
        .into_iter()
        .filter_map(|(record, _)| if let Record::Stream(s) = record { Some(s.width) } else { None })
        .collect();
    assert_eq!(sizes, [640, 320]);
}

/// What a sink says about a frame: by how many milliseconds it came too late; negative: in time.
fn quality(late: i64, milliseconds: u64) -> gst::Event {
    gst::event::Qos::builder(gst::QOSType::Underflow, 1.0, 1_000_000 * late)
        .timestamp(ClockTime::from_mseconds(milliseconds))
        .build()
}

#[test]
fn late_frames_pass_unmeasured_and_are_counted() {
    let mut bench = Bench::new("");
    bench.pass(0);
    bench.harness.push_upstream_event(quality(100, 0));
    let out = bench.pass(40);
    assert!(regions(&out).is_empty());
    assert!(gst::meta::CustomMeta::from_buffer(&out, "MmfaceMeta").is_err());
    bench.pass(80);
    let next = frame(&bench.pass(120));
    assert_eq!((next.frame, next.dropped.busy), (3, 2));
    assert_eq!([count(&bench.element, "processed"), count(&bench.element, "skipped")], [2, 2]);
    bench.harness.push_upstream_event(quality(-5, 120));
    assert_eq!(frame(&bench.pass(160)).dropped.busy, 0);
    let upstream = std::iter::from_fn(|| bench.harness.try_pull_upstream_event());
    let qos = upstream.filter(|event| event.type_() == gst::EventType::Qos).count();
    assert_eq!(qos, 2, "decoders upstream are told too");
}

#[test]
fn without_qos_every_frame_is_measured() {
    let mut bench = Bench::new("qos=false");
    bench.pass(0);
    bench.harness.push_upstream_event(quality(500, 0));
    bench.pass(40);
    assert_eq!([count(&bench.element, "processed"), count(&bench.element, "skipped")], [2, 0]);
}

#[test]
fn latency_is_what_it_is_told_to_be() {
    let mut bench = Bench::new("");
    bench.harness.set_live(true);
    bench.harness.set_upstream_latency(ClockTime::from_mseconds(40));
    assert_eq!(bench.harness.query_latency(), Some(ClockTime::from_mseconds(40)));
    bench.element.set_property("latency", 15_000_000_u64);
    assert_eq!(bench.harness.query_latency(), Some(ClockTime::from_mseconds(55)));
    let asks = bench.bus.pop_filtered(&[gst::MessageType::Latency]);
    assert!(asks.is_some(), "the pipeline is told to ask again");
}

#[test]
fn frames_without_times_are_measured() {
    let mut bench = Bench::new("");
    for number in 0..3 {
        let mut buffer = bench.buffer(0);
        buffer.make_mut().set_pts(None);
        let out = bench.harness.push_and_pull(buffer).unwrap();
        let record = frame(&out);
        assert_eq!(only(&record).id, 1);
        assert!((record.pts - f64::from(number) * 0.04).abs() < 1e-6, "{}", record.pts);
    }
}

#[test]
fn a_buffer_that_is_too_small_is_an_error() {
    let mut bench = Bench::new("");
    let small = gst::Buffer::from_slice(vec![0; 1000]);
    assert_eq!(bench.harness.push(small), Err(gst::FlowError::Error));
    let message = bench.bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
    assert!(error.error().to_string().contains("does not hold the picture"), "{error:?}");
}

#[test]
fn a_clip_gives_the_same_records_each_time() {
    let clip = media("single_face.mp4");
    let description = format!(
        "filesrc location={clip} ! decodebin ! videoconvert ! video/x-raw,format=I420 \
         ! mmface ! appsink name=out sync=false"
    );
    let watch = || -> Vec<_> {
        let samples = samples(&description);
        samples.iter().map(|s| frame(s.buffer().unwrap())).map(|f| (f.pts, f.faces)).collect()
    };
    let first = watch();
    assert_eq!(first.len(), 72);
    assert_eq!(first, watch());
}
