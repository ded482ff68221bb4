//! The formats OBJ and PLY.

use std::io::Write as _;

use super::Mesh;

/// Wavefront OBJ. Colours (0…1) follow the coordinates, as MeshLab and Blender expect.
pub(super) fn obj(mesh: &Mesh) -> Vec<u8> {
    let mut out = b"# mmface-live: frame pixels, x right, y up, z toward the camera\n".to_vec();
    for (i, [x, y, z]) in mesh.upright().enumerate() {
        // Writing to a Vec does not fail.
        let _ = write!(out, "v {x:.3} {y:.3} {z:.3}");
        if let Some(colour) = mesh.colours.get(i) {
            let [r, g, b] = colour.map(|c| f32::from(c) / 255.0);
            let _ = write!(out, " {r:.4} {g:.4} {b:.4}");
        }
        out.push(b'\n');
    }
    for triangle in &mesh.triangles {
        let [a, b, c] = triangle.map(|i| i + 1);
        let _ = writeln!(out, "f {a} {b} {c}");
    }
    out
}

/// Stanford PLY, binary, little-endian, with colours.
pub(super) fn ply(mesh: &Mesh) -> Vec<u8> {
    let colours = if mesh.colours.len() == mesh.points.len() {
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    } else {
        ""
    };
    let mut out = format!(
        "ply\nformat binary_little_endian 1.0\n\
         comment mmface-live: frame pixels, x right, y up, z toward the camera\n\
         element vertex {}\nproperty float x\nproperty float y\nproperty float z\n{colours}\
         element face {}\nproperty list uchar uint vertex_indices\nend_header\n",
        mesh.points.len(),
        mesh.triangles.len()
    )
    .into_bytes();
    for (i, point) in mesh.upright().enumerate() {
        out.extend(point.iter().flat_map(|v| v.to_le_bytes()));
        if !colours.is_empty() {
            out.extend(mesh.colours[i]);
        }
    }
    for triangle in &mesh.triangles {
        out.push(3);
        out.extend(triangle.iter().flat_map(|v| v.to_le_bytes()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh() -> Mesh {
        Mesh {
            points: vec![[1.0, 2.0, 3.0], [1.0, 4.0, 3.0], [3.0, 4.0, 3.0]],
            triangles: vec![[0, 1, 2]],
            colours: vec![[255, 0, 0], [0, 255, 0], [0, 0, 255]],
        }
    }

    #[test]
    fn y_points_up_and_counting_starts_at_one() {
        let text = String::from_utf8(obj(&mesh())).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "v 1.000 -2.000 3.000 1.0000 0.0000 0.0000");
        assert_eq!(lines[4], "f 1 2 3");
        let bare = Mesh { colours: vec![], ..mesh() };
        let text = String::from_utf8(obj(&bare)).expect("text");
        assert!(text.contains("\nv 1.000 -2.000 3.000\n"));
    }

    #[test]
    fn a_ply_has_the_bytes_that_its_header_promises() {
        let marker = b"end_header\n";
        for (mesh, each) in [(mesh(), 15), (Mesh { colours: vec![], ..mesh() }, 12)] {
            let bytes = ply(&mesh);
            let end = bytes.windows(marker.len()).position(|w| w == marker).expect("an end");
            let body = &bytes[end + marker.len()..];
            assert_eq!(body.len(), 3 * each + 13);
            assert_eq!(body[4..8], (-2.0f32).to_le_bytes());
        }
    }
}
