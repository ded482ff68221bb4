//! Vertex colours of a mesh, taken from the frame to which it was fitted.

use super::Mesh;
use super::view::visible;
use crate::crop;
use crate::image::Image;

/// Least cosine between a point's normal and the direction to the camera. Points seen at a flatter
/// angle would take the colour of the background.
const FACING: f32 = 0.35;

/// R, G, B of each point in the frame. A point that the frame does not show (on the far side,
/// hidden or outside the frame) gets the mean colour of its nearest known neighbours in the mesh.
#[must_use]
pub fn colours(mesh: &Mesh, image: &Image) -> Vec<[u8; 3]> {
    let inside = |p: &[f32; 3]| {
        (0.0..image.width as f32).contains(&p[0]) && (0.0..image.height as f32).contains(&p[1])
    };
    let seen = visible(&mesh.points, &mesh.triangles);
    let normals = mesh.normals();
    let shown = seen.iter().zip(&normals).zip(&mesh.points);
    let mut known: Vec<bool> =
        shown.map(|((seen, normal), point)| *seen && normal[2] > FACING && inside(point)).collect();
    let at = mesh.points.iter().map(|p| [p[0], p[1]]);
    let found = crop::colours(image, at);
    let mut colours: Vec<[f32; 3]> = found.into_iter().map(|c| c.map(f32::from)).collect();
    spread(&mut colours, &mut known, &mesh.triangles);
    colours.iter().map(|c| c.map(|v| v as u8)).collect()
}

/// Fills unknown colours from known neighbours, ring by ring.
fn spread(colours: &mut [[f32; 3]], known: &mut [bool], triangles: &[[u32; 3]]) {
    let mut border: Vec<[u32; 3]> = triangles.to_vec();
    loop {
        border.retain(|t| t.iter().any(|i| !known[*i as usize]));
        let mut sums = std::collections::HashMap::<u32, [f32; 4]>::new();
        for triangle in &border {
            for &to in triangle.iter().filter(|i| !known[**i as usize]) {
                for &from in triangle.iter().filter(|i| known[**i as usize]) {
                    let [r, g, b] = colours[from as usize];
                    let sum = sums.entry(to).or_default();
                    sum.iter_mut().zip([r, g, b, 1.0]).for_each(|(sum, v)| *sum += v);
                }
            }
        }
        if sums.is_empty() {
            break;
        }
        for (to, [r, g, b, count]) in sums {
            colours[to as usize] = [r, g, b].map(|v| v / count);
            known[to as usize] = true;
        }
    }
    // Parts without any visible point (an eye behind its lid) get the mean of all known colours.
    let all: Vec<_> = colours.iter().zip(&*known).filter(|(_, known)| **known).collect();
    let mean = |k: usize| all.iter().map(|(c, _)| c[k]).sum::<f32>() / all.len().max(1) as f32;
    let mean = [mean(0), mean(1), mean(2)];
    colours.iter_mut().zip(known).filter(|(_, known)| !**known).for_each(|(c, _)| *c = mean);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_frame_does_not_show_takes_its_neighbours_colour() {
        // Left half red, right half blue.
        let pixels = (0..8 * 4).flat_map(|i| if i % 8 < 4 { [200, 0, 0] } else { [0, 0, 200] });
        let image = Image::rgb(8, 4, pixels.collect::<Vec<u8>>()).expect("an image");
        let mesh = Mesh {
            // A square over the left half, one point that turns away from the camera behind it.
            points: vec![[1.0, 1.0, 0.0], [1.0, 3.0, 0.0], [3.0, 3.0, 0.0], [6.0, 2.0, -9.0]],
            triangles: vec![[0, 1, 2], [0, 2, 3], [2, 1, 3], [1, 0, 3]],
            colours: vec![],
        };
        let found = colours(&mesh, &image);
        for i in 0..3 {
            assert!(found[i][0] > 190 && found[i][2] < 10, "{found:?}");
        }
        // Outside the frame: the neighbours' colour.
        let mut outside = mesh;
        outside.points[3] = [60.0, 2.0, 0.0];
        assert!(colours(&outside, &image)[3][0] > 190);
    }

    #[test]
    fn a_mesh_that_is_not_in_the_frame_has_some_colour() {
        let image = Image::rgb(1, 1, vec![9, 9, 9]).expect("an image");
        let mesh = Mesh { points: vec![[50.0; 3]; 3], triangles: vec![[0, 1, 2]], colours: vec![] };
        assert_eq!(colours(&mesh, &image).len(), 3);
    }
}
