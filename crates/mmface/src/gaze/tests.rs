use super::*;
use crate::image::Image;
use crate::smooth::Strength;
use crate::testing::MODEL;

const RULE: GazeRule = GazeRule { span: 1.6, eyeball: 0.84, raise: 0.07 };

fn params(angles: [f32; 3]) -> Params {
    let [pitch, yaw, roll] = angles;
    let expression = vec![0.0; MODEL.expressions.len()];
    let pose = [12.0, pitch, yaw, roll, 300.0, 200.0, 0.0];
    Params::from_outputs(pose, &vec![0.5; MODEL.identities], &expression).expect("finite")
}

/// What is seen of a face whose eyes are turned by so many degrees up and to the subject's left.
fn sights(params: &Params, [up, left]: [f32; 2], beside: [f32; 2]) -> [Sight; 2] {
    let eyes = MODEL.eyes(params, RULE.eyeball).expect("eyes");
    eyes.map(|eye| {
        let [up0, left0] = turn_of(&eye.axis);
        let iris = RULE.centre(&eye) + looking([up + up0, left + left0]) * eye.iris;
        let [outer, inner] = eye.corners;
        let seen = params.project(&[iris.into(), outer, inner]);
        let [iris, outer, inner] = [0, 1, 2].map(|at| [0, 1].map(|k| seen[at][k] + beside[k]));
        Sight { iris, corners: [outer, inner], confidence: 1.0 }
    })
}

#[test]
fn a_direction_is_that_of_the_turned_eye() {
    for angles in [[0.0, 0.0, 0.0], [12.0, -30.0, 10.0], [-15.0, 25.0, -20.0]] {
        let face = params(angles);
        for turn in [[0.0, 0.0], [10.0, -20.0], [-12.0, 15.0]] {
            // A fit that lies beside the eyes does not matter: the corners that are seen do.
            for beside in [[0.0, 0.0], [5.0, -3.0]] {
                let seen = directions(&MODEL, &face, &sights(&face, turn, beside), &RULE);
                for seen in seen {
                    let expected = face.rotation * looking(turn);
                    let off = seen.expect("in sight").angle(&expected).to_degrees();
                    assert!(off < 0.5, "{off} degrees at {angles:?}, {turn:?}, {beside:?}");
                }
            }
        }
    }
}

#[test]
fn closed_and_averted_eyes_say_nothing() {
    let face = params([0.0, 0.0, 0.0]);
    let mut seen = sights(&face, [0.0, 0.0], [0.0, 0.0]);
    seen[0].confidence = 0.3;
    let [right, left] = directions(&MODEL, &face, &seen, &RULE);
    assert!(right.is_none() && left.is_some());
    let profile = params([0.0, 88.0, 0.0]);
    let seen = sights(&profile, [0.0, 0.0], [0.0, 0.0]);
    assert_eq!(directions(&MODEL, &profile, &seen, &RULE), [None, None]);
}

#[test]
fn angles_have_the_signs_of_the_head() {
    for head in [[10.0, 0.0, 0.0], [0.0, -25.0, 0.0], [-12.0, 30.0, 15.0]] {
        let ahead = rotation::from_angles(head) * Vector3::z();
        let [pitch, yaw] = angles(ahead.into());
        assert!((pitch - head[0]).abs() < 0.01 && (yaw - head[1]).abs() < 0.01, "{pitch} {yaw}");
    }
}

#[test]
fn coefficients_are_angles_to_the_head() {
    let coefficient = |face: &Params, name: &str| {
        face.expression[MODEL.expressions.iter().position(|n| n == name).expect("a name")]
    };
    // The head is turned by 20 degrees to the right of the picture, its own left, and the eyes look
    // into the camera: to its right.
    let mut face = params([0.0, -20.0, 0.0]);
    let eye = EyeGaze { iris: None, direction: [0.0, 0.0, 1.0], confidence: 1.0 };
    let gaze = Gaze { left: eye, right: eye, direction: eye.direction, confidence: 1.0 };
    turn_eyes(&MODEL, &mut face, &gaze);
    for (name, expected) in [
        ("eyeLookOutRight", 20.0 / 30.0),
        ("eyeLookInLeft", 20.0 / 35.0),
        ("eyeLookInRight", 0.0),
        ("eyeLookOutLeft", 0.0),
        ("eyeLookUpLeft", 0.0),
        ("eyeLookDownRight", 0.0),
    ] {
        let seen = coefficient(&face, name);
        assert!((seen - expected).abs() < 1e-3, "{name} is {seen}");
    }
    // And the mesh's irises lie where those of such eyes do.
    let mut face = params([0.0, 0.0, 0.0]);
    let down = face.rotation * looking([-15.0, 0.0]);
    let eye = EyeGaze { direction: down.into(), ..eye };
    turn_eyes(&MODEL, &mut face, &Gaze { left: eye, right: eye, ..gaze });
    assert!((coefficient(&face, "eyeLookDownLeft") - 0.5).abs() < 1e-3);
}

