//! Meshes: one file for each face and frame, or one animated file of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Face, Shot, Sink};
use crate::face::{FaceModel, rotation};
use crate::mesh::{self, Animation, Format, Key, Mesh, animated};
use crate::smooth::with_identity;
use crate::volume::surface;
use crate::{Error, Result};

/// What a mesh is made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The parameters.
    #[default]
    Model,
    /// The volume.
    Volume,
}

/// Where meshes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A folder: a file for each face and frame.
    Folder(PathBuf, Format),
    /// One animated file.
    Animation(PathBuf),
}

/// Writes `DIR/000123-face7.glb` and so on.
pub struct Meshes {
    folder: PathBuf,
    format: Format,
    from: Origin,
    model: Arc<FaceModel>,
}

impl Meshes {
    /// Makes the folder.
    ///
    /// # Errors
    /// [`Error::Sink`] if it cannot be made.
    pub fn open(
        folder: &Path,
        format: Format,
        from: Origin,
        model: &Arc<FaceModel>,
    ) -> Result<Self> {
        super::folder(folder, "--mesh")?;
        Ok(Self { folder: folder.into(), format, from, model: model.clone() })
    }

    fn mesh(&self, face: &Face) -> Option<Mesh> {
        match self.from {
            Origin::Model => Some(of_model(&self.model, face)),
            Origin::Volume => face.volume.as_deref().map(surface).filter(|m| !m.points.is_empty()),
        }
    }
}

fn of_model(model: &FaceModel, face: &Face) -> Mesh {
    let (points, triangles) = (face.vertices.clone(), model.triangles.clone());
    Mesh { points, triangles, colours: Vec::new() }
}

impl Sink for Meshes {
    fn take(&mut self, shot: &Shot) -> Result<()> {
        for face in &shot.faces {
            if let Some(mut mesh) = self.mesh(face) {
                mesh.colours = mesh::colours(&mesh, &shot.frame.image);
                let name = format!("{}.{}", shot.name(face), self.format.extension());
                super::write("a mesh", &self.folder.join(name), &mesh.to_bytes(self.format))?;
            }
        }
        Ok(())
    }
}

/// Frames of a face that an animation holds at most: two hours at 30 a second, about 120 MB.
const LONGEST: usize = 216_000;
/// A face that was away for so many seconds does not come back.
const GONE: f64 = 10.0;

/// Writes one animated file of the face that was followed longest, at the end of the run.
pub struct Animated {
    path: PathBuf,
    model: Arc<FaceModel>,
    tracks: BTreeMap<u64, Track>,
    /// Connection and seconds at which time begins.
    start: Option<(u32, f64)>,
}

/// What is kept of a face.
#[derive(Default)]
struct Track {
    keys: Vec<Key>,
    /// Seconds of its last frame.
    last: f64,
    /// Colours from the best view so far, and how good that was.
    colours: Vec<[u8; 3]>,
    best: f32,
}

impl Animated {
    /// Begins the file.
    ///
    /// # Errors
    /// [`Error::Sink`] if it cannot be created.
    pub fn open(path: &Path, model: &Arc<FaceModel>) -> Result<Self> {
        // Whatever is wrong with the path is known before the first frame is.
        super::Anew::open(path).map_err(|e| {
            Error::Sink(format!(
                "cannot create {}: {e}; name another file with --mesh",
                path.display()
            ))
        })?;
        Ok(Self { path: path.into(), model: model.clone(), tracks: BTreeMap::new(), start: None })
    }
}

impl Track {
    fn add(&mut self, time: f64, face: &Face, shot: &Shot, model: &FaceModel) {
        let time = time as f32;
        if self.keys.last().is_some_and(|last| last.time >= time) || self.keys.len() >= LONGEST {
            return;
        }
        self.last = shot.frame.pts;
        self.keys.push(Key { time, params: face.params.clone() });
        // Large, sure, seen from the front; a slightly better view is not worth the work.
        let facing = rotation::matrix(&face.params.rotation)[(2, 2)].max(0.0);
        let view = face.confidence * facing.powi(4) * face.params.f;
        if self.colours.is_empty() || view > 1.05 * self.best {
            self.best = view;
            self.colours = mesh::colours(&of_model(model, face), &shot.frame.image);
        }
    }
}

