use super::*;
use crate::crop::CropMap;
use crate::face::rotation;
use crate::testing::MODEL;
use crate::volume::Solid;

/// The volume of a mesh as the networks were taught it: filled between front and back along each
/// column. `soft`: over how many voxels of depth it goes from empty to filled.
fn voxelised(model: &FaceModel, params: &Params, map: CropMap, r: usize, soft: f32) -> Volume {
    let solid = Solid::new(&model.vertices(params), &model.triangles, &map, r);
    let part = |inside: f32| (255.0 * (inside / soft.max(1e-6) + 0.5).clamp(0.0, 1.0)) as u8;
    Volume::new(solid.depths().map(part).collect(), map).expect("a cube")
}

fn pose(f: f32, angles: [f32; 3], t: [f32; 3], model: &FaceModel) -> Params {
    let pose = [f, angles[0], angles[1], angles[2], t[0], t[1], t[2]];
    let (identity, expression) = (vec![0.3; model.identities], vec![0.1; model.expressions.len()]);
    Params::from_outputs(pose, &identity, &expression).expect("finite")
}

/// Rotation off by degrees, mean distance of landmarks by crop pixels, depth included.
fn off(model: &FaceModel, a: &Params, b: &Params, map: &CropMap) -> (f32, f32) {
    let (p, q) = (model.landmarks3d(a), model.landmarks3d(b));
    let apart = |(p, q): (&[f32; 3], &[f32; 3])| {
        (0..3).map(|k| (p[k] - q[k]).powi(2)).sum::<f32>().sqrt() / map.scale
    };
    let mean = p.iter().zip(&q).map(apart).sum::<f32>() / p.len() as f32;
    (a.rotation.angle_to(&b.rotation).to_degrees(), mean)
}

const MAP: CropMap = CropMap { centre: [410.0, 295.0], scale: 1.7, angle: 0.25, mirrored: false };

#[test]
fn a_disturbed_pose_comes_back() {
    let model = MODEL.clone();
    let aligner = Aligner::new(model.clone());
    for (r, soft) in [(64, 3.0), (64, 0.0), (128, 1.0)] {
        for (angles, turn) in [([5.0, 3.0, 2.0], 1.0), ([-8.0, 25.0, -6.0], -1.0)] {
            let truth = pose(19.0, angles, [415.0, 300.0, -55.0], &model);
            let truth =
                Params { rotation: rotation::rotated_in_plane(&truth.rotation, 0.25), ..truth };
            let volume = voxelised(&model, &truth, MAP, r, soft);
            let by = rotation::from_angles([4.0 * turn, -5.0, 3.0 * turn]);
            let start = Params {
                f: 1.05 * truth.f,
                rotation: by * truth.rotation,
                t: [truth.t[0] - 9.0, truth.t[1] + 7.0, truth.t[2] + 10.0],
                ..truth.clone()
            };
            let before = off(&model, &start, &truth, &MAP);
            let found = aligner.align(&start, &volume).expect("aligned");
            let (degrees, pixels) = off(&model, &found, &truth, &MAP);
            println!("r = {r}, soft {soft}: {before:?} → {degrees}° {pixels} px");
            assert!(degrees < 1.0 && pixels < 1.0, "{degrees}° {pixels} px");
        }
    }
}

#[test]
#[ignore = "a measurement: cargo test --lib icp -- --ignored --nocapture"]
fn what_it_costs() {
    let model = MODEL.clone();
    let aligner = Aligner::new(model.clone());
    let truth = pose(11.0, [5.0, 3.0, 2.0], [128.0, 128.0, -35.0], &model);
    let map = CropMap::square([127.5; 2], 256.0, 0.0);
    let by = rotation::from_angles([2.0, -2.0, 1.0]);
    let start = Params { rotation: by * truth.rotation, ..truth.clone() };
    for r in [64, 128, 192] {
        let volume = voxelised(&model, &truth, map, r, 1.0);
        // Time on the CPU: what the machine does besides is not its cost.
        let cpu = || {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
            let used = text.split(' ').next().expect("a number");
            used.parse::<f64>().expect("nanoseconds") / 1e6
        };
        let least = |work: &dyn Fn()| {
            let took = (0..15).map(|_| {
                let started = cpu();
                work();
                cpu() - started
            });
            took.fold(f64::MAX, f64::min)
        };
        let whole = least(&|| drop(aligner.align(&start, &volume).expect("aligned")));
        let part = least(&|| drop(surface(&volume)));
        println!("r = {r}: {whole:.1} ms, of which {part:.1} for the surface");
    }
}

#[test]
fn what_is_wrong_in_the_volume_does_not_count() {
    let model = MODEL.clone();
    let truth = pose(19.0, [3.0, -8.0, 0.0], [415.0, 300.0, -55.0], &model);
    let volume = voxelised(&model, &truth, MAP, 64, 1.0);
    // A block before one cheek: a hand that the volume takes for the face.
    let mut values = volume.values().to_vec();
    for (i, value) in values.iter_mut().enumerate() {
        let (slice, row, column) = (i / 4096, i / 64 % 64, i % 64);
        if (18..32).contains(&slice) && (34..46).contains(&row) && (10..24).contains(&column) {
            *value = 255;
        }
    }
    let volume = Volume::new(values, MAP).expect("a cube");
    let by = rotation::from_angles([3.0, -4.0, 2.0]);
    let start = Params { rotation: by * truth.rotation, f: 0.97 * truth.f, ..truth.clone() };
    let found = Aligner::new(model.clone()).align(&start, &volume).expect("aligned");
    let (degrees, pixels) = off(&model, &found, &truth, &MAP);
    assert!(degrees < 1.0 && pixels < 1.0, "{degrees}° {pixels} px");
}

#[test]
fn a_volume_that_says_nothing_changes_nothing() {
    let model = MODEL.clone();
    let params = pose(19.0, [0.0; 3], [415.0, 300.0, -55.0], &model);
    let aligner = Aligner::new(model.clone());
    let empty = Volume::new(vec![0; 64 * 64 * 64], MAP).expect("a cube");
    assert!(aligner.align(&params, &empty).is_none());
    let elsewhere = Params { t: [4000.0, 300.0, -55.0], ..params.clone() };
    let volume = voxelised(&model, &params, MAP, 64, 1.0);
    assert!(aligner.align(&elsewhere, &volume).is_none());
}
