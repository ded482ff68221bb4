//! Extracts the surface of a volume as a mesh.

use fast_surface_nets::ndshape::RuntimeShape;
use fast_surface_nets::{SurfaceNetsBuffer, surface_nets};

use super::Volume;
use crate::mesh::Mesh;

/// Weights of a binomial blur along each axis: of the second neighbours, the first neighbours and
/// the voxel itself. It removes the stair steps of nearly binary probabilities. Standard deviation:
/// one voxel. A ball with a radius of R voxels shrinks by about 1/R voxels.
const BLUR: [f32; 3] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0];
/// Resolution of the feature map that volumes are computed from. Finer volumes are upsampled from
/// it, so their steps are longer than a voxel; they are blurred and smoothed correspondingly more
/// often.
const FEATURES: usize = 64;
/// Value of an empty voxel: 127.5 − 255 p, with probability p = 0.
const EMPTY: f32 = 127.5;
/// Rounds of mesh smoothing.
const ROUNDS: usize = 6;
/// Taubin smoothing (*A Signal Processing Approach to Fair Surface Design*, SIGGRAPH 1995): a point
/// moves by the first part of the way towards the mean of its neighbours, then by the second part
/// away from it, so that the surface does not shrink.
const STEPS: [f32; 2] = [0.5, -0.53];

/// The surface where the probability is ½, in pixels of the frame: the blurred volume's surface net
/// (naive surface nets), of which the largest connected part is kept and slightly smoothed. The
/// mesh is closed, because everything outside the volume counts as empty. It has no points if
/// nothing is filled.
#[must_use]
pub fn surface(volume: &Volume) -> Mesh {
    // Two empty voxels on every side: the blur reaches two voxels, and the border gets no faces.
    let side = volume.resolution() + 4;
    let mut field = vec![EMPTY; side * side * side];
    for (index, row) in volume.values().chunks_exact(volume.resolution()).enumerate() {
        let (slice, line) = (index / volume.resolution() + 2, index % volume.resolution() + 2);
        let start = (slice * side + line) * side + 2;
        for (out, value) in field[start..].iter_mut().zip(row) {
            *out = EMPTY - f32::from(*value);
        }
    }
    let times = (volume.resolution() / FEATURES).max(1);
    for step in [1, side, side * side].repeat(times) {
        blur(&mut field, step);
    }
    let shape = RuntimeShape::<u32, 3>::new([side as u32; 3]);
    let mut net = SurfaceNetsBuffer::default();
    surface_nets(&field, &shape, [0; 3], [side as u32 - 1; 3], &mut net);
    let (mut points, triangles) = largest(&net.positions, net.indices.as_chunks().0);
    smooth(&mut points, &triangles, times * ROUNDS);
    let place = |&[x, y, z]: &[f32; 3]| volume.place([z - 2.0, y - 2.0, x - 2.0]);
    Mesh { points: points.iter().map(place).collect(), triangles, colours: Vec::new() }
}

/// Blurs along one axis; neighbours are `step` apart. Values within two voxels of the border stay
/// empty.
fn blur(field: &mut Vec<f32>, step: usize) {
    let count = field.len() - 4 * step;
    let at = |k: usize| &field[k * step..k * step + count];
    let mut out = vec![EMPTY; field.len()];
    let pairs = at(0).iter().zip(at(1)).zip(at(2).iter().zip(at(3))).zip(at(4));
    for (out, (((a, b), (c, d)), e)) in out[2 * step..].iter_mut().zip(pairs) {
        *out = BLUR[0] * (a + e) + BLUR[1] * (b + d) + BLUR[2] * c;
    }
    *field = out;
}

/// The connected part with the most triangles (union-find).
fn largest(points: &[[f32; 3]], triangles: &[[u32; 3]]) -> (Vec<[f32; 3]>, Vec<[u32; 3]>) {
    // Each point's parent; a root represents its connected part.
    let mut parent: Vec<u32> = (0..points.len() as u32).collect();
    fn root(parent: &mut [u32], mut point: u32) -> u32 {
        while parent[point as usize] != point {
            let next = parent[parent[point as usize] as usize];
            parent[point as usize] = next;
            point = next;
        }
        point
    }
    for &[a, b, c] in triangles {
        let a = root(&mut parent, a);
        for other in [b, c] {
            let other = root(&mut parent, other);
            parent[other as usize] = a;
        }
    }
    let mut sizes = vec![0; points.len()];
    for triangle in triangles {
        sizes[root(&mut parent, triangle[0]) as usize] += 1;
    }
    let Some(main) = (0..points.len() as u32).max_by_key(|i| sizes[*i as usize]) else {
        return Default::default();
    };
    let mut kept = Vec::new();
    let names: Vec<u32> = (0..points.len() as u32)
        .map(|point| {
            let name = kept.len() as u32;
            if root(&mut parent, point) == main {
                kept.push(points[point as usize]);
            }
            name
        })
        .collect();
    let triangles = triangles.iter().filter(|t| root(&mut parent, t[0]) == main);
    let triangles = triangles.map(|t| t.map(|i| names[i as usize])).collect();
    (kept, triangles)
}

