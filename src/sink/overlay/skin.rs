//! The look of a face's surface: materials of the mesh's regions, the visible part of the mesh, and
//! lighting.

use super::canvas::Canvas;
use super::raster::Layer;
use mmface::face::{FaceModel, Params, rotation};

/// Direction to the key light in camera space (x right, y up, z toward the viewer); not normalised.
const KEY: [f32; 3] = [-0.45, 0.6, 0.75];
/// Direction to the fill light.
const FILL: [f32; 3] = [0.8, 0.1, 0.5];

/// Material of a vertex.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Material {
    /// Base colour, 0…255.
    rgb: [f32; 3],
    /// Share of the face's tint in the colour, 0…1.
    tinted: f32,
    /// Opacity, 0…1.
    opacity: f32,
    /// Strength of the highlight, 0…1.
    gloss: f32,
}

/// Directions of ambient light, which comes from everywhere in front: pitches and yaws in degrees.
const PITCHES: [f32; 4] = [-48.0, -16.0, 16.0, 48.0];
const YAWS: [f32; 5] = [-70.0, -35.0, 0.0, 35.0, 70.0];

/// Side of the depth images for ambient occlusion, in pixels.
const SHADOW_SIDE: usize = 128;

const SKIN: Material =
    Material { rgb: [226.0, 228.0, 234.0], tinted: 0.62, opacity: 0.58, gloss: 0.3 };
const LIPS: Material =
    Material { rgb: [226.0, 96.0, 118.0], tinted: 0.1, opacity: 0.66, gloss: 0.4 };
const MOUTH: Material =
    Material { rgb: [150.0, 50.0, 60.0], tinted: 0.0, opacity: 0.5, gloss: 0.0 };
const SOCKET: Material =
    Material { rgb: [120.0, 80.0, 80.0], tinted: 0.3, opacity: 0.5, gloss: 0.0 };
const EYE: Material =
    Material { rgb: [250.0, 250.0, 250.0], tinted: 0.0, opacity: 0.62, gloss: 0.3 };
const IRIS: Material =
    Material { rgb: [70.0, 110.0, 120.0], tinted: 0.3, opacity: 0.85, gloss: 0.9 };
const PUPIL: Material = Material { rgb: [12.0, 14.0, 18.0], tinted: 0.0, opacity: 0.9, gloss: 0.9 };

/// Materials of the model's regions, by name. A vertex on a border gets the material of the later
/// region.
const REGIONS: [(&str, Material); 7] = [
    ("head_neck", SKIN),
    ("face", SKIN),
    ("eye_socket", SOCKET),
    ("mouth", MOUTH),
    ("eye", EYE),
    ("iris", IRIS),
    ("pupil", PUPIL),
];

/// The look of the faces of one face model.
pub(super) struct Skin {
    /// Vertex indices, counter-clockwise as seen from outside.
    pub triangles: Vec<[u32; 3]>,
    materials: Vec<Material>,
    /// Ambient occlusion of each vertex: share of the ambient light that reaches it, 0…1. Makes
    /// nostrils and corners of the eyes dark.
    ambient: Vec<f32>,
    normals: Vec<[f32; 3]>,
}

impl Skin {
    /// The look of a model: materials from its regions; lips and visible part from its landmarks.
    pub(super) fn of(model: &FaceModel) -> Self {
        let neutral = view(1.0, [0.0; 3], [0.0; 3]);
        let landmarks = model.landmarks3d(&neutral);
        let upright: Vec<_> = landmarks.iter().map(|[x, y, z]| [*x, -y, *z]).collect();
        Self::new(
            &model.triangles,
            &model.triangle_region,
            &model.regions,
            &model.shape(&neutral),
            &upright,
        )
    }

