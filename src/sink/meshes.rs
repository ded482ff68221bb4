//! Meshes: one file per face and frame, or one animated file per run.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmface::Face;
use mmface::face::{FaceModel, rotation};
use mmface::mesh::{self, Animation, Format, Key, Mesh, animated};
use mmface::smooth::with_identity;
use mmface::volume::surface;

use super::{Context, Event, FrameEvent, Needs, Plan, Sink, VolumeSource, WhenSlow, files};
use crate::{Error, Result};

/// What meshes are made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// The parameters (the fitted mesh).
    #[default]
    Model,
    /// The surface of the volume.
    Volume,
}

/// The sink for mesh files: `DIR/000123-face7.glb` and so on.
#[derive(Debug)]
pub struct MeshFiles {
    /// The folder.
    pub folder: PathBuf,
    /// Format of the files.
    pub format: Format,
    /// What the meshes are made from.
    pub from: Origin,
}

impl Plan for MeshFiles {
    fn name(&self) -> &'static str {
        "meshes"
    }

    fn needs(&self) -> Needs {
        Needs { volumes: (self.from == Origin::Volume).then_some(VolumeSource::Network) }
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::DropOldest
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let lock = files::folder(&self.folder, "--mesh")?;
        Ok(Box::new(Meshes { model: context.model.clone(), plan: *self, _lock: lock }))
    }
}

struct Meshes {
    plan: MeshFiles,
    model: Arc<FaceModel>,
    _lock: files::Folder,
}

impl Meshes {
    fn mesh(&self, frame: &FrameEvent, place: usize) -> Option<Mesh> {
        match self.plan.from {
            Origin::Model => Some(of_model(&self.model, frame.mesh(place))),
            Origin::Volume => {
                frame.volume(place).as_deref().map(surface).filter(|m| !m.points.is_empty())
            }
        }
    }
}

fn of_model(model: &FaceModel, vertices: &[[f32; 3]]) -> Mesh {
    let (points, triangles) = (vertices.to_vec(), model.triangles.clone());
    Mesh { points, triangles, colours: Vec::new() }
}

