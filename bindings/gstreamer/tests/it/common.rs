//! What several tests need.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video::VideoRegionOfInterestMeta;
use mmface::record::{FaceRecord, Frame, Record, parse};

/// The checkout. Networks are searched there, because tests link the plugin instead of loading it.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        std::env::set_current_dir(&root).unwrap();
        gst::init().unwrap();
        gstmmface::plugin_register_static().unwrap();
        // Holds the networks, so that they are loaded once for all tests.
        let keeper = gst::ElementFactory::make("mmface").build().unwrap();
        keeper.set_state(gst::State::Ready).unwrap();
        std::mem::forget(keeper);
        root
    });
    &ROOT
}

/// A clip or picture that the set-up unpacked.
pub fn media(name: &str) -> String {
    let path = root().join("vendor/media").join(name);
    assert!(path.exists(), "{} is not there: run `make setup`", path.display());
    path.display().to_string()
}

/// A pipeline of this process.
pub struct Running {
    pub pipeline: gst::Pipeline,
    pub bus: gst::Bus,
}

impl Running {
    pub fn new(description: &str) -> Self {
        root();
        let pipeline = gst::parse::launch(description).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let bus = pipeline.bus().unwrap();
        Self { pipeline, bus }
    }

    pub fn start(description: &str) -> Self {
        let running = Self::new(description);
        running.pipeline.set_state(gst::State::Playing).unwrap();
        running
    }

    pub fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).unwrap()
    }

    /// All samples that arrive at the sink `out`, up to the end.
    pub fn samples(&self) -> Vec<gst::Sample> {
        let sink = self.element("out").downcast::<AppSink>().unwrap();
        let samples = std::iter::from_fn(|| sink.pull_sample().ok()).collect();
        self.no_error();
        samples
    }

    /// Waits for the end.
    pub fn until_end(&self) {
        let over = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(gst::ClockTime::from_seconds(120), &over);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => {}
            other => panic!("{other:?}"),
        }
    }

    pub fn no_error(&self) {
        let error = self.bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The samples of a pipeline that ends in `appsink name=out`.
pub fn samples(description: &str) -> Vec<gst::Sample> {
    Running::start(description).samples()
}

/// The record that a buffer carries.
pub fn frame(buffer: &gst::BufferRef) -> Frame {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "MmfaceMeta").expect("a record");
    match read(meta.structure().get("json").unwrap()) {
        Record::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

pub fn read(json: &str) -> Record {
    parse(json.as_bytes()).unwrap().unwrap()
}

/// The records that were posted on a bus until now, with the structures that hold them.
pub fn posted(bus: &gst::Bus) -> Vec<(Record, gst::Structure)> {
    let mut records = Vec::new();
    while let Some(message) = bus.pop() {
        if let gst::MessageView::Element(element) = message.view()
            && let Some(structure) = element.structure().filter(|s| s.name() == "mmface")
        {
            records.push((read(structure.get("json").unwrap()), structure.to_owned()));
        }
    }
    records
}

/// The two structures of each face on a buffer: `detection` and `mmface`.
pub fn regions(buffer: &gst::BufferRef) -> Vec<[gst::Structure; 2]> {
    let metas = buffer.iter_meta::<VideoRegionOfInterestMeta>();
    metas
        .map(|meta| ["detection", "mmface"].map(|name| meta.param(name).unwrap().to_owned()))
        .collect()
}

/// The only face of a frame.
pub fn only(frame: &Frame) -> &FaceRecord {
    assert_eq!(frame.faces.len(), 1, "{:?}", frame.faces);
    &frame.faces[0]
}

/// A count of the property `stats`.
pub fn count(element: &gst::Element, name: &str) -> u64 {
    element.property::<gst::Structure>("stats").get(name).unwrap()
}

/// Part of a description: frames that show a portrait, in this format.
pub fn portrait(frames: u32, caps: &str) -> String {
    format!(
        "filesrc location={} ! jpegdec ! imagefreeze num-buffers={frames} \
         ! video/x-raw,framerate=25/1 ! videoconvert ! videoscale ! video/x-raw,{caps}",
        media("single_face.jpg")
    )
}

/// The portrait in one buffer.
pub fn picture(caps: &str) -> (gst::Buffer, gst::Caps) {
    let samples = samples(&format!("{} ! appsink name=out sync=false", portrait(1, caps)));
    (samples[0].buffer_owned().unwrap(), samples[0].caps_owned().unwrap())
}

pub fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}
