//! Heads seen by a camera with a true perspective: rendered at known places, measured, compared.

use std::path::PathBuf;

use mmface::detect::Kind;
use mmface::face::{Camera, FaceModel, Params, rotation};
use mmface::image::Layout;
use mmface::{Device, Image, Mode, Precision, Runtime, Tracker, TrackerOptions};
use nalgebra::{UnitQuaternion, Vector3};

use crate::common::{models, picture};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
/// Height of a head from chin to brows in centimetres, about.
const FACE: f32 = 12.0;

/// A head, with the picture from which its skin is taken.
struct Head {
    picture: Image<'static>,
    /// Vertices in centimetres.
    shape: Vec<[f32; 3]>,
    /// Where each vertex lies in the picture.
    skin: Vec<[f32; 3]>,
    /// How much larger this head is than the average one.
    size: f32,
}

/// Where a head is.
#[derive(Debug, Clone, Copy)]
struct Scene {
    /// Degrees from the left to the right edge.
    view: f32,
    /// Height of the face in pixels.
    pixels: f32,
    /// Place in the picture: parts of half its width and height, from its middle.
    place: [f32; 2],
    /// Pitch, yaw and roll in degrees.
    angles: [f32; 3],
}

impl Scene {
    fn camera(&self) -> Camera {
        Camera::of_view(self.view, WIDTH, HEIGHT)
    }

    /// Place of the model's origin in camera space, centimetres.
    fn origin(&self) -> Vector3<f32> {
        let camera = self.camera();
        let away = camera.focal * FACE / self.pixels;
        let [x, y] = self.place;
        let half = [WIDTH, HEIGHT].map(|side| side as f32 / 2.0);
        Vector3::new(x * half[0], y * half[1], -camera.focal) * (away / camera.focal)
    }
}

fn tracker() -> (Runtime, Tracker) {
    let runtime = Runtime::builder(models())
        .device(Device::Cpu)
        .precision(Some(Precision::F32))
        .detector(Kind::CenterFaceOpenVino, None::<PathBuf>)
        .build()
        .unwrap();
    let options = TrackerOptions { mode: Mode::Stills, ..TrackerOptions::default() };
    let tracker = runtime.tracker(options).unwrap();
    (runtime, tracker)
}

/// Root of the squared distances of the landmarks from their middle.
fn size(model: &FaceModel, params: &Params) -> f32 {
    let upright = Params {
        f: 1.0,
        rotation: UnitQuaternion::identity(),
        expression: Vec::new(),
        ..params.clone()
    };
    let points: Vec<_> = model.landmarks3d(&upright).into_iter().map(Vector3::from).collect();
    let mean = points.iter().sum::<Vector3<f32>>() / points.len() as f32;
    points.iter().map(|point| (point - mean).norm_squared()).sum::<f32>().sqrt()
}

fn head(model: &FaceModel, tracker: &mut Tracker, name: &str) -> Head {
    let picture = picture(name);
    let face = tracker.process(&picture, 0.0).unwrap().faces.remove(0);
    Head {
        shape: model.shape(&face.params),
        skin: model.vertices(&face.params),
        size: size(model, &face.params) / size(model, &Params::neutral()),
        picture,
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

/// The picture that a camera takes of a head before a wall.
fn render(model: &FaceModel, head: &Head, scene: &Scene) -> Vec<u8> {
    let (camera, origin) = (scene.camera(), scene.origin());
    let turned = rotation::from_angles(scene.angles);
    let points: Vec<(Vector3<f32>, [f32; 2])> = head
        .shape
        .iter()
        .map(|&point| {
            let at = turned * Vector3::from(point) + origin;
            (at, camera.project(at.into()))
        })
        .collect();
    let (width, height) = (WIDTH as usize, HEIGHT as usize);
    let mut depths = vec![f32::MAX; width * height];
    let mut pixels = vec![0; 3 * width * height];
    for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let shade = 90 + (40 * (at / width) / height) as u8 + (30 * (at % width) / width) as u8;
        pixel.copy_from_slice(&[shade, shade, shade.saturating_sub(10)]);
    }
    for triangle in &model.triangles {
        let [a, b, c] = triangle.map(|vertex| points[vertex as usize]);
        let skin = triangle.map(|vertex| head.skin[vertex as usize]);
        let [(ax, ay), (bx, by), (cx, cy)] = [a, b, c].map(|(_, [x, y])| (x, y));
        let area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay);
        // Counter-clockwise from outside, and y points down.
        if area >= 0.0 {
            continue;
        }
        let range = |low: f32, high: f32, most: usize| {
            (low.floor().max(0.0) as usize)..((high.ceil() + 1.0).clamp(0.0, most as f32) as usize)
        };
        for y in range(ay.min(by).min(cy), ay.max(by).max(cy), height) {
            for x in range(ax.min(bx).min(cx), ax.max(bx).max(cx), width) {
                let (px, py) = (x as f32, y as f32);
                let v = ((px - ax) * (cy - ay) - (cx - ax) * (py - ay)) / area;
                let w = ((bx - ax) * (py - ay) - (px - ax) * (by - ay)) / area;
                let u = 1.0 - v - w;
                if u < 0.0 || v < 0.0 || w < 0.0 {
                    continue;
                }
                let depth = -(u * a.0.z + v * b.0.z + w * c.0.z);
                let at = y * width + x;
                if depth < depths[at] {
                    depths[at] = depth;
                    let mix = |k: usize| u * skin[0][k] + v * skin[1][k] + w * skin[2][k];
                    let colour = colour(&head.picture, mix(0), mix(1));
                    pixels[3 * at..3 * at + 3].copy_from_slice(&colour);
                }
            }
        }
    }
    pixels
}

