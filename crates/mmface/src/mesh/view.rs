//! Visibility of a mesh's points, with a coarse depth buffer.

/// Cells along the longer side of the depth buffer; about as fine as the meshes.
const CELLS: f32 = 160.0;

/// For each point (x to the right, y down, z toward the camera), whether no triangle hides it. A
/// point is not hidden by its own triangles.
#[must_use]
pub fn visible(points: &[[f32; 3]], triangles: &[[u32; 3]]) -> Vec<bool> {
    let (low, high) = bounds(points);
    let cell = ((high[0] - low[0]).max(high[1] - low[1]) / CELLS).max(f32::MIN_POSITIVE);
    let count = |axis: usize| ((high[axis] - low[axis]) / cell).clamp(0.0, CELLS) as usize + 1;
    let (width, height) = (count(0), count(1));
    let place = |p: [f32; 3]| [(p[0] - low[0]) / cell, (p[1] - low[1]) / cell, p[2]];
    let mut depth = vec![f32::NEG_INFINITY; width * height];
    for triangle in triangles {
        let corners = triangle.map(|i| place(points[i as usize]));
        fill(&mut depth, width, height, corners);
    }
    let seen = |&p: &[f32; 3]| {
        let [x, y, z] = place(p);
        let (x, y) = ((x + 0.5) as usize, (y + 0.5) as usize);
        // The tolerance is for steep surfaces, whose depth changes by more than a cell within a
        // cell.
        x < width && y < height && z + 2.0 * cell >= depth[y * width + x]
    };
    points.iter().map(seen).collect()
}

fn bounds(points: &[[f32; 3]]) -> ([f32; 2], [f32; 2]) {
    points.iter().fold(([f32::MAX; 2], [f32::MIN; 2]), |(low, high), &[x, y, _]| {
        ([low[0].min(x), low[1].min(y)], [high[0].max(x), high[1].max(y)])
    })
}

/// Draws a triangle into the depth buffer, if it faces the camera.
fn fill(depth: &mut [f32], width: usize, height: usize, [a, b, c]: [[f32; 3]; 3]) {
    let area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
    // y points down, so counter-clockwise triangles have a negative area.
    if area.is_nan() || area > -1e-9 {
        return;
    }
    let range = |axis: usize, end: usize| {
        let low = a[axis].min(b[axis]).min(c[axis]).max(0.0).ceil() as usize;
        let high = a[axis].max(b[axis]).max(c[axis]).max(0.0).floor() as usize;
        low..(high + 1).min(end)
    };
    for y in range(1, height) {
        for x in range(0, width) {
            let (dx, dy) = (x as f32 - a[0], y as f32 - a[1]);
            let v = (dx * (c[1] - a[1]) - (c[0] - a[0]) * dy) / area;
            let w = ((b[0] - a[0]) * dy - dx * (b[1] - a[1])) / area;
            if v >= 0.0 && w >= 0.0 && v + w <= 1.0 {
                let z = a[2] + v * (b[2] - a[2]) + w * (c[2] - a[2]);
                let cell = &mut depth[y * width + x];
                *cell = cell.max(z);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_is_hidden() {
        let square = |half: f32, z: f32| {
            [[-half, -half, z], [-half, half, z], [half, half, z], [half, -half, z]]
        };
        let points = [square(1.0, 0.0), square(2.0, 5.0), square(4.0, -5.0)].concat();
        let triangles: Vec<[u32; 3]> =
            (0..3).flat_map(|q| [[0, 1, 2], [0, 2, 3]].map(|t| t.map(|i| i + 4 * q))).collect();
        let seen = visible(&points, &triangles);
        assert_eq!(seen[..4], [false; 4], "behind the second");
        assert_eq!(seen[4..], [true; 8], "in front, and beside it");
    }

    #[test]
    fn nothing_and_nonsense_do_no_harm() {
        assert!(visible(&[], &[]).is_empty());
        let nan = f32::NAN;
        let _ =
            visible(&[[nan, nan, nan], [0.0, 1.0, nan], [f32::INFINITY, 0.0, 0.0]], &[[0, 1, 2]]);
        assert_eq!(visible(&[[3.0, 3.0, 0.0]], &[]), [true]);
    }
}
