//! Measures what the presets do to known motion with a realistic noise.
//! `cargo test smooth::measured -- --nocapture` prints the table of docs/conventions.md.

use std::f32::consts::TAU;

use nalgebra::{UnitQuaternion, Vector3};

use super::tests::{expression, face};
use super::{Predictor, Smoother, Strength, face_size};
use crate::face::{Params, rotation};
use crate::testing::MODEL;

/// Standard deviations of a network's outputs for one face from frame to frame, for each
/// coordinate.
const NOISE_PLACE: f32 = 0.005; // face sizes
const NOISE_SCALE: f32 = 0.005; // ln f
const NOISE_ROTATION: f32 = 0.65; // degrees
const NOISE_EXPRESSION: f32 = 0.025;

/// Reproducible noise, approximately normal (the sum of twelve uniform numbers).
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    fn next(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    fn on(&mut self, truth: &Params) -> Params {
        let mut seen = truth.clone();
        let place = NOISE_PLACE * face_size(&MODEL) * seen.f;
        seen.t.iter_mut().for_each(|t| *t += place * self.next());
        seen.f *= (NOISE_SCALE * self.next()).exp();
        let turn = Vector3::from_fn(|_, _| NOISE_ROTATION.to_radians() * self.next());
        seen.rotation *= UnitQuaternion::from_scaled_axis(turn);
        seen.expression.iter_mut().for_each(|e| *e += NOISE_EXPRESSION * self.next());
        seen
    }
}

/// Films a face for some seconds: time, and true, noisy and smoothed parameters. Leaves out the
/// first two seconds, in which the filters settle.
fn film(
    strength: Strength,
    fps: f32,
    seconds: f32,
    truth: impl Fn(f32) -> Params,
) -> Vec<(f32, [Params; 3])> {
    let mut smoother = Smoother::new(strength, MODEL.clone());
    let mut noise = Noise(7);
    let times = (0..(seconds * fps) as usize).map(|frame| frame as f32 / fps);
    let all = times.map(|time| {
        let truth = truth(time);
        let seen = noise.on(&truth);
        let smooth = smoother.apply(1, f64::from(time), &seen, 0.9, false);
        (time, [truth, seen, smooth])
    });
    all.filter(|(time, _)| *time >= 2.0).collect()
}

/// Ratio of the root mean square deviations from the truth without and with smoothing.
fn reduction(film: &[(f32, [Params; 3])], deviation: impl Fn(&Params, &Params) -> f32) -> f32 {
    let total = |which: usize| {
        film.iter().map(|(_, p)| deviation(&p[0], &p[which]).powi(2)).sum::<f32>().sqrt()
    };
    total(1) / total(2)
}

/// The delay of the true motion, in milliseconds, with which it fits the smoothed motion best.
fn lag(
    film: &[(f32, [Params; 3])],
    value: impl Fn(&Params) -> f32,
    truth: impl Fn(f32) -> f32,
) -> i32 {
    let misfit = |ms: &i32| {
        let late = *ms as f32 / 1000.0;
        film.iter()
            .map(|(time, p)| f64::from(value(&p[2]) - truth(time - late)).powi(2))
            .sum::<f64>()
    };
    (0..200).min_by(|a, b| misfit(a).total_cmp(&misfit(b))).expect("not empty")
}

/// Share of a blink's peak that is left after smoothing, the least over all phases of the frames.
/// The blink is a triangle of 130 ms.
fn blink(strength: Strength, fps: f32) -> f32 {
    let lid = expression("eyeBlinkLeft");
    let kept = (0..8).map(|phase| {
        let mut smoother = Smoother::new(strength, MODEL.clone());
        let (mut seen, mut smooth) = (0.0f32, 0.0f32);
        for frame in 0..(2.0 * fps) as usize {
            let time = (frame as f32 + phase as f32 / 8.0) / fps;
            let mut raw = face();
            raw.expression[lid] = (0.9 * (1.0 - (time - 1.0).abs() / 0.065)).max(0.0);
            let out = smoother.apply(1, f64::from(time), &raw, 0.9, false);
            seen = seen.max(raw.expression[lid]);
            smooth = smooth.max(out.expression[lid]);
        }
        smooth / seen
    });
    kept.fold(f32::MAX, f32::min)
}

