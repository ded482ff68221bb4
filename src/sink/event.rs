//! The events that sinks receive.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use mmface::crop::{CropMap, CropRule};
use mmface::face::{Camera, FaceModel, Params, rotation};
use mmface::record::{self, Dropped, End, Gap, Header, Latency, Record, Stream, timestamp};
use mmface::volume::{Solid, Volume};
use mmface::{Face, FrameResult};

use crate::counters::Counters;
use crate::frame::Frame;
use crate::lens::Lens;

/// An event of a run. Clones are cheap.
#[derive(Clone)]
pub enum Event {
    /// The first event: program, source and networks.
    Header(Arc<Header>),
    /// The source is connected, or size or rate of its frames has changed.
    Stream(Arc<Stream>),
    /// One processed frame, with or without faces.
    Frame(Arc<FrameEvent>),
    /// The stream was interrupted.
    Gap(Arc<Gap>),
    /// The last event: counts and statistics of the run.
    End(Arc<End>),
}

impl Event {
    /// The record of this event.
    #[must_use]
    pub fn record(&self, content: Content) -> Record {
        match self {
            Self::Header(header) => Record::Header(Box::new(header.as_ref().clone())),
            Self::Stream(stream) => Record::Stream(stream.as_ref().clone()),
            Self::Frame(frame) => Record::Frame(frame.record(content)),
            Self::Gap(gap) => Record::Gap(gap.as_ref().clone()),
            Self::End(end) => Record::End(end.as_ref().clone()),
        }
    }
}

/// What all events of a run have in common.
pub struct Context {
    /// Name of the stream.
    pub stream: String,
    /// The face model of the parameters.
    pub model: Arc<FaceModel>,
    /// How crops are placed around landmarks.
    pub crop: CropRule,
    /// Whether the networks have trained weights.
    pub trained: bool,
    /// The lens, if it is known: faces get their pose in camera space.
    pub lens: Option<Lens>,
    /// The volumes of the run, if anything needs volumes.
    pub volumes: Option<Volumes>,
    /// Whether frames come at their own pace, as far as it is known.
    pub live: AtomicBool,
    /// The counters of the run.
    pub counters: Arc<Counters>,
}

/// Kind and size of the volumes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volumes {
    /// Origin of the volumes.
    pub source: VolumeSource,
    /// Number of voxels along each side.
    pub resolution: u32,
}

/// Origin of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeSource {
    /// The volume head.
    Network,
    /// The fitted mesh, filled.
    Model,
}

impl fmt::Display for VolumeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Network => "network",
            Self::Model => "model",
        })
    }
}

/// Optional parts of a frame record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// The 68 landmarks, in 2D (visible outline) and in 3D.
    pub landmarks: bool,
    /// All vertices of the mesh.
    pub vertices: bool,
    /// The parameters before smoothing.
    pub raw: bool,
    /// The place of the face's volume.
    pub volumes: bool,
    /// The expressions as seen from the face's neutral one.
    pub relative: bool,
}

/// A frame with its faces. Results that only some sinks need (meshes, volumes of meshes) are
/// computed once, when they are first requested.
pub struct FrameEvent {
    /// The frame.
    pub frame: Frame,
    /// The tracker's result for the frame.
    pub result: FrameResult,
    /// Latencies of the frame.
    pub latency: Latency,
    /// Frames lost since the last frame event.
    pub dropped: Dropped,
    /// A status line: frame rate and time.
    pub status: String,
    context: Arc<Context>,
    /// The parameters of each face as seen from its neutral face, if it has one.
    relative: Vec<Option<Params>>,
    /// The vertices of each face's mesh, computed on demand.
    meshes: Vec<OnceLock<Vec<[f32; 3]>>>,
    /// The volume of each face's filled mesh, computed on demand.
    solids: Vec<OnceLock<Arc<Volume>>>,
}

impl FrameEvent {
    pub(crate) fn new(
        frame: Frame,
        result: FrameResult,
        latency: Latency,
        dropped: Dropped,
        status: String,
        context: &Arc<Context>,
    ) -> Self {
        let (meshes, solids) = result.faces.iter().map(|_| Default::default()).unzip();
        let context = context.clone();
        let relative = Vec::new();
        Self { frame, result, latency, dropped, status, context, relative, meshes, solids }
    }

