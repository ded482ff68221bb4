//! Where a head is, in centimetres, for a camera of which nothing is known.

use mmface::face::Params;

/// Distance at which a head counts as being before the first is seen, centimetres.
pub(crate) const USUAL_DISTANCE: f32 = 60.0;

/// Place of a head in centimetres: to the right in the picture and up, both from its middle; and
/// the distance from the camera. The camera's focal length is not known: it is taken as the frame's
/// width, which is a horizontal field of view of 53°. With any other camera the distance is wrong by
/// a constant factor; directions are right.
#[must_use]
pub(crate) fn position(params: &Params, [width, height]: [f32; 2]) -> [f32; 3] {
    let f = params.f.max(1e-3);
    let [x, y, _] = params.t;
    [(x - (width - 1.0) / 2.0) / f, ((height - 1.0) / 2.0 - y) / f, width / f]
}

/// Moves a head so that [`position`] is this.
pub(crate) fn place_at(params: &mut Params, [x, y, away]: [f32; 3], [width, height]: [f32; 2]) {
    let f = width / away.max(1e-3);
    let z = params.t[2] / params.f.max(1e-3) * f;
    params.t = [(width - 1.0) / 2.0 + x * f, (height - 1.0) / 2.0 - y * f, z];
    params.f = f;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: [f32; 3], b: [f32; 3]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
    }

    #[test]
    fn positions_are_centimetres_from_the_middle_of_the_picture() {
        let params = Params { f: 16.0, t: [639.5 + 80.0, 359.5 - 32.0, 0.0], ..Params::neutral() };
        assert!(near(position(&params, [1280.0, 720.0]), [5.0, 2.0, 80.0]));
        let mut moved = params;
        place_at(&mut moved, [-3.0, 4.0, 50.0], [1280.0, 720.0]);
        assert!(near(position(&moved, [1280.0, 720.0]), [-3.0, 4.0, 50.0]));
    }
}
