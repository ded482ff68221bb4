//! Heads seen by a camera with a true perspective: rendered at known places, measured, compared.

use mmface::Tracker;
use mmface::face::{Camera, FaceModel, Params, rotation};
use nalgebra::{UnitQuaternion, Vector3};

use crate::common::render::{Head, stills};
use crate::common::runtime;

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
/// Height of a head from chin to brows in centimetres, about.
const FACE: f32 = 12.0;

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

/// Errors of one scene: degrees of the rotation as it is and in camera space, and the place's
/// error as a part of the distance. `None` if no face is found.
fn measure(
    model: &FaceModel,
    tracker: &mut Tracker,
    head: &Head,
    scene: &Scene,
) -> Option<[f32; 3]> {
    let truth = rotation::from_angles(scene.angles);
    let (camera, origin) = (scene.camera(), scene.origin());
    let image = head.render(model, &head.params, &camera, (truth, origin), [WIDTH, HEIGHT]);
    let face = tracker.process(&image, 0.0).unwrap().faces.into_iter().next()?;
    let pose = model.pose_in(&face.params, &camera);
    let origin = origin / (size(model, &head.params) / size(model, &Params::neutral()));
    let degrees = |seen: &UnitQuaternion<f32>| seen.angle_to(&truth).to_degrees();
    let miss = (Vector3::from(pose.translation) - origin).norm() / origin.norm();
    Some([degrees(&face.params.rotation), degrees(&pose.rotation), miss])
}

const PLACES: [[f32; 2]; 3] = [[0.0, 0.0], [0.65, 0.0], [-0.6, 0.5]];
const ANGLES: [[f32; 3]; 3] = [[0.0, 0.0, 0.0], [8.0, 25.0, 0.0], [-10.0, -20.0, 10.0]];

#[test]
fn a_head_off_centre_is_turned_to_the_camera_not_to_the_ray() {
    let runtime = runtime();
    let mut tracker = stills(&runtime);
    let model = runtime.face_model();
    let head = Head::new(model, &mut tracker, "single_face.jpg");
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
    let runtime = runtime();
    let mut tracker = stills(&runtime);
    let model = runtime.face_model();
    let names = ["single_face.jpg", "astronaut.png", "0-f1-su-ph.jpg", "15-f13-anc-ph.jpg"];
    let heads: Vec<Head> = names.iter().map(|name| Head::new(model, &mut tracker, name)).collect();
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