    /// `shape`: the neutral mesh in model space; `landmarks`: its 68 landmarks. y points up in
    /// both.
    fn new(
        triangles: &[[u32; 3]],
        triangle_region: &[u8],
        regions: &[String],
        shape: &[[f32; 3]],
        landmarks: &[[f32; 3]],
    ) -> Self {
        let rank = |region: u8| {
            let name = regions.get(usize::from(region)).map_or("", String::as_str);
            REGIONS.iter().position(|(known, _)| *known == name).unwrap_or(1)
        };
        let mut ranks = vec![0; shape.len()];
        for (triangle, region) in triangles.iter().zip(triangle_region) {
            for &corner in triangle {
                let of_vertex = &mut ranks[corner as usize];
                *of_vertex = rank(*region).max(*of_vertex);
            }
        }
        let mask = Mask::new(landmarks);
        let materials = ranks.iter().zip(shape).map(|(&rank, &place)| match rank {
            0 | 1 => {
                let skin = mix(SKIN, LIPS, mask.lips(place));
                Material { opacity: skin.opacity * mask.reach(place), ..skin }
            }
            _ => REGIONS[rank].1,
        });
        let mut skin = Self {
            triangles: triangles.to_vec(),
            materials: materials.collect(),
            ambient: Vec::new(),
            normals: Vec::new(),
        };
        skin.find_ambient(shape);
        skin
    }

    /// Number of vertices.
    pub(super) fn len(&self) -> usize {
        self.materials.len()
    }

    /// Visibility of a vertex: 1 on the face, 0 on ears, neck and hair.
    pub(super) fn reach(&self, vertex: usize) -> f32 {
        self.materials.get(vertex).map_or(0.0, |m| (m.opacity / MOUTH.opacity).min(1.0))
    }

    /// Computes the colour of every vertex: R, G, B (0…255) premultiplied by the opacity, which is
    /// the fourth value. `points`: the mesh in pixels, z toward the viewer; `tint`: the colour of
    /// this face.
    pub(super) fn shade(
        &mut self,
        points: &[[f32; 3]],
        tint: [f32; 3],
        colours: &mut Vec<[f32; 4]>,
    ) {
        self.find_normals(points);
        let (key, fill) = (unit(KEY), unit(FILL));
        // Half vector between the direction to the light and the direction to the viewer.
        let half = unit([key[0], key[1], key[2] + 1.0]);
        colours.clear();
        let vertices = self.normals.iter().zip(&self.materials).zip(&self.ambient);
        colours.extend(vertices.map(|((&normal, material), open)| {
            let n = unit(normal);
            let sky = 0.5 + 0.5 * n[1];
            // The sum is at most about 1, because clipping a channel would change the hue.
            let direct = 0.6 * dot(n, key).max(0.0) + 0.12 * dot(n, fill).max(0.0);
            let light = (0.36 + 0.12 * sky + direct) * (0.25 + 0.75 * open);
            let highlight = material.gloss * dot(n, half).max(0.0).powi(24);
            let rim = 0.2 * (1.0 - n[2]).clamp(0.0, 1.0).powi(3);
            let white = open * (highlight + rim).min(1.0);
            let lit = |c: usize| {
                let own = material.rgb[c] + material.tinted * (tint[c] - material.rgb[c]);
                let own = (own * light).min(255.0);
                (own + (255.0 - own) * white) * material.opacity
            };
            [lit(0), lit(1), lit(2), 255.0 * material.opacity]
        }));
    }

