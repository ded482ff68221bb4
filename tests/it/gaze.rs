//! Gaze, from a real picture.

use mmface::{Device, Face, Mode, Models, Runtime, TrackerOptions};

use crate::common::{clip, decoded, root};

/// Where the irises of the subject's right eye and left are in `astronaut.png`, read off by eye.
const IRISES: [[f32; 2]; 2] = [[203.4, 100.3], [246.8, 102.8]];

fn face(models: Models) -> Face {
    let runtime = Runtime::builder(models).device(Device::Cpu).threads(2).build().unwrap();
    let stills = TrackerOptions { mode: Mode::Stills, ..TrackerOptions::default() };
    let mut tracker = runtime.tracker(stills).unwrap();
    let frames = decoded(&clip("astronaut.png"));
    tracker.process(&frames[0].image(), 0.0).unwrap().faces.remove(0)
}

#[test]
fn irises_are_found_and_look_into_the_camera() {
    let face = face(Models::open(&root().join("engines")).unwrap());
    let gaze = face.gaze.unwrap();
    for (eye, [x, y]) in [gaze.right, gaze.left].iter().zip(IRISES) {
        let [u, v] = eye.iris.unwrap();
        // An eye is 20 pixels wide.
        assert!((u - x).hypot(v - y) < 1.5, "{:?}, not {:?}", [u, v], [x, y]);
        assert!(eye.confidence > 0.5);
    }
    // She looks into the camera, or a little beside it.
    assert!(gaze.direction[2] > 15f32.to_radians().cos(), "{gaze:?}");
}

#[test]
fn models_without_a_gaze_network_tell_no_gaze() {
    let folder = tempfile::tempdir().unwrap();
    let engines = root().join("engines");
    let text = std::fs::read_to_string(engines.join("manifest.toml")).unwrap();
    let mut manifest: toml::Value = toml::from_str(&text).unwrap();
    let variant = manifest["variants"]["mmface-lite"].as_table_mut().unwrap();
    variant.remove("gaze").unwrap();
    variant["networks"].as_table_mut().unwrap().remove("gaze").unwrap();
    std::fs::write(folder.path().join("manifest.toml"), toml::to_string(&manifest).unwrap())
        .unwrap();
    for name in ["mmface-lite", "face-model.safetensors"] {
        std::os::unix::fs::symlink(engines.join(name), folder.path().join(name)).unwrap();
    }
    assert!(face(Models::open(folder.path()).unwrap()).gaze.is_none());
}