/// Errors of one scene: degrees of the rotation as it is and in camera space, and the place's
/// error as a part of the distance. `None` if no face is found.
fn measure(
    model: &FaceModel,
    tracker: &mut Tracker,
    head: &Head,
    scene: &Scene,
) -> Option<[f32; 3]> {
    let pixels = render(model, head, scene);
    let image = Image::rgb(WIDTH, HEIGHT, pixels).unwrap();
    let face = tracker.process(&image, 0.0).unwrap().faces.into_iter().next()?;
    let pose = model.pose_in(&face.params, &scene.camera());
    let truth = rotation::from_angles(scene.angles);
    let origin = scene.origin() / head.size;
    let degrees = |seen: &UnitQuaternion<f32>| seen.angle_to(&truth).to_degrees();
    let miss = (Vector3::from(pose.translation) - origin).norm() / origin.norm();
    Some([degrees(&face.params.rotation), degrees(&pose.rotation), miss])
}

const PLACES: [[f32; 2]; 3] = [[0.0, 0.0], [0.65, 0.0], [-0.6, 0.5]];
const ANGLES: [[f32; 3]; 3] = [[0.0, 0.0, 0.0], [8.0, 25.0, 0.0], [-10.0, -20.0, 10.0]];

#[test]
fn a_head_off_centre_is_turned_to_the_camera_not_to_the_ray() {
    let (runtime, mut tracker) = tracker();
    let model = runtime.face_model();
    let head = head(model, &mut tracker, "single_face.jpg");
    for view in [25.0, 60.0, 90.0] {
        for place in [PLACES[0], PLACES[1]] {
            let scene = Scene { view, pixels: 200.0, place, angles: ANGLES[0] };
            let [as_seen, in_space, miss] = measure(model, &mut tracker, &head, &scene).unwrap();
            let off = if place == PLACES[1] { 0.15 * view } else { 0.0 };
            assert!(as_seen >= off, "{scene:?}: as seen {as_seen}°");
            assert!(in_space < 8.0 && miss < 0.1, "{scene:?}: {in_space}°, {miss}");
        }
    }
}

/// The table of docs/conventions.md.
#[test]
#[ignore = "takes minutes: run it alone, with --nocapture"]
fn measured() {
    let (runtime, mut tracker) = tracker();
    let model = runtime.face_model();
    let names = ["single_face.jpg", "astronaut.png", "0-f1-su-ph.jpg", "15-f13-anc-ph.jpg"];
    let heads: Vec<Head> = names.iter().map(|name| head(model, &mut tracker, name)).collect();
    for view in [20.0, 40.0, 60.0, 75.0, 90.0] {
        for pixels in [100.0, 200.0] {
            for place in PLACES {
                let mut errors = Vec::new();
                let mut missed = 0;
                for head in &heads {
                    for angles in ANGLES {
                        let scene = Scene { view, pixels, place, angles };
                        match measure(model, &mut tracker, head, &scene) {
                            Some(error) => errors.push(error),
                            None => missed += 1,
                        }
                    }
                }
                let mean = |k: usize| {
                    errors.iter().map(|e| e[k]).sum::<f32>() / errors.len().max(1) as f32
                };
                println!(
                    "| {view} | {pixels} | {place:?} | {:.1}° | {:.1}° | {:.1} % | {missed} |",
                    mean(0),
                    mean(1),
                    100.0 * mean(2)
                );
            }
        }
    }
}
