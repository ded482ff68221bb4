//! Binary glTF 2.0, <https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html>.
//!
//! glTF's unit is the metre. Meshes stay in pixels, and the node's scale makes a pixel a
//! millimetre, so that a head has roughly its real size in a viewer.

use serde_json::{Value, json};

use super::Mesh;

/// Metres per pixel.
pub(super) const PIXEL: f32 = 0.001;

const MAGIC: [u8; 4] = *b"glTF";
const FLOAT: u32 = 5126;
const U16: u32 = 5123;
const U32: u32 = 5125;
const VERTICES: u32 = 34962;
const INDICES: u32 = 34963;

/// A file with a mesh that is not animated.
pub(super) fn still(mesh: &Mesh) -> Vec<u8> {
    let mut file = File::default();
    let points: Vec<_> = mesh.upright().collect();
    let primitive = file.primitive(&points, &mesh.triangles, &mesh.colours);
    file.finish(
        json!({ "name": "face", "mesh": 0, "scale": [PIXEL, PIXEL, PIXEL] }),
        json!({ "primitives": [primitive] }),
        None,
    )
}

/// A glTF file under construction: binary data, buffer views and accessors.
#[derive(Default)]
pub(super) struct File {
    bytes: Vec<u8>,
    views: Vec<Value>,
    accessors: Vec<Value>,
}

impl File {
    /// Adds a primitive: points (y up), their normals, colours (sRGB, or empty) and triangles.
    pub(super) fn primitive(
        &mut self,
        points: &[[f32; 3]],
        triangles: &[[u32; 3]],
        colours: &[[u8; 3]],
    ) -> Value {
        let mut attributes = json!({
            "POSITION": self.vectors(points, Some(VERTICES)),
            "NORMAL": self.vectors(&super::normals(points, triangles), Some(VERTICES)),
        });
        if colours.len() == points.len() {
            // Colours in glTF are linear, those of a frame are sRGB.
            let linear = |c: u8| (65535.0 * to_linear(c)).round() as u16;
            let colours =
                colours.iter().flat_map(|&[r, g, b]| [linear(r), linear(g), linear(b), u16::MAX]);
            let view = self.view(colours.flat_map(u16::to_le_bytes), Some(VERTICES));
            attributes["COLOR_0"] = self.accessor(json!({
                "bufferView": view, "componentType": U16, "normalized": true,
                "count": points.len(), "type": "VEC4",
            }));
        }
        let view =
            self.view(triangles.iter().flatten().flat_map(|i| i.to_le_bytes()), Some(INDICES));
        let indices = self.accessor(json!({
            "bufferView": view, "componentType": U32, "count": 3 * triangles.len(), "type": "SCALAR",
        }));
        json!({ "attributes": attributes, "indices": indices, "material": 0 })
    }

    /// Adds vectors of N floats, with their bounds; returns the accessor's index.
    pub(super) fn vectors<const N: usize>(
        &mut self,
        vectors: &[[f32; N]],
        target: Option<u32>,
    ) -> Value {
        let view = self.view(vectors.iter().flatten().flat_map(|v| v.to_le_bytes()), target);
        let (low, high) = bounds(vectors);
        let kind = if N == 1 { "SCALAR".into() } else { format!("VEC{N}") };
        self.accessor(json!({
            "bufferView": view, "componentType": FLOAT, "count": vectors.len(),
            "type": kind, "min": low, "max": high,
        }))
    }