fn smooth(points: &mut [[f32; 3]], triangles: &[[u32; 3]], rounds: usize) {
    let mut sums = vec![[0.0f32; 4]; points.len()];
    for step in STEPS.repeat(rounds) {
        sums.fill([0.0; 4]);
        for &[a, b, c] in triangles {
            // In a closed mesh each edge belongs to two triangles, so every neighbour counts twice.
            for (to, from) in [(a, b), (b, c), (c, a), (a, c), (c, b), (b, a)] {
                let [x, y, z] = points[from as usize];
                let sum = &mut sums[to as usize];
                sum.iter_mut().zip([x, y, z, 1.0]).for_each(|(sum, v)| *sum += v);
            }
        }
        for (point, [x, y, z, count]) in points.iter_mut().zip(&sums) {
            if *count > 0.0 {
                let middle = [x / count, y / count, z / count];
                point.iter_mut().zip(middle).for_each(|(p, m)| *p += step * (m - *p));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::CropMap;

    const MAP: CropMap =
        CropMap { centre: [400.0, 300.0], scale: 2.0, angle: 0.4, mirrored: false };

    /// A volume in which `filled` says how much of each voxel is, by its place in the frame.
    fn volume(resolution: usize, filled: impl Fn([f32; 3]) -> f32) -> Volume {
        let empty = Volume::new(vec![0; resolution.pow(3)], MAP).expect("a cube");
        let r = resolution;
        let voxels = (0..r.pow(3)).map(|i| [i / (r * r), i / r % r, i % r].map(|v| v as f32));
        let values = voxels.map(|at| (255.0 * filled(empty.place(at))) as u8).collect();
        Volume::new(values, MAP).expect("a cube")
    }

    fn ball(resolution: usize, soft: f32) -> (Volume, [f32; 3], f32) {
        let (centre, radius) = ([430.0f32, 280.0, 25.0], 130.0);
        let volume = volume(resolution, |p| {
            let distance = (0..3).map(|k| (p[k] - centre[k]).powi(2)).sum::<f32>().sqrt();
            ((radius - distance) / soft + 0.5).clamp(0.0, 1.0)
        });
        (volume, centre, radius)
    }

    #[test]
    fn a_ball_lies_where_it_is() {
        // Soft, as a network sees it, and with hard voxels, the worst case.
        for (resolution, soft) in [(64, 24.0), (64, 1e-3), (128, 1e-3)] {
            let (volume, centre, radius) = ball(resolution, soft);
            let mesh = surface(&volume);
            assert!(mesh.points.len() > 1000);
            for p in &mesh.points {
                let distance = (0..3).map(|k| (p[k] - centre[k]).powi(2)).sum::<f32>().sqrt();
                let off = (distance - radius).abs() / volume.step();
                assert!(off < if soft > 1.0 { 0.15 } else { 0.5 }, "{off} voxels off at {p:?}");
            }
        }
    }

    #[test]
    fn triangles_look_outwards() {
        let (volume, centre, _) = ball(64, 1e-3);
        let mesh = surface(&volume);
        for (p, n) in mesh.points.iter().zip(mesh.normals()) {
            let out = [p[0] - centre[0], centre[1] - p[1], p[2] - centre[2]];
            assert!((0..3).map(|k| out[k] * n[k]).sum::<f32>() > 0.0, "{p:?} {n:?}");
        }
    }

    #[test]
    fn it_is_closed_also_at_the_border() {
        let mesh = surface(&volume(24, |_| 1.0));
        let mut edges = std::collections::HashMap::<(u32, u32), i32>::new();
        for &[a, b, c] in &mesh.triangles {
            for (from, to) in [(a, b), (b, c), (c, a)] {
                *edges.entry((from.min(to), from.max(to))).or_default() +=
                    if from < to { 1 } else { -1 };
            }
        }
        assert!(!edges.is_empty() && edges.values().all(|sum| *sum == 0));
    }

    #[test]
    fn specks_are_left_out_and_nothing_has_no_surface() {
        let both = volume(48, |p| {
            let near =
                |c: [f32; 3], r: f32| (0..3).map(|k| (p[k] - c[k]).powi(2)).sum::<f32>() < r * r;
            f32::from(u8::from(near([400.0, 300.0, 0.0], 90.0) || near([400.0, 480.0, 0.0], 25.0)))
        });
        let mesh = surface(&both);
        assert!(mesh.points.iter().all(|p| p[1] < 400.0));
        assert_eq!(surface(&volume(16, |_| 0.0)), Mesh::default());
    }
}