impl Sink for Meshes {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        if let Event::Frame(frame) = event {
            for (place, face) in frame.faces() {
                if let Some(mut mesh) = self.mesh(frame, place) {
                    mesh.colours = mesh::colours(&mesh, &frame.frame.image());
                    let format = self.plan.format;
                    let name = format!("{}.{}", frame.file_stem(face), format.extension());
                    let path = self.plan.folder.join(name);
                    files::write("a mesh", &path, &mesh.to_bytes(format))?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Most frames of one face in an animation: two hours at 30 frames per second, about 120 MB.
const MAX_KEYS: usize = 216_000;
/// Seconds after which a face that is out of sight is assumed not to come back.
const FORGET: f64 = 10.0;

/// The sink for an animation: one file with the face that was followed longest.
#[derive(Debug)]
pub struct AnimationFile {
    /// The file.
    pub path: PathBuf,
}

impl Plan for AnimationFile {
    fn name(&self) -> &'static str {
        "animation"
    }

    fn when_slow(&self) -> WhenSlow {
        WhenSlow::DropOldest
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let path = self.path;
        // Checks the path before the first frame is processed.
        let file = files::TruncateOnWrite::open(&path).map_err(|e| {
            let path = path.display();
            Error::Sink(format!("cannot create {path}: {e}; name another file with --mesh"))
        })?;
        let model = context.model.clone();
        Ok(Box::new(Animated { path, model, tracks: BTreeMap::new(), start: None, _lock: file }))
    }
}

/// Collects the key frames of an animation and writes the file at the end of the run.
struct Animated {
    path: PathBuf,
    model: Arc<FaceModel>,
    tracks: BTreeMap<u64, Track>,
    /// Connection and time in seconds at which the animation's time is 0.
    start: Option<(u32, f64)>,
    _lock: files::TruncateOnWrite,
}

/// What is collected of one face.
#[derive(Default)]
struct Track {
    keys: Vec<Key>,
    /// Time of its last frame in seconds.
    last: f64,
    /// Vertex colours from the best view so far.
    colours: Vec<[u8; 3]>,
    /// How good that view was.
    best: f32,
}

impl Track {
    fn add(&mut self, time: f64, place: usize, face: &Face, frame: &FrameEvent, model: &FaceModel) {
        let time = time as f32;
        if self.keys.last().is_some_and(|last| last.time >= time) || self.keys.len() >= MAX_KEYS {
            return;
        }
        self.last = frame.frame.pts;
        self.keys.push(Key { time, params: face.params.clone() });
        // The best view is large, confident and frontal. Slight improvements are not worth the
        // work.
        let facing = rotation::matrix(&face.params.rotation)[(2, 2)].max(0.0);
        let view = face.confidence * facing.powi(4) * face.params.f;
        if self.colours.is_empty() || view > 1.05 * self.best {
            self.best = view;
            self.colours = mesh::colours(&of_model(model, frame.mesh(place)), &frame.frame.image());
        }
    }
}

impl Sink for Animated {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        let Event::Frame(frame) = event else { return Ok(ControlFlow::Continue(())) };
        let (connection, pts) = (frame.frame.connection, frame.frame.pts);
        let start = match self.start {
            Some((same, start)) if same == connection => start,
            _ => self.start.insert((connection, pts)).1,
        };
        for (place, face) in frame.faces() {
            let track = self.tracks.entry(face.id).or_default();
            track.add(pts - start, place, face, frame, &self.model);
        }
        // A face that is gone and was not the one followed longest will not be in the file.
        let longest = self.tracks.values().map(|t| t.keys.len()).max().unwrap_or(0);
        self.tracks.retain(|_, t| (pts - t.last).abs() < FORGET || t.keys.len() == longest);
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let longest = self.tracks.iter().max_by_key(|(id, t)| (t.keys.len(), u64::MAX - **id));
        let Some((id, track)) = longest else {
            let (path, state) = (self.path.display(), files::untouched(&self.path));
            tracing::warn!("no face came, so {path} {state}");
            return Ok(());
        };
        if track.keys.len() >= MAX_KEYS {
            tracing::warn!("{} holds the first {MAX_KEYS} frames only", self.path.display());
        }
        // One identity for all frames, and poses adapted to it.
        let count = track.keys.len() as f32;
        let mean = |i: usize| track.keys.iter().map(|k| k.params.identity[i]).sum::<f32>() / count;
        let identity: Vec<f32> = (0..self.model.identities).map(mean).collect();
        let fit = |key: &Key| Key {
            time: key.time,
            params: with_identity(&key.params, &identity, &self.model),
        };
        let keys: Vec<Key> = track.keys.iter().map(fit).collect();
        let name = format!("face {id}");
        let file = animated(
            &self.model,
            &Animation { name: &name, identity: &identity, colours: &track.colours, keys: &keys },
        );
        files::write("the animation", &self.path, &file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_face_that_was_followed_longest_is_animated() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, context) =
            (folder.path().join("a.glb"), testing::context(&testing::face_model()));
        let plan = Box::new(AnimationFile { path: path.clone() });
        let mut sink = plan.open(&context).expect("opens");
        for (pts, connection, ids) in [
            (5.0, 1, &[1][..]),
            (5.1, 1, &[1, 2]),
            // A time that repeats, and one that starts anew with another connection.
            (5.1, 1, &[1, 2]),
            (0.3, 2, &[3]),
            (0.4, 2, &[3]),
            (0.5, 2, &[3]),
            (60.0, 2, &[]),
        ] {
            let _ = sink.take(&testing::event(&context, pts, connection, ids)).expect("takes");
        }
        sink.finish().expect("written");
        let file = std::fs::read(path).expect("a file");
        assert!(String::from_utf8_lossy(&file).contains("\"name\":\"face 3\""));
    }

    #[test]
    fn faces_that_are_gone_and_were_not_the_longest_take_no_memory() {
        let context = testing::context(&testing::face_model());
        let folder = tempfile::tempdir().expect("a folder");
        let (path, model) = (folder.path().join("a.glb"), context.model.clone());
        let _lock = files::TruncateOnWrite::open(&path).expect("opens");
        let mut sink = Animated { path, model, tracks: BTreeMap::new(), start: None, _lock };
        for (pts, ids) in [(0.0, &[1, 2][..]), (0.1, &[2]), (20.0, &[])] {
            let _ = sink.take(&testing::event(&context, pts, 1, ids)).expect("takes");
        }
        assert_eq!(sink.tracks.keys().copied().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_cannot_be_written_is_a_sinks_failure() {
        let context = testing::context(&testing::face_model());
        let full = Box::new(AnimationFile { path: "/dev/full".into() });
        let mut sink = full.open(&context).expect("opens");
        let _ = sink.take(&testing::event(&context, 0.0, 1, &[1])).expect("takes");
        assert_eq!(sink.finish().expect_err("full").exit_code(), 6);
        let (folder, format, from) = ("/dev/null/meshes".into(), Format::Glb, Origin::Model);
        let refused = Box::new(MeshFiles { folder, format, from }).open(&context);
        let refused = refused.err().expect("refused");
        assert_eq!(refused.exit_code(), 6);
        assert!(refused.to_string().contains("--mesh"), "{refused}");
    }

    #[test]
    fn files_are_named_after_frame_or_picture() {
        let context = testing::context(&testing::face_model());
        let event = testing::frame_event(&context, testing::frame(0.0, 1), &[7]);
        let stems =
            |event: &FrameEvent| event.faces().map(|(_, f)| event.file_stem(f)).collect::<Vec<_>>();
        assert_eq!(stems(&event), ["000005-face7"]);
        let mut frame = testing::frame(0.0, 1);
        let name = "portrait.of.me.jpg".into();
        frame.still = Some(crate::frame::Still { index: 0, name, focal: None });
        assert_eq!(stems(&testing::frame_event(&context, frame, &[7])), ["portrait.of.me-face7"]);
    }
}