#[test]
fn a_patch_shows_its_place_and_the_right_eye_mirrored() {
    // Red grows to the right, green downwards.
    let (width, height) = (200, 160);
    let bytes: Vec<u8> =
        (0..width * height).flat_map(|at| [(at % width) as u8, (at / width) as u8, 7]).collect();
    let image = Image::rgb(width as u32, height as u32, bytes).expect("an image");
    for (mirrored, scale) in [(false, 1.0), (true, 1.0), (false, 2.0)] {
        let map = PatchMap { centre: [100.0, 80.0], scale, angle: 0.0, mirrored };
        let mut patch = vec![0; 3 * ROWS * COLUMNS];
        sample(&image, &map, &mut patch);
        for (u, v) in [(10, 5), (40, 30), (63, 47)] {
            let [x, y] = map.image_from_patch([u as f32, v as f32]);
            let at = v * COLUMNS + u;
            let plane = ROWS * COLUMNS;
            let seen = [patch[at], patch[plane + at], patch[2 * plane + at]].map(f32::from);
            for (seen, expected) in seen.into_iter().zip([x, y, 7.0]) {
                assert!((seen - expected).abs() <= 1.0, "{seen}, not {expected}");
            }
        }
        let right = map.image_from_patch([40.0, 0.0])[0] > map.image_from_patch([10.0, 0.0])[0];
        assert_eq!(right, !mirrored);
    }
}

#[test]
fn patches_lie_on_the_eyes_and_are_as_wide_in_profile() {
    let face = params([0.0, 0.0, 25.0]);
    let landmarks = MODEL.landmarks(&face);
    let [right, left] = patches(&MODEL, &face, &landmarks, &RULE).expect("eyes");
    assert!(right.mirrored && !left.mirrored);
    // The subject's right is left in the picture.
    assert!(right.centre[0] < left.centre[0] && (right.scale - left.scale).abs() < 0.05);
    let turned = params([0.0, 60.0, 0.0]);
    let landmarks = MODEL.landmarks(&turned);
    let [_, wide] = patches(&MODEL, &turned, &landmarks, &RULE).expect("eyes");
    assert!((wide.scale / left.scale - 1.0).abs() < 0.01);
    assert!(patches(&MODEL, &turned, &[], &RULE).is_none());
}

/// What a filter makes of turns of the eyes, frame by frame at 30 a second; `None`: shut.
fn filtered(strength: Strength, turns: &[Option<[f32; 2]>]) -> Vec<Gaze> {
    let face = params([0.0, 0.0, 0.0]);
    let mut filter = Filter::new(strength);
    let frames = turns.iter().enumerate().map(|(frame, turn)| {
        let mut seen = sights(&face, turn.unwrap_or_default(), [0.0, 0.0]);
        if turn.is_none() {
            seen.iter_mut().for_each(|sight| sight.confidence = 0.05);
        }
        let directions = directions(&MODEL, &face, &seen, &RULE);
        filter.next(1, frame as f64 / 30.0, &face, (Some(seen), directions), frame == 0)
    });
    frames.collect()
}

#[test]
fn a_jump_is_a_jump_and_a_fixation_is_steady() {
    for strength in [Strength::Light, Strength::Medium, Strength::Strong] {
        // A degree of jitter about 0, then a jump of 15 degrees.
        let jitter = |frame: usize| [0.0, if frame.is_multiple_of(2) { 0.5 } else { -0.5 }];
        let mut turns: Vec<_> = (0..60).map(|frame| Some(jitter(frame))).collect();
        turns.push(Some([0.0, 15.0]));
        let gaze = filtered(strength, &turns);
        // Yaw is negative to the subject's left.
        let yaw = |gaze: &Gaze| -angles(gaze.direction)[1];
        let spread = gaze[30..60].iter().map(|g| yaw(g).abs()).fold(0.0, f32::max);
        assert!(spread < 0.35, "{strength}: {spread}");
        assert!((yaw(&gaze[60]) - 15.0).abs() < 0.5, "{strength}: {}", yaw(&gaze[60]));
    }
    let off = filtered(Strength::Off, &[Some([0.0, 0.0]), Some([0.0, 1.0])]);
    assert!((angles(off[1].direction)[1] + 1.0).abs() < 0.1);
}

#[test]
fn shut_eyes_keep_their_direction_and_then_look_ahead() {
    let mut turns = vec![Some([0.0, 20.0]); 10];
    turns.extend([None; 60]);
    let gaze = filtered(Strength::Medium, &turns);
    let yaw = |frame: usize| -angles(gaze[frame].direction)[1];
    assert!((yaw(9) - 20.0).abs() < 0.5 && gaze[9].confidence > 0.9 && gaze[9].left.iris.is_some());
    // A blink of 0.3 seconds.
    assert!((yaw(18) - 20.0).abs() < 0.5, "{}", yaw(18));
    assert!(gaze[18].confidence < 0.1 && gaze[18].left.iris.is_none());
    assert!(yaw(69).abs() < 1.0, "{}", yaw(69));
}

#[test]
fn one_open_eye_tells_for_both() {
    let face = params([0.0, 0.0, 0.0]);
    let mut seen = sights(&face, [5.0, 12.0], [0.0, 0.0]);
    seen[1].confidence = 0.02;
    let directions = directions(&MODEL, &face, &seen, &RULE);
    let mut filter = Filter::new(Strength::Off);
    let gaze = filter.next(1, 0.0, &face, (Some(seen), directions), true);
    assert_eq!(gaze.left.direction, gaze.right.direction);
    assert!(gaze.left.confidence < 0.1 && gaze.left.iris.is_none() && gaze.right.iris.is_some());
    assert!((angles(gaze.direction)[0] - 5.0).abs() < 0.5);
}