impl Sink for Animated {
    fn take(&mut self, shot: &Shot) -> Result<()> {
        let (connection, pts) = (shot.frame.connection, shot.frame.pts);
        let start = match self.start {
            Some((same, start)) if same == connection => start,
            _ => self.start.insert((connection, pts)).1,
        };
        for face in &shot.faces {
            self.tracks.entry(face.id).or_default().add(pts - start, face, shot, &self.model);
        }
        // Whoever has gone and was not the longest will not be in the file.
        let longest = self.tracks.values().map(|t| t.keys.len()).max().unwrap_or(0);
        self.tracks.retain(|_, t| (pts - t.last).abs() < GONE || t.keys.len() == longest);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let longest = self.tracks.iter().max_by_key(|(id, t)| (t.keys.len(), u64::MAX - **id));
        let Some((id, track)) = longest else {
            let (path, state) = (self.path.display(), super::untouched(&self.path));
            tracing::warn!("no face came, so {path} {state}");
            return Ok(());
        };
        if track.keys.len() >= LONGEST {
            tracing::warn!("{} holds the first {LONGEST} frames only", self.path.display());
        }
        // One identity for all frames, with the pose that fits it.
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
        super::write("the animation", &self.path, &file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::Params;
    use crate::frame::{Frame, Image};

    fn shot(model: &FaceModel, pts: f64, connection: u32, ids: &[u64]) -> Shot {
        let image = Image::from_rgb(2, 2, vec![90; 12]).expect("an image");
        let (time, arrived) = (std::time::SystemTime::now(), std::time::Instant::now());
        let frame = Frame { number: 5, pts, time, arrived, connection, file: None, image };
        let pose = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let (identity, expression) =
            (vec![0.1; model.identities], vec![0.2; model.expressions.len()]);
        let params = Params::from_outputs(pose, &identity, &expression).expect("finite");
        let face = |&id: &u64| Face {
            id,
            confidence: 1.0,
            bounds: [0.0; 4],
            vertices: model.vertices(&params),
            params: params.clone(),
            landmarks: vec![],
            volume: None,
        };
        Shot { frame, faces: ids.iter().map(face).collect(), status: String::new() }
    }

    fn model() -> Arc<FaceModel> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/face-model.safetensors");
        let bytes = std::fs::read(&path).expect("the face model");
        Arc::new(FaceModel::from_bytes(&bytes, &path).expect("a face model"))
    }

    #[test]
    fn the_face_that_was_followed_longest_is_animated() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, model) = (folder.path().join("a.glb"), model());
        let mut sink = Animated::open(&path, &model).expect("opens");
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
            sink.take(&shot(&model, pts, connection, ids)).expect("takes");
        }
        assert_eq!(
            sink.tracks.keys().copied().collect::<Vec<_>>(),
            [3],
            "the others are forgotten"
        );
        Box::new(sink).finish().expect("written");
        let file = std::fs::read(path).expect("a file");
        assert!(String::from_utf8_lossy(&file).contains("\"name\":\"face 3\""));
    }

    #[test]
    fn what_cannot_be_written_is_a_sinks_failure() {
        let (full, model) = (Path::new("/dev/full"), model());
        let mut sink = Animated::open(full, &model).expect("opens");
        sink.take(&shot(&model, 0.0, 1, &[1])).expect("takes");
        assert_eq!(Box::new(sink).finish().expect_err("full").exit_code(), 6);
        let file = Path::new("/dev/null/meshes");
        let refused =
            Meshes::open(file, Format::Glb, Origin::Model, &model).err().expect("refused");
        assert_eq!(refused.exit_code(), 6);
        assert!(refused.to_string().contains("--mesh"), "{refused}");
    }

    #[test]
    fn files_are_named_after_frame_or_picture() {
        let mut shot = shot(&model(), 0.0, 1, &[7]);
        assert_eq!(shot.name(&shot.faces[0]), "000005-face7");
        shot.frame.file = Some("portrait.of.me.jpg".into());
        assert_eq!(shot.name(&shot.faces[0]), "portrait.of.me-face7");
    }
}
