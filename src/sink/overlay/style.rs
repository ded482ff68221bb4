//! Styles that show something else than a lit face.

use mmface::mesh::{Mesh, visible};

/// How a face is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// The lit mesh, half transparent.
    #[default]
    Mesh,
    /// The edges of the mesh.
    Wire,
    /// The depth: near is yellow, far is blue.
    Depth,
    /// The normals: red to the right, green up, blue toward the camera.
    Normals,
    /// The surface of the volume, coloured by its normals.
    Volume,
}

/// Colour map for depth, from far to near, with monotonic brightness.
const DEPTHS: [[f32; 3]; 5] = [
    [38.0, 20.0, 92.0],
    [62.0, 74.0, 160.0],
    [44.0, 150.0, 150.0],
    [130.0, 205.0, 96.0],
    [252.0, 240.0, 120.0],
];

/// The colour of each point by its depth, relative to the points that `selects` selects.
pub(super) fn depths(points: &[[f32; 3]], selects: impl Fn(usize) -> bool) -> Vec<[f32; 3]> {
    let mut z: Vec<f32> =
        points.iter().enumerate().filter(|(i, _)| selects(*i)).map(|(_, p)| p[2]).collect();
    z.sort_unstable_by(f32::total_cmp);
    // The 10th percentile instead of the minimum, so that an open mouth, which is deep and small,
    // does not compress the scale.
    let far = z.get(z.len() / 10).copied().unwrap_or_default();
    let near = z.last().copied().unwrap_or_default();
    let last = (DEPTHS.len() - 1) as f32;
    let colour = |p: &[f32; 3]| {
        let at = (p[2] - far) / (near - far).max(f32::MIN_POSITIVE) * last;
        let at = if at.is_finite() { at.clamp(0.0, last) } else { 0.0 };
        let (low, part) = (at as usize, at.fract());
        let (a, b) = (DEPTHS[low], DEPTHS[(low + 1).min(DEPTHS.len() - 1)]);
        std::array::from_fn(|k| a[k] + part * (b[k] - a[k]))
    };
    points.iter().map(colour).collect()
}

/// The colour of a unit normal (y up).
pub(super) fn direction(normal: [f32; 3]) -> [f32; 3] {
    normal.map(|v| 127.5 + 127.5 * v)
}

/// The edges of visible triangles, each once. `selects` selects points.
pub(super) fn edges(
    points: &[[f32; 3]],
    triangles: &[[u32; 3]],
    selects: impl Fn(usize) -> bool,
) -> Vec<[u32; 2]> {
    let seen = visible(points, triangles);
    let faces = |[a, b, c]: [u32; 3]| {
        let [a, b, c] = [a, b, c].map(|i| points[i as usize]);
        (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]) < 0.0
    };
    let whole = |t: &[u32; 3]| t.iter().all(|i| seen[*i as usize] && selects(*i as usize));
    let shown = triangles.iter().filter(|t| whole(t) && faces(**t));
    let mut edges: Vec<[u32; 2]> = shown
        .flat_map(|&[a, b, c]| [[a, b], [b, c], [c, a]])
        .map(|[a, b]| [a.min(b), a.max(b)])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// The colours of a mesh by its normals, premultiplied, for the rasteriser.
pub(super) fn directions(mesh: &Mesh, opacity: f32) -> Vec<[f32; 4]> {
    mesh.normals().into_iter().map(|normal| opaque(direction(normal), opacity)).collect()
}

/// Premultiplies a colour by an opacity (0…1), as the rasteriser expects.
pub(super) fn opaque([r, g, b]: [f32; 3], opacity: f32) -> [f32; 4] {
    [r * opacity, g * opacity, b * opacity, 255.0 * opacity]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_bright_and_what_does_not_count_does_not_stretch_the_scale() {
        let points = [[0.0, 0.0, -500.0], [0.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 10.0]];
        let colours = depths(&points, |i| i > 0);
        assert_eq!((colours[0], colours[1], colours[3]), (DEPTHS[0], DEPTHS[0], DEPTHS[4]));
        assert_eq!(colours[2], DEPTHS[2]);
        assert_eq!(depths(&[[f32::NAN; 3]], |_| true), [DEPTHS[0]]);
    }

    #[test]
    fn normals_have_their_usual_colours() {
        assert_eq!(direction([0.0, 0.0, 1.0]), [127.5, 127.5, 255.0]);
        assert_eq!(direction([1.0, 0.0, 0.0])[0], 255.0);
    }

    #[test]
    fn each_edge_in_sight_is_drawn_once() {
        let points = [[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [9.0, 9.0, 0.0], [9.0, 0.0, 0.0]];
        let front = [[0, 1, 2], [0, 2, 3]];
        assert_eq!(edges(&points, &front, |_| true).len(), 5);
        assert_eq!(edges(&points, &front, |i| i != 3), [[0, 1], [0, 2], [1, 2]]);
        assert!(edges(&points, &[[2, 1, 0]], |_| true).is_empty(), "seen from behind");
    }
}