    /// Adds offsets as a sparse accessor, which stores only those that are not 0; returns its
    /// index.
    pub(super) fn sparse(&mut self, offsets: &[[f32; 3]]) -> Value {
        let kept: Vec<(u32, [f32; 3])> = (0u32..)
            .zip(offsets)
            .filter(|(_, offset)| **offset != [0.0; 3])
            .map(|(index, offset)| (index, *offset))
            .collect();
        let (low, high) = bounds(offsets);
        let mut accessor = json!({
            "componentType": FLOAT, "count": offsets.len(), "type": "VEC3", "min": low, "max": high,
        });
        if !kept.is_empty() {
            let indices = self.view(kept.iter().flat_map(|(index, _)| index.to_le_bytes()), None);
            let values = kept.iter().flat_map(|(_, offset)| offset).flat_map(|v| v.to_le_bytes());
            let values = self.view(values, None);
            accessor["sparse"] = json!({
                "count": kept.len(),
                "indices": { "bufferView": indices, "componentType": U32 },
                "values": { "bufferView": values },
            });
        }
        self.accessor(accessor)
    }

    fn view(&mut self, bytes: impl Iterator<Item = u8>, target: Option<u32>) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        let mut view =
            json!({ "buffer": 0, "byteOffset": start, "byteLength": self.bytes.len() - start });
        if let Some(target) = target {
            view["target"] = json!(target);
        }
        self.views.push(view);
        self.views.len() - 1
    }

    fn accessor(&mut self, accessor: Value) -> Value {
        self.accessors.push(accessor);
        json!(self.accessors.len() - 1)
    }

    /// Completes the file: one node with one mesh, and an optional animation.
    pub(super) fn finish(mut self, node: Value, mesh: Value, animation: Option<Value>) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let mut gltf = json!({
            "asset": {
                "version": "2.0",
                "generator": concat!("mmface-live ", env!("CARGO_PKG_VERSION")),
            },
            "scene": 0,
            "scenes": [{ "nodes": [0] }],
            "nodes": [node],
            "meshes": [mesh],
            "materials": [{
                "name": "skin",
                "pbrMetallicRoughness": { "metallicFactor": 0.0, "roughnessFactor": 0.8 },
                "doubleSided": true,
            }],
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{ "byteLength": self.bytes.len() }],
        });
        if let Some(animation) = animation {
            gltf["animations"] = json!([animation]);
        }
        let mut text = gltf.to_string().into_bytes();
        text.resize(text.len().next_multiple_of(4), b' ');
        let length = 12 + 8 + text.len() + 8 + self.bytes.len();
        let word = |n: usize| (n as u32).to_le_bytes();
        let mut file = Vec::with_capacity(length);
        file.extend(MAGIC.into_iter().chain(word(2)).chain(word(length)));
        file.extend(word(text.len()).into_iter().chain(*b"JSON"));
        file.extend(text);
        file.extend(word(self.bytes.len()).into_iter().chain(*b"BIN\0"));
        file.extend(self.bytes);
        file
    }
}

/// Smallest and largest value of each component.
fn bounds<const N: usize>(vectors: &[[f32; N]]) -> (Vec<f32>, Vec<f32>) {
    let fold = |start: f32, pick: fn(f32, f32) -> f32| -> Vec<f32> {
        (0..N).map(|k| vectors.iter().map(|v| v[k]).reduce(pick).unwrap_or(start)).collect()
    };
    (fold(0.0, f32::min), fold(0.0, f32::max))
}

/// From sRGB to linear, 0…1 (IEC 61966-2-1).
fn to_linear(c: u8) -> f32 {
    let c = f32::from(c) / 255.0;
    if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
}

/// Reads files back, for tests.
#[cfg(test)]
pub(crate) mod read {
    use super::*;

    pub(crate) struct Glb {
        pub(crate) json: Value,
        pub bytes: Vec<u8>,
    }

