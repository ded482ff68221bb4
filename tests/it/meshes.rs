//! Volumes, meshes and the alignment to volumes, from real media.

use std::path::{Path, PathBuf};

use mmface::record::{FaceRecord, Record};

use crate::common::clip;
use crate::common::program::{Records, Running, command, records, run};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The program on a file.
fn on(file: &str, flags: &[&str]) -> Records {
    let file = clip(file);
    let flags = flags.iter().map(Path::new);
    records([Path::new("--file"), &file].into_iter().chain(flags))
}

/// The JSON of a `.glb` file.
fn gltf(path: &Path) -> serde_json::Value {
    let file = std::fs::read(path).unwrap();
    let length = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    assert_eq!((&file[..4], &file[16..20]), (&b"glTF"[..], &b"JSON"[..]));
    serde_json::from_slice(&file[20..20 + length]).unwrap()
}

/// The points of a `.ply` file as the program writes it.
fn points(path: &Path) -> Vec<[f32; 3]> {
    let file = std::fs::read(path).unwrap();
    let marker = b"end_header\n";
    let end = file.windows(marker.len()).position(|w| w == marker).unwrap() + marker.len();
    let header = std::str::from_utf8(&file[..end]).unwrap();
    let count = header.lines().find_map(|l| l.strip_prefix("element vertex ")).unwrap();
    let rows = file[end..].as_chunks::<15>().0.iter().take(count.parse().unwrap());
    let float = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
    rows.map(|row| [float(&row[..4]), float(&row[4..8]), float(&row[8..12])]).collect()
}

#[test]
fn a_portrait_as_meshes_of_every_kind() {
    let out = folder();
    let at = out.path().to_str().unwrap();
    let seen = on("astronaut.png", &["--mesh", at, "--mesh-format", "ply", "--vertices"]);
    on("astronaut.png", &["--mesh", at, "--mesh-format", "obj"]);
    on("astronaut.png", &["--mesh", at]);
    let [face] = &seen.frames[0].faces[..] else { panic!("one face") };
    let name = |extension| format!("astronaut-face{}.{extension}", face.id);
    assert_eq!(names(out.path()), [name("glb"), name("obj"), name("ply")]);
    // The mesh of the record, with y up.
    let vertices = face.vertices.as_ref().unwrap();
    let found = points(&out.path().join(name("ply")));
    assert_eq!(found.len(), vertices.len());
    for (a, b) in found.iter().zip(vertices) {
        let off = [a[0] - b[0], a[1] + b[1], a[2] - b[2]];
        assert!(off.iter().all(|v| v.abs() < 0.06), "{a:?} {b:?}");
    }
    let gltf = gltf(&out.path().join(name("glb")));
    let position = &gltf["meshes"][0]["primitives"][0]["attributes"]["POSITION"];
    let position = &gltf["accessors"][position.as_u64().unwrap() as usize];
    assert_eq!(position["count"], vertices.len());
    let highest = vertices.iter().map(|v| -v[1]).fold(f32::MIN, f32::max);
    assert!((position["max"][1].as_f64().unwrap() - f64::from(highest)).abs() < 0.1);
}

#[test]
fn a_volume_lies_where_the_face_is() {
    for origin in ["network", "model"] {
        volume_from(origin);
    }
}

