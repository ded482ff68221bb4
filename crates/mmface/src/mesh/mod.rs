//! Triangle meshes and mesh files.
//!
//! In memory a mesh is in pixels of the frame: x to the right, y down, z toward the camera. In
//! files y points up, so that viewers show the head upright and axes are right-handed: file = (x,
//! −y, z).

mod animation;
mod colour;
mod glb;
mod text;
mod view;

pub use animation::{Animation, Key, animated};
pub use colour::colours;
pub use view::visible;

/// A mesh in pixels of the frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mesh {
    /// Vertices: x to the right, y down, z toward the camera.
    pub points: Vec<[f32; 3]>,
    /// Vertex indices, counter-clockwise as seen from outside.
    pub triangles: Vec<[u32; 3]>,
    /// R, G, B of each vertex (sRGB), or empty.
    pub colours: Vec<[u8; 3]>,
}

/// Formats of mesh files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Wavefront OBJ, with colours after the coordinates.
    Obj,
    /// Stanford PLY, binary.
    Ply,
    /// glTF 2.0, binary.
    #[default]
    Glb,
}

impl Format {
    /// The file name extension.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Obj => "obj",
            Self::Ply => "ply",
            Self::Glb => "glb",
        }
    }
}

impl Mesh {
    /// The mesh as the bytes of a file.
    #[must_use]
    pub fn to_bytes(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Obj => text::obj(self),
            Format::Ply => text::ply(self),
            Format::Glb => glb::still(self),
        }
    }

    /// The points in the axes of files: y up.
    fn upright(&self) -> impl Iterator<Item = [f32; 3]> {
        self.points.iter().map(|&[x, y, z]| [x, -y, z])
    }

    /// Unit normals of the points, pointing outwards, with y up: the mean of the adjacent
    /// triangles' normals, weighted by area.
    #[must_use]
    pub fn normals(&self) -> Vec<[f32; 3]> {
        let upright: Vec<_> = self.upright().collect();
        normals(&upright, &self.triangles)
    }
}

/// Unit normals of points given with y up.
fn normals(points: &[[f32; 3]], triangles: &[[u32; 3]]) -> Vec<[f32; 3]> {
    let mut sums = vec![[0.0f32; 3]; points.len()];
    for triangle in triangles {
        let [a, b, c] = triangle.map(|i| points[i as usize]);
        let normal = cross(minus(b, a), minus(c, a));
        for &corner in triangle {
            sums[corner as usize].iter_mut().zip(normal).for_each(|(sum, n)| *sum += n);
        }
    }
    for sum in &mut sums {
        let length = dot(*sum, *sum).sqrt();
        // A point without a triangle gets a normal towards the camera.
        *sum = if length > 0.0 { sum.map(|v| v / length) } else { [0.0, 0.0, 1.0] };
    }
    sums
}

fn minus(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    std::array::from_fn(|k| a[k] - b[k])
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
