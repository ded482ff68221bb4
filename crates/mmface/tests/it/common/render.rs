//! Heads of people in pictures, rendered in other poses and with other expressions.

use mmface::face::{Camera, FaceModel, Params};
use mmface::image::Layout;
use mmface::{Image, Mode, Runtime, Tracker, TrackerOptions};
use nalgebra::{UnitQuaternion, Vector3};

use super::picture;

/// What shows through an open mouth.
const INSIDE: [u8; 3] = [45, 22, 22];

/// A tracker for single pictures.
pub fn stills(runtime: &Runtime) -> Tracker {
    let options = TrackerOptions { mode: Mode::Stills, ..TrackerOptions::default() };
    runtime.tracker(options).unwrap()
}

/// A head, with the picture from which its skin is taken.
pub struct Head {
    /// As it is fitted to its picture.
    pub params: Params,
    picture: Image<'static>,
    /// Where each vertex lies in the picture.
    skin: Vec<[f32; 3]>,
}

impl Head {
    /// The first face in a picture.
    pub fn new(model: &FaceModel, tracker: &mut Tracker, name: &str) -> Self {
        let picture = picture(name);
        let params = tracker.process(&picture, 0.0).unwrap().faces.remove(0).params;
        Self { skin: model.vertices(&params), params, picture }
    }

    /// The picture of this size that a camera takes of the head before a wall, with identity and
    /// expression of `params`.
    pub fn render(
        &self,
        model: &FaceModel,
        params: &Params,
        camera: &Camera,
        (rotation, origin): (UnitQuaternion<f32>, Vector3<f32>),
        [width, height]: [u32; 2],
    ) -> Image<'static> {
        let place = |point: [f32; 3]| {
            let at = rotation * Vector3::from(point) + origin;
            (at, camera.project(at.into()))
        };
        let points: Vec<_> = model.shape(params).into_iter().map(place).collect();
        let (columns, rows) = (width as usize, height as usize);
        let mut depths = vec![f32::MAX; columns * rows];
        let mut pixels = vec![0; 3 * columns * rows];
        for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let shade = 90 + (40 * (at / columns) / rows) + (30 * (at % columns) / columns);
            pixel.copy_from_slice(&[shade as u8, shade as u8, shade as u8 - 10]);
        }
        let mouth = model.regions.iter().position(|name| name == "mouth");
        for (triangle, region) in model.triangles.iter().zip(&model.triangle_region) {
            let corners = triangle.map(|vertex| points[vertex as usize]);
            let skin = triangle.map(|vertex| self.skin[vertex as usize]);
            let [(ax, ay), (bx, by), (cx, cy)] = corners.map(|(_, [x, y])| (x, y));
            let area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay);
            if area == 0.0 {
                continue;
            }
            // Counter-clockwise from outside, and y points down.
            let is_inside = area > 0.0 || Some(usize::from(*region)) == mouth;
            let range = |low: f32, high: f32, most: usize| {
                let last = (high.ceil() + 1.0).clamp(0.0, most as f32);
                (low.floor().max(0.0) as usize)..(last as usize)
            };
            for y in range(ay.min(by).min(cy), ay.max(by).max(cy), rows) {
                for x in range(ax.min(bx).min(cx), ax.max(bx).max(cx), columns) {
                    let (px, py) = (x as f32, y as f32);
                    let v = ((px - ax) * (cy - ay) - (cx - ax) * (py - ay)) / area;
                    let w = ((bx - ax) * (py - ay) - (px - ax) * (by - ay)) / area;
                    let parts = [1.0 - v - w, v, w];
                    if parts.iter().any(|part| *part < 0.0) {
                        continue;
                    }
                    let mix = |of: &dyn Fn(usize) -> f32| {
                        parts.iter().enumerate().map(|(k, part)| part * of(k)).sum::<f32>()
                    };
                    let depth = -mix(&|k| corners[k].0.z);
                    let at = y * columns + x;
                    if depth < depths[at] {
                        depths[at] = depth;
                        let colour = if is_inside {
                            INSIDE
                        } else {
                            colour(&self.picture, mix(&|k| skin[k][0]), mix(&|k| skin[k][1]))
                        };
                        pixels[3 * at..3 * at + 3].copy_from_slice(&colour);
                    }
                }
            }
        }
        Image::rgb(width, height, pixels).unwrap()
    }
}

/// R, G, B of the pixel nearest to a place in a picture.
fn colour(image: &Image, x: f32, y: f32) -> [u8; 3] {
    assert_eq!(image.layout, Layout::I420);
    let at = |v: f32, most: u32| v.round().clamp(0.0, (most - 1) as f32) as usize;
    let (x, y) = (at(x, image.width), at(y, image.height));
    let sample = |plane: usize, by: usize| {
        let plane = &image.planes[plane];
        plane.bytes[y / by * plane.stride + x / by]
    };
    image.colour.to_rgb().apply([sample(0, 1), sample(1, 2), sample(2, 2)])
}