fn volume_from(origin: &str) {
    let out = folder();
    let (volumes, meshes) = (out.path().join("volumes"), out.path().join("meshes"));
    let seen = on(
        "astronaut.png",
        &[
            "--volume-out",
            volumes.to_str().unwrap(),
            "--volume-from",
            origin,
            "--mesh",
            meshes.to_str().unwrap(),
            "--mesh-from",
            "volume",
            "--mesh-format",
            "ply",
            "--landmarks",
        ],
    );
    assert_eq!((seen.header.volume, seen.header.volume_from.as_deref()), (Some(64), Some(origin)));
    let face = &seen.frames[0].faces[0];
    let volume = face.volume.as_ref().unwrap();
    assert_eq!(volume.resolution, 64);
    let file = std::fs::read(volumes.join(format!("astronaut-face{}.npy", face.id))).unwrap();
    assert_eq!(file.len(), 128 + 64 * 64 * 64);
    let values = &file[128..];
    // What is filled lies about the landmarks, as `place` says.
    let mut sum = [0.0f32; 4];
    for (i, _) in values.iter().enumerate().filter(|(_, v)| **v >= 128) {
        let at = [i / 4096, i / 64 % 64, i % 64].map(|v| v as f32);
        for (sum, row) in sum.iter_mut().zip(&volume.place) {
            *sum += row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3];
        }
        sum[3] += 1.0;
    }
    let [x, y, width, height] = face.bounds;
    let part = sum[3] / values.len() as f32;
    assert!((0.05..0.6).contains(&part), "{part} is filled");
    let middle = [sum[0] / sum[3], sum[1] / sum[3]];
    assert!((middle[0] - x - width / 2.0).abs() < 0.2 * width, "{middle:?}");
    assert!((middle[1] - y - height / 2.0).abs() < 0.3 * height, "{middle:?}");
    // Its surface passes before the tip of the nose about where the model's does.
    let surface = points(&meshes.join(format!("astronaut-face{}.ply", face.id)));
    assert!(surface.len() > 2000);
    let nose = face.landmarks3d.as_ref().unwrap()[30];
    let near = surface.iter().filter(|p| (p[0] - nose[0]).hypot(p[1] + nose[1]) < 0.05 * width);
    let front = near.map(|p| p[2]).fold(f32::MIN, f32::max);
    assert!((front - nose[2]).abs() < 0.2 * width, "{front} {nose:?}");
}

