//! Compares fitted meshes and volumes with true meshes while the run is in progress.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mmface::Face;
use mmface::bounds::iou;
use mmface::face::FaceModel;
use mmface::limited::open_limited;
use mmface::mesh::Mesh;
use mmface::volume::{Aligner, Distance, Solid};

use super::dataset::Label;
use super::metric::{self, MIN_OVERLAP, box_of};
use crate::sink::FrameEvent;

/// Comparison of a face's mesh and volume with the true mesh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    /// Indices of the label: of its data set, and within the data set.
    pub label: (usize, usize),
    /// Share of voxels that differ between the volume and the true solid, 0…1, if there is a
    /// volume.
    pub voxels: Option<f64>,
    /// Share of voxels that differ between the fitted mesh, filled, and the true solid.
    pub solid: Option<f64>,
    /// Distance of the fitted mesh from the true mesh.
    pub distance: Distance,
}

/// A label with a true mesh.
pub(super) struct Known {
    /// Indices of the label: of its data set, and within the data set.
    pub place: (usize, usize),
    pub label: Label,
}

/// Labels with a true mesh, by the index of their picture.
pub(super) type ByPicture = HashMap<usize, Vec<Known>>;

/// Compares faces with the true meshes of their labels.
pub(super) struct MeshJudge {
    aligner: Aligner,
    model: Arc<FaceModel>,
    labels: ByPicture,
}

impl MeshJudge {
    /// `labels`: those of all pictures of the run.
    pub(super) fn new(model: Arc<FaceModel>, labels: ByPicture) -> Self {
        Self { aligner: Aligner::new(model.clone()), model, labels }
    }

    /// Compares the faces in a picture with the true meshes of its labels.
    pub(super) fn judge(&self, picture: usize, frame: &FrameEvent) -> Vec<Fit> {
        let mut fits = Vec::new();
        for known in self.labels.get(&picture).into_iter().flatten() {
            let label = &known.label;
            let there = box_of(&label.points);
            let shared = |face: &Face| iou(face.bounds, there);
            let face = frame.faces().max_by(|a, b| shared(a.1).total_cmp(&shared(b.1)));
            let Some((place, _)) = face.filter(|(_, face)| shared(face) >= MIN_OVERLAP) else {
                continue;
            };
            let Some(path) = &label.mesh else { continue };
            match read(path) {
                Ok(truth) => fits.extend(self.fit(frame, place, known, &truth)),
                Err(why) => {
                    tracing::warn!("the mesh {}: {why}; going on without it", path.display());
                }
            }
        }
        fits
    }

    fn fit(&self, frame: &FrameEvent, place: usize, known: &Known, truth: &Mesh) -> Option<Fit> {
        let (vertices, size) = (frame.mesh(place), metric::size(&known.label.points));
        let distance = self.aligner.distance(vertices, truth, size)?;
        let (mut voxels, mut solid) = (None, None);
        if let Some(volume) = frame.volume(place) {
            let within = |points: &[[f32; 3]], triangles: &[[u32; 3]]| {
                Solid::new(points, triangles, volume.map(), volume.resolution())
            };
            let true_solid = within(&truth.points, &truth.triangles);
            voxels = true_solid.mismatch(volume.filled());
            solid = true_solid.mismatch(within(vertices, &self.model.triangles).filled());
        }
        Some(Fit { label: known.place, voxels, solid, distance })
    }
}

/// Most bytes of a mesh.
const LARGEST: u64 = 256 << 20;

/// Reads a Wavefront OBJ in frame pixels with y up, as written with `--mesh-format obj`. The error
/// is a reason.
fn read(path: &Path) -> std::result::Result<Mesh, String> {
    let file = open_limited(path, LARGEST).map_err(|e| e.why.to_string())?;
    parse(std::io::BufReader::new(file))
}

/// Parses the text of such a file.
pub(super) fn parse(mut text: impl std::io::BufRead) -> std::result::Result<Mesh, String> {
    let options = tobj::LoadOptions { triangulate: true, ..Default::default() };
    let (models, _) = tobj::load_obj_buf(
        &mut text,
        &options,
        // Materials are ignored.
        |_| Ok(Default::default()),
    )
    .map_err(|e| e.to_string())?;
    let mut mesh = Mesh::default();
    for tobj::Model { mesh: part, .. } in models {
        let first = mesh.points.len() as u32;
        mesh.points.extend(part.positions.as_chunks::<3>().0.iter().map(|&[x, y, z]| [x, -y, z]));
        let triangles = part.indices.as_chunks::<3>().0.iter();
        mesh.triangles.extend(triangles.map(|corners| corners.map(|i| first + i)));
    }
    let count = mesh.points.len() as u32;
    if mesh.triangles.is_empty() || mesh.triangles.as_flattened().iter().any(|i| *i >= count) {
        return Err("it has no triangles, or some of points that are not there".into());
    }
    if mesh.points.as_flattened().iter().any(|v| !v.is_finite()) {
        return Err("a coordinate is no number".into());
    }
    Ok(mesh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmface::mesh::Format;

    #[test]
    fn a_mesh_comes_back_from_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.obj");
        let mesh = Mesh {
            points: vec![[1.0, 2.0, 3.0], [4.0, -5.0, 6.5], [0.25, 8.0, 9.0], [1.0, 1.0, 1.0]],
            triangles: vec![[0, 1, 2], [2, 1, 3]],
            colours: Vec::new(),
        };
        std::fs::write(&path, mesh.to_bytes(Format::Obj)).expect("written");
        assert_eq!(read(&path).expect("a mesh"), mesh);
        // Squares are cut into triangles; indices may have texture and normal beside them.
        let text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1 4//1\n";
        std::fs::write(&path, text).expect("written");
        assert_eq!(read(&path).expect("a mesh").triangles.len(), 2);
        for wrong in
            ["", "v 0 0 0\n", "v 0 0 0\nf 1 2 3\n", "v 0 0 nan\nv 0 1 0\nv 1 0 0\nf 1 2 3\n"]
        {
            std::fs::write(&path, wrong).expect("written");
            assert!(read(&path).is_err(), "{wrong}");
        }
        assert!(read(&folder.path().join("none.obj")).is_err());
    }
}
