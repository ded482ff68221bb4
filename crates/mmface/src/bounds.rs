//! Axis-aligned boxes [x, y, width, height] in pixels.

/// The smallest box that contains all points.
#[must_use]
pub fn around(points: &[[f32; 2]]) -> [f32; 4] {
    let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
    for p in points {
        for k in 0..2 {
            low[k] = low[k].min(p[k]);
            high[k] = high[k].max(p[k]);
        }
    }
    [low[0], low[1], high[0] - low[0], high[1] - low[1]]
}

/// Area that two boxes share.
#[must_use]
pub fn intersection(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |k: usize| (a[k] + a[k + 2]).min(b[k] + b[k + 2]) - a[k].max(b[k]);
    side(0).max(0.0) * side(1).max(0.0)
}

/// Intersection over union of two boxes; 0 if both are empty.
#[must_use]
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let intersection = intersection(a, b);
    let union = a[2] * a[3] + b[2] * b[3] - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_is_the_shared_part_of_the_joint_area() {
        assert_eq!(iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]), 2.0 / 6.0);
        assert_eq!(iou([0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0]), 0.0);
        assert_eq!(iou([0.0; 4], [0.0; 4]), 0.0);
    }

    #[test]
    fn a_box_lies_around_its_points() {
        assert_eq!(around(&[[3.0, 1.0], [1.0, 5.0], [2.0, 2.0]]), [1.0, 1.0, 2.0, 4.0]);
    }
}