#[test]
fn a_clip_as_one_animation_and_as_meshes_of_every_frame() {
    let out = folder();
    let path = out.path().join("face.glb");
    let seen = on("single_face.mp4", &["--mesh", path.to_str().unwrap()]);
    let gltf = gltf(&path);
    let names = &gltf["meshes"][0]["extras"]["targetNames"];
    assert_eq!(*names, serde_json::json!(seen.header.face_model.expressions));
    let targets = gltf["meshes"][0]["primitives"][0]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), seen.header.face_model.expressions.len());
    let animation = &gltf["animations"][0];
    let accessor = |which: &str, sampler: usize| {
        let index = animation["samplers"][sampler][which].as_u64().unwrap();
        &gltf["accessors"][index as usize]
    };
    let frames = seen.frames.iter().filter(|f| !f.faces.is_empty()).count();
    assert_eq!(accessor("input", 0)["count"], frames);
    let last = accessor("input", 0)["max"][0].as_f64().unwrap();
    assert!((last - (seen.frames[71].pts - seen.frames[0].pts)).abs() < 1e-3, "{last}");
    let paths: Vec<_> = animation["channels"].as_array().unwrap().iter().collect();
    let paths: Vec<_> = paths.iter().map(|c| c["target"]["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["rotation", "translation", "scale", "weights"]);
    assert_eq!(accessor("output", 3)["count"], frames * targets.len());
}

#[test]
fn a_signal_leaves_a_whole_animation() {
    let out = folder();
    let path = out.path().join("face.glb");
    let clip = clip("single_face.mp4");
    let flags = ["--realtime", "--mesh", path.to_str().unwrap(), "--file", clip.to_str().unwrap()];
    let mut program = Running::start(command(flags));
    program.read_until(|record| matches!(record, Record::Frame(f) if !f.faces.is_empty()));
    program.signal("INT");
    let seen = program.finish().records();
    assert_eq!(seen.end.reason, "stopped");
    assert!(gltf(&path)["animations"][0]["channels"].is_array());
}

#[test]
fn icp_moves_the_pose_and_says_so() {
    let plain = on("astronaut.png", &["--raw"]);
    let refined = on("astronaut.png", &["--raw", "--refine", "icp"]);
    assert_eq!((plain.header.refine.as_deref(), plain.header.volume), (None, None));
    assert_eq!((refined.header.refine.as_deref(), refined.header.volume), (Some("icp"), Some(64)));
    let (a, b) = (&plain.frames[0].faces[0], &refined.frames[0].faces[0]);
    // What the networks said stays in `raw`; shape and expression are not ICP's.
    assert_eq!(a.raw, b.raw);
    let face = |face: &FaceRecord| (face.identity.clone(), plain.without_eyes(&face.expression));
    assert_eq!(face(a), face(b));
    assert_ne!((a.r, a.t), (b.r, b.t));
    let size = a.bounds[2].max(a.bounds[3]);
    assert!((a.f / b.f - 1.0).abs() < 0.2, "{} {}", a.f, b.f);
    assert!((0..2).all(|k| (a.t[k] - b.t[k]).abs() < 0.2 * size), "{:?} {:?}", a.t, b.t);
    assert!(a.volume.is_none() && b.volume.is_none(), "nobody asked for the volume itself");
}

#[test]
fn meshes_of_pictures_are_named_after_them() {
    let (out, pictures) = (folder(), folder());
    for name in ["single_face.jpg", "astronaut.png", "free-mountain-vector-01.jpg"] {
        std::fs::copy(clip(name), pictures.path().join(name)).unwrap();
    }
    let at = out.path().join("new/folder");
    let flags = ["--images".as_ref(), pictures.path(), "--mesh".as_ref(), &at];
    let seen = records(flags);
    let expected: Vec<_> = seen
        .frames
        .iter()
        .flat_map(|frame| {
            let stem = PathBuf::from(frame.file.as_ref().unwrap());
            let stem = stem.file_stem().unwrap().to_string_lossy().into_owned();
            frame.faces.iter().map(move |face| format!("{stem}-face{}.glb", face.id))
        })
        .collect();
    assert!(expected.len() >= 2);
    assert_eq!(names(&at), expected);
}

#[test]
fn every_style_of_the_overlay_is_another_picture() {
    let out = folder();
    let mut pictures = std::collections::BTreeSet::new();
    for style in ["mesh", "wire", "depth", "normals", "volume"] {
        let path = out.path().join(format!("{style}.png"));
        let flags = ["--overlay", path.to_str().unwrap(), "--overlay-style", style];
        let seen = on("astronaut.png", &flags);
        assert_eq!(seen.header.volume.is_some(), style == "volume");
        pictures.insert(std::fs::read(path).unwrap());
    }
    assert_eq!(pictures.len(), 5);
}

#[test]
fn a_disk_that_fills_up_is_told() {
    for (flag, name) in [("--mesh", "000003-face1.glb"), ("--volume-out", "000003-face1.npy")] {
        let out = folder();
        std::os::unix::fs::symlink("/dev/full", out.path().join(name)).unwrap();
        let clip = clip("single_face.mp4");
        let file = ["--file".as_ref(), clip.as_path()];
        let done = run(file.into_iter().chain([flag.as_ref(), out.path()]));
        let sentence = done.failure(6);
        assert!(sentence.contains(name) && sentence.contains("make room"), "{sentence}");
        assert!(names(out.path()).len() >= 4, "what came before is there");
        assert!(!done.stdout.is_empty());
    }
}

#[test]
fn what_cannot_be_is_said() {
    let file = clip("astronaut.png");
    let fails = |flags: &[&str], code: i32, words: &str| {
        let flags = flags.iter().map(Path::new);
        let done = run([Path::new("--file"), &file].into_iter().chain(flags));
        let sentence = done.failure(code).to_owned();
        assert!(sentence.contains(words), "not {words:?}: {sentence}");
    };
    fails(&["--volume", "77", "--refine", "icp"], 4, "resolution 77; it has: 64");
    fails(&["--volume-from", "model"], 2, "add --volume-out DIR");
    let of_model = ["--volume-out", "/tmp", "--volume-from", "model"];
    fails(&[&of_model[..], &["--refine", "icp"]].concat(), 2, "leave --volume-from model out");
    fails(&[&of_model[..], &["--volume", "100000"]].concat(), 2, "within 16 to 256");
    fails(&["--refine", "icp", "--device", "cuda"], 2, "--device cpu");
    fails(&["--mesh", "/proc/none/meshes"], 6, "--mesh");
    fails(&["--volume-out", "/dev/null/volumes"], 6, "--volume-out");
    fails(&["--mesh", "/nonexistent/face.glb"], 6, "--mesh");
    fails(&["--mesh", "face.obj"], 2, "only as .glb");
    fails(&["--mesh-from", "volume"], 2, "--mesh DIR");
}