    impl Glb {
        /// Checks the container and that each accessor lies within its view, each view within the
        /// bytes.
        pub(crate) fn new(file: &[u8]) -> Self {
            let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("a word"));
            assert_eq!((&file[..4], word(4), word(8) as usize), (&b"glTF"[..], 2, file.len()));
            let length = word(12) as usize;
            assert_eq!((&file[16..20], length % 4), (&b"JSON"[..], 0));
            let json: Value = serde_json::from_slice(&file[20..20 + length]).expect("JSON");
            let rest = &file[20 + length..];
            assert_eq!(&rest[4..8], b"BIN\0");
            let bytes = rest[8..].to_vec();
            assert_eq!(json["buffers"][0]["byteLength"], bytes.len());
            let glb = Self { json, bytes };
            for view in glb.json["bufferViews"].as_array().expect("views") {
                let (start, length) = (number(&view["byteOffset"]), number(&view["byteLength"]));
                assert!(start % 4 == 0 && start + length <= glb.bytes.len() && length > 0);
            }
            for accessor in glb.json["accessors"].as_array().expect("accessors") {
                let sides = match accessor["type"].as_str().expect("a type") {
                    "SCALAR" => 1,
                    kind => number(&json!(kind[3..].parse::<usize>().expect("VECn"))),
                };
                let each = if accessor["componentType"] == U16 { 2 } else { 4 };
                let fits = |view: &Value, count: usize, size: usize| {
                    let view = &glb.json["bufferViews"][number(view)];
                    assert_eq!(number(&view["byteLength"]), count * size);
                };
                if accessor["bufferView"].is_number() {
                    fits(&accessor["bufferView"], number(&accessor["count"]), sides * each);
                } else if let Some(sparse) = accessor.get("sparse") {
                    let count = number(&sparse["count"]);
                    fits(&sparse["indices"]["bufferView"], count, 4);
                    fits(&sparse["values"]["bufferView"], count, 12);
                }
            }
            glb
        }

        /// The floats of an accessor.
        pub(crate) fn floats(&self, accessor: &Value) -> Vec<f32> {
            let view = &self.json["accessors"][number(accessor)]["bufferView"];
            let view = &self.json["bufferViews"][number(view)];
            let start = number(&view["byteOffset"]);
            let bytes = &self.bytes[start..start + number(&view["byteLength"])];
            bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        }
    }

    pub(crate) fn number(value: &Value) -> usize {
        value.as_u64().expect("a count") as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use read::{Glb, number};

    #[test]
    fn a_mesh_comes_back() {
        let mesh = Mesh {
            points: vec![[1.0, 2.0, 3.0], [1.0, 4.0, 3.0], [3.0, 4.0, 3.0]],
            triangles: vec![[0, 1, 2]],
            colours: vec![[255, 0, 188], [0, 255, 0], [0, 0, 255]],
        };
        let glb = Glb::new(&still(&mesh));
        let primitive = &glb.json["meshes"][0]["primitives"][0];
        let attributes = &primitive["attributes"];
        let expected = [1.0, -2.0, 3.0, 1.0, -4.0, 3.0, 3.0, -4.0, 3.0];
        assert_eq!(glb.floats(&attributes["POSITION"]), expected);
        // Counter-clockwise with y up: it looks at the camera.
        assert_eq!(glb.floats(&attributes["NORMAL"])[..3], [0.0, 0.0, 1.0]);
        let position = &glb.json["accessors"][number(&attributes["POSITION"])];
        assert_eq!(position["min"], json!([1.0, -4.0, 3.0]));
        assert_eq!(position["max"], json!([3.0, -2.0, 3.0]));
        let colour = &glb.json["accessors"][number(&attributes["COLOR_0"])];
        let at = number(&glb.json["bufferViews"][number(&colour["bufferView"])]["byteOffset"]);
        let channel =
            |i: usize| u16::from_le_bytes([glb.bytes[at + 2 * i], glb.bytes[at + 2 * i + 1]]);
        assert_eq!([channel(0), channel(1), channel(3)], [65535, 0, 65535]);
        // sRGB 188 is half of the light.
        assert!((f32::from(channel(2)) / 65535.0 - 0.5).abs() < 0.01);
    }

    #[test]
    fn a_mesh_without_colours_has_none() {
        let mesh = Mesh { points: vec![[0.0; 3]; 3], triangles: vec![[0, 1, 2]], colours: vec![] };
        let glb = Glb::new(&still(&mesh));
        assert!(glb.json["meshes"][0]["primitives"][0]["attributes"].get("COLOR_0").is_none());
    }
}