#[test]
fn presets_do_what_they_promise() {
    println!(
        "preset, fps   jitter / (place scale rotation brows lids; landmarks)   lag ms [turn, move] at ±40° ±10°   blink kept"
    );
    for (strength, jitter, late, kept) in [
        (Strength::Light, 1.8, 20, 0.85),
        (Strength::Medium, 3.0, 35, 0.85),
        (Strength::Strong, 6.0, 90, 0.75),
        (Strength::Avatar, 2.0, 45, 0.9),
    ] {
        for fps in [30.0, 60.0] {
            let still = film(strength, fps, 120.0, |_| face());
            let (brow, lid) = (expression("browDownLeft"), expression("eyeBlinkLeft"));
            let factors = [
                reduction(&still, |a, b| (a.t[0] - b.t[0]).hypot(a.t[1] - b.t[1])),
                reduction(&still, |a, b| (a.f / b.f).ln()),
                reduction(&still, |a, b| a.rotation.angle_to(&b.rotation)),
                reduction(&still, |a, b| a.expression[brow] - b.expression[brow]),
                reduction(&still, |a, b| {
                    let points = MODEL.landmarks3d(a).into_iter().zip(MODEL.landmarks3d(b));
                    points.map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).sum()
                }),
            ];
            let lids = reduction(&still, |a, b| a.expression[lid] - b.expression[lid]);

            // An oscillation at 0.5 Hz. An amplitude of 40° has a speed of up to 126° and one face
            // size per second.
            let wave = |time: f32| (TAU * 0.5 * time).sin();
            let lags = |degrees: f32| {
                let reach = degrees / 40.0 * face_size(&MODEL) * face().f / (TAU * 0.5);
                let turning = film(strength, fps, 20.0, |time| Params {
                    rotation: rotation::from_angles([0.0, degrees * wave(time), 0.0]),
                    t: [300.0 + reach * wave(time), 200.0, 0.0],
                    ..face()
                });
                let yaw = |p: &Params| rotation::to_angles(&p.rotation)[1];
                [
                    lag(&turning, yaw, |time| degrees * wave(time)),
                    lag(&turning, |p| p.t[0], |time| 300.0 + reach * wave(time)),
                ]
            };
            let (fast, slow) = (lags(40.0), lags(10.0));
            let blink = blink(strength, fps);
            println!(
                "{strength:6} {fps}   {factors:.2?} lids {lids:.2}   {fast:?} {slow:?}   {blink:.2}"
            );

            assert!(factors.iter().all(|factor| *factor >= jitter), "{strength}: {factors:?}");
            assert!(fast.iter().all(|lag| *lag <= late), "{strength}: {fast:?} ms");
            assert!(blink >= kept, "{strength}: {blink}");
        }
    }
}

/// What prediction over `late` seconds does to a head that turns, with this preset: root mean square
/// error in degrees without and with it, and the same of a head that is still (the jitter).
fn prediction(strength: Strength, fps: f32, degrees: f32, late: f32) -> [[f32; 2]; 2] {
    let wave = |time: f32| degrees * (TAU * 0.5 * time).sin();
    let turned =
        |angle: f32| Params { rotation: rotation::from_angles([0.0, angle, 0.0]), ..face() };
    let errors = |truth: &dyn Fn(f32) -> Params| {
        let mut predictor = Predictor::new(late);
        let mut sums = [0f32; 2];
        let film = film(strength, fps, 40.0, truth);
        for (time, [_, _, smooth]) in &film {
            let now = truth(time + late);
            let ahead = predictor.apply(1, f64::from(*time), smooth.clone());
            for (sum, seen) in sums.iter_mut().zip([smooth, &ahead]) {
                *sum += seen.rotation.angle_to(&now.rotation).to_degrees().powi(2);
            }
        }
        sums.map(|sum| (sum / film.len() as f32).sqrt())
    };
    [errors(&|time| turned(wave(time))), errors(&|_| turned(0.0))]
}

#[test]
fn prediction_makes_up_for_latency() {
    println!(
        "preset, fps, ±degrees, ms late   error without, with prediction   still: without, with"
    );
    for strength in [Strength::Light, Strength::Medium, Strength::Avatar] {
        for (fps, degrees, late) in [
            (30.0, 40.0, 0.04),
            (30.0, 40.0, 0.08),
            (60.0, 40.0, 0.04),
            (30.0, 10.0, 0.04),
            (30.0, 10.0, 0.08),
        ] {
            let [moving, still] = prediction(strength, fps, degrees, late);
            println!(
                "{strength:6} {fps} ±{degrees} {:3.0} ms   {moving:.2?}   {still:.2?}",
                late * 1e3
            );
            assert!(moving[1] < 0.8 * moving[0], "{strength}: {moving:?}");
            assert!(still[1] < 2.0 * still[0] + 0.1, "{strength}: {still:?}");
        }
    }
}
