//! Fitted meshes and volumes held against true meshes, while the pictures go through the program.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::dataset::Label;
use super::judge::{SAME, box_of};
use super::metric;
use crate::detect::overlap;
use crate::face::FaceModel;
use crate::mesh::Mesh;
use crate::sink::{Face, Shot, Sink};
use crate::volume::{Aligner, Distance, Solid};
use crate::{Error, Result};

/// How a face's mesh and volume compare with the true mesh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Which label: its data set's place and its own in it.
    pub label: (usize, usize),
    /// Share of voxels that differ, 0…1, if there is a volume: of the volume, …
    pub voxels: Option<f64>,
    /// … and of the solid that the fitted mesh bounds.
    pub solid: Option<f64>,
    /// From the fitted mesh to the true one.
    pub distance: Distance,
}

/// A label that names a mesh.
pub struct Known {
    /// Its data set's place and its own in that.
    pub place: (usize, usize),
    /// It.
    pub label: Label,
}

/// Such labels by the place of their picture in the run.
pub type ByPicture = HashMap<usize, Vec<Known>>;

/// Judges every face whose label names a mesh.
pub struct Judge {
    aligner: Aligner,
    model: Arc<FaceModel>,
    labels: ByPicture,
    fits: Sender<Fit>,
}

impl Judge {
    /// With the labels of the pictures that will come.
    pub fn new(model: Arc<FaceModel>, labels: ByPicture, fits: Sender<Fit>) -> Self {
        Self { aligner: Aligner::new(model.clone()), model, labels, fits }
    }

    fn fit(&self, face: &Face, known: &Known, truth: &Mesh) -> Option<Fit> {
        let size = metric::size(&known.label.points);
        let distance = self.aligner.distance(&face.vertices, truth, size)?;
        let (mut voxels, mut solid) = (None, None);
        if let Some(volume) = &face.volume {
            let within = |points: &[[f32; 3]], triangles: &[[u32; 3]]| {
                Solid::new(points, triangles, volume.map(), volume.resolution())
            };
            let true_solid = within(&truth.points, &truth.triangles);
            voxels = true_solid.mismatch(volume.filled());
            solid = true_solid.mismatch(within(&face.vertices, &self.model.triangles).filled());
        }
        Some(Fit { label: known.place, voxels, solid, distance })
    }
}

impl Sink for Judge {
    fn take(&mut self, shot: &Shot) -> Result<()> {
        // A picture's time is its place in the list.
        for known in self.labels.get(&(shot.frame.pts as usize)).into_iter().flatten() {
            let label = &known.label;
            let there = box_of(&label.points);
            let shared = |face: &&Face| overlap(face.bounds, there);
            let face = shot.faces.iter().max_by(|a, b| shared(a).total_cmp(&shared(b)));
            let Some(face) = face.filter(|face| shared(face) >= SAME) else { continue };
            let Some(path) = &label.mesh else { continue };
            match read(path) {
                Ok(truth) => {
                    if let Some(fit) = self.fit(face, known, &truth) {
                        self.fits.send(fit).map_err(|e| Error::Bug(e.to_string()))?;
                    }
                }
                Err(why) => {
                    tracing::warn!("the mesh {}: {why}; going on without it", path.display());
                }
            }
        }
        Ok(())
    }
}

/// A Wavefront OBJ in frame pixels with y up, as `--mesh-format obj` writes them; or what is wrong.
fn read(path: &Path) -> std::result::Result<Mesh, String> {
    let options = tobj::LoadOptions { triangulate: true, ..Default::default() };
    let (models, _) = tobj::load_obj_buf(
        &mut std::io::BufReader::new(std::fs::File::open(path).map_err(|e| e.to_string())?),
        &options,
        // Colours come from the picture, if at all.
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
    use crate::mesh::Format;

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