    /// Computes ambient occlusion: draws the neutral mesh from many directions and counts from how
    /// many of them each vertex is visible.
    fn find_ambient(&mut self, shape: &[[f32; 3]]) {
        let reach = shape.iter().flatten().fold(1e-6f32, |most, v| most.max(v.abs()));
        let middle = SHADOW_SIDE as f32 / 2.0;
        let scale = middle / (2.0 * reach);
        let (mut canvas, mut layer) = (Canvas::black(SHADOW_SIDE, SHADOW_SIDE), Layer::default());
        let colours = vec![[255.0; 4]; shape.len()];
        // For each vertex: the light that reaches it, and the light without occlusion.
        let mut light = vec![[0.0f32; 2]; shape.len()];
        for (pitch, yaw) in PITCHES.iter().flat_map(|pitch| YAWS.map(|yaw| (*pitch, yaw))) {
            let points = view(scale, [pitch, yaw, 0.0], [middle, middle, 0.0]).project(shape);
            self.find_normals(&points);
            layer.draw(&mut canvas, &points, &colours, &self.triangles);
            for ((light, normal), &[x, y, z]) in light.iter_mut().zip(&self.normals).zip(&points) {
                let facing = unit(*normal)[2].max(0.0);
                // With a tolerance of one pixel in depth, so that a surface does not shade itself.
                let lit = z + 1.0 >= layer.depth([x, y]);
                light[0] += if lit { facing } else { 0.0 };
                light[1] += facing;
            }
        }
        self.ambient = light.iter().map(|[has, all]| (has + 0.01) / (all + 0.01)).collect();
    }

    /// Sums the normals of the triangles around each vertex, weighted by area; y up.
    fn find_normals(&mut self, points: &[[f32; 3]]) {
        self.normals.clear();
        self.normals.resize(points.len(), [0.0; 3]);
        for triangle in &self.triangles {
            let [a, b, c] = triangle.map(|i| points[i as usize]);
            let (u, v) =
                ([b[0] - a[0], a[1] - b[1], b[2] - a[2]], [c[0] - a[0], a[1] - c[1], c[2] - a[2]]);
            let normal =
                [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
            for &corner in triangle {
                let sum = &mut self.normals[corner as usize];
                sum.iter_mut().zip(normal).for_each(|(s, n)| *s += n);
            }
        }
    }
}

/// The neutral face in a given pose.
fn view(f: f32, angles: [f32; 3], t: [f32; 3]) -> Params {
    let rotation = rotation::from_angles(angles);
    Params { f, rotation, t, ..Params::neutral() }
}

/// Parts of the neutral face, derived from its landmarks.
struct Mask {
    lips: Vec<[f32; 3]>,
    /// Centre of the visible part (height).
    middle: f32,
    /// Half axes of the visible part: an ellipse.
    half: [f32; 2],
    /// Depth of the ears.
    ears: f32,
}

impl Mask {
    fn new(landmarks: &[[f32; 3]]) -> Self {
        let point = |i: usize| landmarks.get(i).copied().unwrap_or_default();
        let half_width = (point(16)[0] - point(0)[0]).abs() / 2.0;
        // The landmarks end at the brows; the hair line is about a quarter of the face's width
        // above.
        let (top, bottom) = (point(24)[1] + 0.5 * half_width, point(8)[1]);
        Self {
            lips: landmarks.get(48..60).unwrap_or_default().to_vec(),
            middle: (top + bottom) / 2.0,
            half: [half_width, (top - bottom) / 2.0],
            ears: (point(0)[2] + point(16)[2]) / 2.0,
        }
    }

    /// Visibility of the skin at a place: 1 on the face, decreasing to 0 toward ears, neck and
    /// hair.
    fn reach(&self, [x, y, z]: [f32; 3]) -> f32 {
        let out = (x / self.half[0]).hypot((y - self.middle) / self.half[1]);
        let behind = (self.ears - z) / self.half[0];
        (1.0 - smooth((out - 0.9) / 0.25)) * (1.0 - smooth(behind / 0.3))
    }

    /// 1 on the lips, 0 elsewhere, with a soft border.
    fn lips(&self, [x, y, _]: [f32; 3]) -> f32 {
        let mut inside = false;
        let mut nearest = f32::MAX;
        for (i, a) in self.lips.iter().enumerate() {
            let b = self.lips[(i + 1) % self.lips.len()];
            if (a[1] > y) != (b[1] > y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]) {
                inside = !inside;
            }
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            let along = ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy).max(1e-9);
            let along = along.clamp(0.0, 1.0);
            nearest = nearest.min((x - a[0] - along * dx).hypot(y - a[1] - along * dy));
        }
        let border = 0.02 * self.half[0];
        smooth(0.5 + if inside { nearest } else { -nearest } / border / 2.0)
    }
}