    /// The same with the parameters of each face as seen from its neutral face, if it has one.
    pub(crate) fn with_relative(self, relative: Vec<Option<Params>>) -> Self {
        Self { relative, ..self }
    }

    /// The parameters of a face of this frame as seen from its neutral face; without one, as they
    /// are.
    #[must_use]
    pub fn relative<'a>(&'a self, face: &'a Face) -> &'a Params {
        let place = self.result.faces.iter().position(|other| other.id == face.id);
        let relative = place.and_then(|place| self.relative.get(place)?.as_ref());
        relative.unwrap_or(&face.params)
    }

    /// The faces, each with its index for [`mesh`](Self::mesh) and [`volume`](Self::volume).
    pub fn faces(&self) -> impl Iterator<Item = (usize, &Face)> {
        self.result.faces.iter().enumerate()
    }

    /// The vertices of a face's mesh: x, y in pixels, z in pixels toward the camera.
    #[must_use]
    pub fn mesh(&self, face: usize) -> &[[f32; 3]] {
        let Some((cell, face)) = self.meshes.get(face).zip(self.result.faces.get(face)) else {
            return &[];
        };
        cell.get_or_init(|| self.context.model.vertices(&face.params))
    }

    /// The volume of a face, if the run has volumes and the face is in sight.
    #[must_use]
    pub fn volume(&self, place: usize) -> Option<Arc<Volume>> {
        let (Volumes { source, resolution }, face) =
            self.context.volumes.zip(self.result.faces.get(place))?;
        if source == VolumeSource::Network {
            return face.volume.clone();
        }
        let solid = || {
            let (vertices, triangles) = (self.mesh(place), &self.context.model.triangles);
            Arc::new(
                Solid::new(vertices, triangles, &self.crop(face), resolution as usize).volume(),
            )
        };
        Some(self.solids.get(place)?.get_or_init(solid).clone())
    }

    /// The crop around a face's landmarks.
    fn crop(&self, face: &Face) -> CropMap {
        let angle = rotation::upright_angle(&face.params.rotation);
        CropMap::around(&face.landmarks, angle, &self.context.crop)
    }

    /// File name, without extension, for one face of this frame: `000123-face7` with the number of
    /// the frame; for a picture `portrait-face7` with the picture's file name.
    #[must_use]
    pub fn file_stem(&self, face: &Face) -> String {
        let still = self.frame.still.as_ref().map(|still| Path::new(&*still.name));
        let frame = still.and_then(Path::file_stem).map_or_else(
            || format!("{:06}", self.frame.number),
            |stem| stem.to_string_lossy().into_owned(),
        );
        format!("{frame}-face{}", face.id)
    }

    /// The record of this frame.
    #[must_use]
    pub fn record(&self, content: Content) -> record::Frame {
        record::Frame {
            stream: self.context.stream.clone(),
            frame: self.frame.number,
            file: self.frame.still.as_ref().map(|still| still.name.to_string()),
            pts: self.frame.pts,
            time: timestamp(self.frame.time),
            camera_time: self.frame.taken.map(timestamp),
            latency_ms: self.latency,
            dropped: self.dropped,
            faces: self.faces().map(|(place, face)| self.face(place, face, content)).collect(),
        }
    }

    /// The camera that took this frame, if its lens is known.
    fn camera(&self) -> Option<Camera> {
        let image = self.frame.image();
        let written = self.frame.still.as_ref().and_then(|still| still.focal);
        self.context.lens?.camera(image.width, image.height, written)
    }

    fn face(&self, place: usize, face: &Face, content: Content) -> record::FaceRecord {
        let pose = |camera| {
            let pose = self.context.model.pose_in(&face.params, &camera);
            record::CameraPose::new(&pose, &camera)
        };
        record::FaceRecord {
            camera: self.camera().map(pose),
            relative: content.relative.then(|| self.relative(face).expression.clone()),
            landmarks: content.landmarks.then(|| face.landmarks.clone()),
            landmarks3d: content.landmarks.then(|| self.context.model.landmarks3d(&face.params)),
            vertices: content.vertices.then(|| self.mesh(place).to_vec()),
            raw: content.raw.then(|| (&face.raw).into()),
            volume: content.volumes.then(|| self.volume(place)).flatten().map(|volume| {
                record::Volume { resolution: volume.resolution(), place: volume.affine() }
            }),
            ..face.into()
        }
    }
}
