//! What several tests of this crate need.

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mmface::face::{FaceModel, Params};
use mmface::record::{Dropped, Latency};
use mmface::{Face, FrameResult, Image, Models};

use crate::counters::Counters;
use crate::frame::Frame;
use crate::sink::{Context, Event, FrameEvent};

/// The checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The face model that ships.
pub(crate) fn face_model() -> Arc<FaceModel> {
    let models = Models::open(&root().join("engines")).expect("the models");
    Arc::new(models.face_model().expect("a face model").0)
}

/// A run with these models.
pub(crate) fn context(model: &Arc<FaceModel>) -> Arc<Context> {
    let models = Models::open(&root().join("engines")).expect("the models");
    Arc::new(Context {
        stream: "test".into(),
        model: model.clone(),
        crop: models.variant("mmface-lite").expect("a variant").crop,
        trained: true,
        lens: None,
        volumes: None,
        live: false.into(),
        counters: Arc::new(Counters::default()),
    })
}

/// A face of these parameters, with nothing else.
pub(crate) fn face(id: u64, params: Params) -> Face {
    let raw = params.clone();
    let (confidence, bounds, landmarks) = (1.0, [0.0; 4], Vec::new());
    Face { id, confidence, bounds, params, raw, landmarks, gaze: None, volume: None }
}

/// A grey frame.
pub(crate) fn frame(pts: f64, connection: u32) -> Frame {
    Frame {
        number: 5,
        pts,
        time: SystemTime::now(),
        arrived: Instant::now(),
        taken: None,
        connection,
        dropped: Dropped::default(),
        still: None,
        pixels: Arc::new(Image::rgb(2, 2, vec![90; 12]).expect("an image")),
    }
}

/// A frame with a small face for each id.
pub(crate) fn frame_event(context: &Arc<Context>, frame: Frame, ids: &[u64]) -> FrameEvent {
    let model = &context.model;
    let pose = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0];
    let (identity, expression) = (vec![0.1; model.identities], vec![0.2; model.expressions.len()]);
    let params = Params::from_outputs(pose, &identity, &expression).expect("finite");
    let face = |id: &u64| face(*id, params.clone());
    let result = FrameResult { faces: ids.iter().map(face).collect(), ..FrameResult::default() };
    let (latency, dropped) = (Latency::default(), Dropped::default());
    FrameEvent::new(frame, result, latency, dropped, String::new(), context)
}

/// The same as an event.
pub(crate) fn event(context: &Arc<Context>, pts: f64, connection: u32, ids: &[u64]) -> Event {
    Event::Frame(Arc::new(frame_event(context, frame(pts, connection), ids)))
}
