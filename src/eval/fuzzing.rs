//! Guarantees of the readers of labels; see [`crate::fuzzing`].

use std::path::Path;

use super::dataset::{self, Dataset, Label};
use super::{matlab as file, mesh, metric};

/// Labels as JSON lines: an error can be measured against every accepted label.
///
/// # Panics
/// If a guarantee is broken.
pub fn label_lines(bytes: &[u8]) {
    let path = Path::new("/nonexistent/labels.jsonl");
    let mut data = Dataset::new(path);
    data.take_lines(bytes, path, None);
    data.faces.iter().for_each(check);
}

/// Labels in MATLAB files: arrays have whole columns, and labels are as in [`label_lines`].
///
/// # Panics
/// If a guarantee is broken.
pub fn matlab(bytes: &[u8]) {
    for array in file::arrays(bytes).iter().flat_map(|arrays| arrays.values()) {
        assert!(array.values.is_empty() || array.values.len().is_multiple_of(array.rows));
    }
    let label = dataset::from_matlab(bytes, "a.jpg".into(), "a.jpg".into());
    label.iter().for_each(check);
}

fn check(label: &Label) {
    let (size, eyes) = (metric::size(&label.points), metric::eye_line(&label.points).norm());
    assert!(size > 0.0 && size.is_finite() && eyes > 0.0 && eyes.is_finite());
    let offsets = metric::offsets(&[[0.0; 2]; 68], &label.points);
    assert!(offsets.as_flattened().iter().all(|v| v.is_finite()));
    assert!(label.pose.iter().flatten().all(|angle| angle.abs() <= 360.0));
}

/// The true mesh of a face as a Wavefront OBJ: corners exist and coordinates are finite.
///
/// # Panics
/// If a guarantee is broken.
pub fn obj(bytes: &[u8]) {
    let Ok(mesh) = mesh::parse(bytes) else { return };
    let count = mesh.points.len();
    assert!(mesh.triangles.as_flattened().iter().all(|&corner| (corner as usize) < count));
    assert!(mesh.points.as_flattened().iter().all(|v| v.is_finite()));
}
