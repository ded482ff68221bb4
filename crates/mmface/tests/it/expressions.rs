//! Expressions of rendered heads, whose coefficients are known.

use mmface::face::{Camera, FaceModel, Params, rotation};
use mmface::smooth::Strength;
use mmface::{Face, Mode, Runtime, TrackerOptions};
use nalgebra::Vector3;

use crate::common::render::{Head, stills};
use crate::common::runtime;

const SIDE: u32 = 480;
/// Height of the face in the picture, pixels.
const FACE: f32 = 200.0;
/// How far each expression goes, one frame after the other.
const LEVELS: [f32; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// What the networks make of a head whose expressions change, frame by frame, without smoothing.
fn seen(runtime: &Runtime, head: &Head, faces: &[Params]) -> Option<Vec<Face>> {
    let model = runtime.face_model();
    let camera = Camera::of_view(30.0, SIDE, SIDE);
    let away = camera.focal * 12.0 / FACE;
    let pose = (rotation::from_angles([0.0; 3]), Vector3::new(0.0, 0.0, -away));
    let options = TrackerOptions {
        mode: Mode::Recording,
        smoothing: Strength::Off,
        ..TrackerOptions::default()
    };
    let mut tracker = runtime.tracker(options).unwrap();
    let mut frame = |at: usize, params: &Params| {
        let image = head.render(model, params, &camera, pose, [SIDE, SIDE]);
        let seen = tracker.process(&image, at as f64 / 30.0).unwrap();
        seen.faces.into_iter().next()
    };
    faces.iter().enumerate().map(|(at, params)| frame(at, params)).collect()
}

/// A head whose expressions are 0 but for one.
fn only(head: &Head, model: &FaceModel, expression: usize, value: f32) -> Params {
    let mut params = head.params.clone();
    params.expression = vec![0.0; model.expressions.len()];
    params.expression[expression] = value;
    params
}

fn place(model: &FaceModel, name: &str) -> usize {
    model.expressions.iter().position(|known| known == name).unwrap()
}

#[test]
fn a_wink_is_one_eye() {
    let runtime = runtime();
    let model = runtime.face_model();
    let head = Head::new(model, &mut stills(&runtime), "single_face.jpg");
    let [left, right] = ["eyeBlinkLeft", "eyeBlinkRight"].map(|name| place(model, name));
    for (shut, open) in [(left, right), (right, left)] {
        let faces: Vec<_> = LEVELS.iter().map(|level| only(&head, model, shut, *level)).collect();
        let seen = seen(&runtime, &head, &faces).unwrap();
        let (first, last) = (&seen[0], &seen[LEVELS.len() - 1]);
        let moved = |eye: usize| last.params.expression[eye] - first.params.expression[eye];
        assert!(moved(shut) > 0.5 && moved(open) < 0.5 * moved(shut), "{first:?} {last:?}");
    }
}

/// The table of docs/evaluation.md.
#[test]
#[ignore = "takes minutes: run it alone, with --nocapture"]
fn measured() {
    let runtime = runtime();
    let model = runtime.face_model();
    let mut tracker = stills(&runtime);
    let names = ["single_face.jpg", "astronaut.png", "0-f1-su-ph.jpg", "15-f13-anc-ph.jpg"];
    let heads = names.map(|name| Head::new(model, &mut tracker, name));
    println!("| expression | slope | correlation | moves most besides | head turns |");
    for (expression, name) in model.expressions.iter().enumerate() {
        let (mut pairs, mut besides) = (Vec::new(), vec![0.0; model.expressions.len()]);
        let mut turned = 0.0;
        for head in &heads {
            let faces: Vec<_> =
                LEVELS.iter().map(|level| only(head, model, expression, *level)).collect();
            let seen = seen(&runtime, head, &faces).unwrap();
            // What the networks see of the neutral face is theirs, not the expression's.
            let of = |at: usize, of: usize| seen[at].params.expression[of];
            let moved = |at: usize, expression: usize| of(at, expression) - of(0, expression);
            pairs.extend(LEVELS.iter().enumerate().map(|(at, x)| (*x, moved(at, expression))));
            let rotation = |at: usize| seen[at].params.rotation;
            turned +=
                rotation(LEVELS.len() - 1).angle_to(&rotation(0)).to_degrees() / heads.len() as f32;
            for (of, sum) in besides.iter_mut().enumerate().filter(|(of, _)| *of != expression) {
                *sum += moved(LEVELS.len() - 1, of) / heads.len() as f32;
            }
        }
        let mean = |of: &dyn Fn(&(f32, f32)) -> f32| {
            pairs.iter().map(of).sum::<f32>() / pairs.len() as f32
        };
        let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
        let both = mean(&|p| (p.0 - x) * (p.1 - y));
        let (dx, dy) = (mean(&|p| (p.0 - x).powi(2)), mean(&|p| (p.1 - y).powi(2)));
        let most =
            (0..besides.len()).max_by(|a, b| besides[*a].abs().total_cmp(&besides[*b].abs()));
        let most = most.unwrap();
        println!(
            "| {name} | {:.2} | {:.2} | {} {:+.2} | {turned:.1}° |",
            both / dx,
            both / (dx * dy).sqrt().max(1e-9),
            model.expressions[most],
            besides[most]
        );
    }
}

/// How far the eyes are turned and how far the gaze follows, for docs/evaluation.md.
#[test]
#[ignore = "prints a table: run it alone, with --nocapture"]
fn measured_gaze() {
    let runtime = runtime();
    let model = runtime.face_model();
    let mut tracker = stills(&runtime);
    let names = ["single_face.jpg", "astronaut.png", "0-f1-su-ph.jpg", "15-f13-anc-ph.jpg"];
    let heads = names.map(|name| Head::new(model, &mut tracker, name));
    // What moves, how many degrees it means at 1, and the sign of the angle: pitch, yaw.
    let looks = [
        ("up", ["eyeLookUpLeft", "eyeLookUpRight"], [25.0, 25.0], 0),
        ("down", ["eyeLookDownLeft", "eyeLookDownRight"], [30.0, 30.0], 0),
        ("left", ["eyeLookOutLeft", "eyeLookInRight"], [30.0, 35.0], 1),
        ("right", ["eyeLookInLeft", "eyeLookOutRight"], [35.0, 30.0], 1),
    ];
    println!("| eyes turn | by | gaze turns | standard deviation |");
    for (name, eyes, full, axis) in looks {
        for degrees in [10.0, 20.0] {
            let mut turns = Vec::new();
            for head in &heads {
                let mut params = only(head, model, 0, 0.0);
                let straight = params.clone();
                for (eye, full) in eyes.iter().zip(full) {
                    params.expression[place(model, eye)] = degrees / full;
                }
                let seen = seen(&runtime, head, &[straight, params]).unwrap();
                let angle =
                    |at: usize| mmface::gaze::angles(seen[at].gaze.unwrap().direction)[axis];
                turns.push(angle(1) - angle(0));
            }
            let mean = turns.iter().sum::<f32>() / turns.len() as f32;
            let variance = turns.iter().map(|turn| (turn - mean).powi(2)).sum::<f32>();
            let deviation = (variance / (turns.len() - 1) as f32).sqrt();
            println!("| {name} | {degrees}° | {mean:+.1}° | {deviation:.1}° |");
        }
    }
}