fn mix(a: Material, b: Material, t: f32) -> Material {
    let mix = |a: f32, b: f32| a + (b - a) * t;
    Material {
        rgb: std::array::from_fn(|c| mix(a.rgb[c], b.rgb[c])),
        tinted: mix(a.tinted, b.tinted),
        opacity: mix(a.opacity, b.opacity),
        gloss: mix(a.gloss, b.gloss),
    }
}

/// Smoothstep: 0 for t ≤ 0, 1 for t ≥ 1, smooth in between.
fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(v: [f32; 3]) -> [f32; 3] {
    let length = dot(v, v).sqrt().max(1e-12);
    v.map(|c| c / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 68 landmarks: a face 2 wide, chin at -1, brows at 1, a square mouth around (0, -0.5).
    fn landmarks() -> Vec<[f32; 3]> {
        let mut points = vec![[0.0; 3]; 68];
        (points[0], points[16]) = ([-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]);
        (points[8], points[24]) = ([0.0, -1.0, 0.5], [0.4, 1.0, 0.5]);
        let corners = [[-0.3, -0.4, 0.5], [0.3, -0.4, 0.5], [0.3, -0.6, 0.5], [-0.3, -0.6, 0.5]];
        (48..60).for_each(|i| points[i] = corners[(i - 48) / 3]);
        points
    }

    #[test]
    fn the_mask_ends_at_ears_neck_and_hair() {
        let mask = Mask::new(&landmarks());
        assert_eq!(mask.reach([0.0, 0.2, 0.5]), 1.0);
        for far in [[1.3, 0.2, 0.5], [0.0, -1.4, 0.5], [0.0, 2.0, 0.5], [0.0, 0.2, -0.5]] {
            assert_eq!(mask.reach(far), 0.0, "{far:?}");
        }
    }

    #[test]
    fn lips_are_inside_their_outline() {
        let mask = Mask::new(&landmarks());
        assert_eq!(mask.lips([0.0, -0.5, 0.5]), 1.0);
        assert_eq!(mask.lips([0.0, 0.0, 0.5]), 0.0);
        assert!((mask.lips([0.3, -0.5, 0.5]) - 0.5).abs() < 0.01);
    }

    #[test]
    fn what_faces_the_light_is_brighter_and_what_is_covered_darker() {
        // A small square under a large one, seen from the front, and one that stands free.
        let square = |x: f32, half: f32, z: f32| {
            [[-half, -half], [half, -half], [half, half], [-half, half]].map(|[u, v]| [x + u, v, z])
        };
        let shape = [square(0.0, 0.1, 0.0), square(0.0, 0.5, 0.1), square(1.5, 0.1, 0.0)].concat();
        let quads = (0..3).flat_map(|q| [[0, 1, 2], [0, 2, 3]].map(|t| t.map(|i| i + 4 * q)));
        let triangles: Vec<[u32; 3]> = quads.collect();
        let regions = ["face".to_owned()];
        let mut skin = Skin::new(&triangles, &[0; 6], &regions, &shape, &landmarks());
        assert!(skin.ambient[0] < 0.3 && skin.ambient[8] > 0.9, "{:?}", skin.ambient);
        let mut brightness = |pitch: f32| {
            let points = view(10.0, [pitch, 0.0, 0.0], [0.0; 3]).project(&shape);
            let mut colours = Vec::new();
            skin.shade(&points, [200.0; 3], &mut colours);
            colours[4][0] / colours[4][3]
        };
        let (up, down) = (brightness(30.0), brightness(-50.0));
        assert!(up > down, "{up} {down}");
    }
}
