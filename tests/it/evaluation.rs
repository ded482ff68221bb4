//! `eval`: labels that are off by a known amount give the known error.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::clip;
use crate::common::program::{Running, command, records, run};

/// Pictures of one face each, a name for it, and by how much its labels are off, in parts of its size.
const FACES: [(&str, &str, f64); 3] = [
    ("astronaut.png", "anna", 0.03),
    ("single_face.jpg", "emil", 0.05),
    ("0-f1-su-ph.jpg", "emil", 0.05),
];

/// Points that were found, moved back along the line between the eyes.
fn label(found: &[[f32; 2]], by: f64) -> Vec<[f64; 2]> {
    // As in the record: a number of five digits, not the nearest that an f32 can be.
    let points: Vec<[f64; 2]> =
        found.iter().map(|p| p.map(|v| (f64::from(v) * 1e4).round() / 1e4)).collect();
    let side = |k: usize| {
        let all = || points.iter().map(|p| p[k]);
        all().fold(f64::MIN, f64::max) - all().fold(f64::MAX, f64::min)
    };
    let middle =
        |eye: std::ops::Range<usize>, k: usize| points[eye].iter().map(|p| p[k]).sum::<f64>() / 6.0;
    let eyes = [0, 1].map(|k| middle(42..48, k) - middle(36..42, k));
    let step = by * (side(0) * side(1)).sqrt() / eyes[0].hypot(eyes[1]);
    points.iter().map(|[x, y]| [x - step * eyes[0], y - step * eyes[1]]).collect()
}

/// A folder with pictures and labels made of the program's own records, with poses that are off by 1°,
/// 2° and 3°.
fn dataset() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for (name, ..) in FACES {
        std::fs::copy(clip(name), folder.path().join("in").join(name)).unwrap();
    }
    std::fs::write(folder.path().join("broken.jpg"), "no picture").unwrap();
    let seen =
        records([Path::new("--images"), &folder.path().join("in"), Path::new("--landmarks")]);
    let mut lines = String::new();
    for (name, person, by) in FACES {
        let frame = seen.frames.iter().find(|f| f.file.as_deref() == Some(name)).unwrap();
        let [face] = &frame.faces[..] else { panic!("{} faces in {name}", frame.faces.len()) };
        let [pitch, yaw, roll] = face.r.map(f64::from);
        let points = label(face.landmarks.as_ref().unwrap(), by);
        let file = format!("in/{name}");
        let pose = [pitch + 1.0, yaw - 2.0, roll + 3.0];
        lines +=
            &json!({"file": file, "person": person, "points": points, "pose": pose}).to_string();
        lines += "\n";
    }
    // A face where there is none, of the same picture; and lines that are no labels.
    let nowhere = label(&[[0.0; 2]; 68], 0.0);
    let nowhere: Vec<_> =
        (0..nowhere.len() as u32).map(|i| [f64::from(i % 8), f64::from(i)]).collect();
    lines += &json!({"file": "in/astronaut.png", "points68": nowhere}).to_string();
    lines += &format!("\n{}\n", json!({"file": "broken.jpg", "points": nowhere}));
    lines += "{\"file\": \"in/astronaut.png\"}\n{\"file\": 7}\n";
    let path = folder.path().join("list.jsonl");
    std::fs::write(&path, lines).unwrap();
    (folder, path)
}

/// The numbers of a run.
fn eval(arguments: &[&Path]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.json");
    let done = run([&[Path::new("eval"), Path::new("--out"), &out], arguments].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let numbers = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    (numbers, String::from_utf8(done.stdout).unwrap())
}

#[test]
fn labels_that_are_off_by_a_known_amount_give_the_known_error() {
    let (_folder, list) = dataset();
    let (mut numbers, table) = eval(&[&list]);
    let data = &numbers["datasets"][0];
    assert_eq!((&data["name"], &data["points"]), (&json!("list.jsonl"), &json!("visible")));
    let labels = json!({"faces": 5, "measured": 4, "unreadable": 1, "broken": 1, "unlabelled": 1});
    assert_eq!(data["labels"], labels);
    assert_eq!(data["yaw_from"], json!({"label": 3, "fit": 0}));
    let all = &data["groups"][0];
    assert_eq!((&all["faces"], &all["missed"]), (&json!(4), &json!(1)));
    let is = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < 0.01, "{value} instead of {expected}: {numbers}");
    };
    for points in ["inner", "all"] {
        is(&all["raw"][points], (3.0 + 5.0 + 5.0) / 3.0);
        // Anna is judged by the habit of Emil's labels, Emil's by that of hers: 3 − 5 and 5 − 3.
        is(&all["free"][points], 2.0);
    }
    for (angle, expected) in [("pitch", 1.0), ("yaw", 2.0), ("roll", 3.0)] {
        is(&all["pose"][angle], expected);
    }
    assert!(all["pose"]["angle"].as_f64().unwrap() > 3.0);
    assert_eq!(numbers["complete"], json!(true));
    assert!(
        table.contains("list.jsonl: 4 of 5 labelled faces, 1 unreadable, 1 broken, 1 unlabelled"),
        "{table}"
    );
    assert!(table.contains("4.33  4.33   2.00  2.00"), "{table}");

    // The same again, with fewer words about time.
    let (mut again, _) = eval(&[&list]);
    for run in [&mut numbers, &mut again] {
        assert!(run.as_object_mut().unwrap().remove("timing").unwrap()["picture_ms"].is_f64());
    }
    assert_eq!(numbers, again);
}

/// The program's own mesh as the true one, in its place and pushed back by 5 % of the face's size.
#[test]
fn true_meshes_are_compared_with_mesh_and_volume() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("in")).unwrap();
    std::fs::copy(clip("single_face.jpg"), at("in/a.jpg")).unwrap();
    let flags = ["--images", "--mesh", "--mesh-format", "--landmarks"].map(Path::new);
    let [images, mesh, format, landmarks] = flags;
    let seen = records([images, &at("in"), mesh, &at("out"), format, Path::new("obj"), landmarks]);
    let face = &seen.frames[0].faces[0];
    let points = face.landmarks.as_ref().unwrap();
    let text = std::fs::read_to_string(at("out").join(format!("a-face{}.obj", face.id))).unwrap();
    let size = f64::from(face.bounds[2] * face.bounds[3]).sqrt();
    let mut lines = String::new();
    for (name, back) in [("there.obj", 0.0), ("behind.obj", 0.05)] {
        let moved = text.lines().map(|line| match line.strip_prefix("v ") {
            Some(numbers) => {
                let mut v = numbers.split(' ').map(|n| n.parse::<f64>().unwrap());
                let [x, y, z] = [(); 3].map(|()| v.next().unwrap());
                format!("v {x} {y} {}\n", z - back * size)
            }
            None => format!("{line}\n"),
        });
        std::fs::write(at(name), moved.collect::<String>()).unwrap();
        lines += &json!({"file": "in/a.jpg", "points": points, "mesh": name, "source": name})
            .to_string();
        lines += "\n";
    }
    std::fs::write(at("list.jsonl"), lines).unwrap();
    let (numbers, table) = eval(&[&at("list.jsonl"), Path::new("--volume"), Path::new("64")]);
    assert_eq!(numbers["volume"], json!(64));
    let group = |name: &str| {
        let groups = numbers["datasets"][0]["groups"].as_array().unwrap();
        let mesh = &groups.iter().find(|group| group["name"] == name).unwrap()["mesh"];
        assert_eq!(mesh["faces"], json!(1));
        ["voxels", "solid", "surface", "aligned"].map(|key| mesh[key].as_f64().unwrap())
    };
    let [voxels, solid, surface, aligned] = group("there.obj");
    assert!(solid < 0.1 && surface < 0.01 && aligned < 0.01, "{table}");
    assert!(voxels > 0.0 && voxels < 25.0, "{table}");
    let [further, solid, surface, aligned] = group("behind.obj");
    assert!(solid > 0.5 && solid < 5.0, "{table}");
    assert!(surface > 2.0 && surface < 5.0 && aligned < 0.5, "{table}");
    assert!((further - voxels).abs() > 0.1, "{table}");
    assert!(
        table.contains("voxels  solid  surface  aligned") && table.contains("volumes of 64³"),
        "{table}"
    );
}

#[test]
fn some_of_the_pictures_by_other_points_with_their_records() {
    let (folder, list) = dataset();
    let [only, written] = ["only.txt", "records.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&only, "single_face.jpg\n").unwrap();
    let (flag, three) = (Path::new("--points"), Path::new("3d"));
    let flags = [Path::new("--only"), &only, Path::new("--records"), &written];
    let (numbers, _) = eval(&[&[list.as_path(), flag, three], &flags[..]].concat());
    let data = &numbers["datasets"][0];
    assert_eq!((&data["labels"]["faces"], &data["points"]), (&json!(1), &json!("3d")));
    // Points that are fixed on the face lie elsewhere on the jaw than those on its outline.
    let raw = &data["groups"][0]["raw"];
    assert!(raw["all"].as_f64().unwrap() > 4.0 && raw["all"] != raw["inner"], "{numbers}");
    let lines = std::fs::read(written).unwrap();
    let records = crate::common::program::Records::read(&lines);
    let files: Vec<_> = records.frames.iter().map(|frame| frame.file.as_deref()).collect();
    assert_eq!(files, [Some("in/single_face.jpg")], "a record names its picture as the list does");
}

#[test]
fn precisions_are_compared() {
    let (folder, list) = dataset();
    let out = folder.path().join("out.json");
    let done = run([
        Path::new("eval"),
        &list,
        Path::new("--precisions"),
        Path::new("f32,int8"),
        Path::new("--out"),
        &out,
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let reports: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let error = |k: usize| reports[k]["datasets"][0]["groups"][0]["raw"]["all"].as_f64().unwrap();
    let precision = |k: usize| reports[k]["network"]["precision"].as_str().unwrap();
    assert_eq!([precision(0), precision(1)], ["f32", "int8"]);
    assert!(error(0) != error(1) && (error(0) - error(1)).abs() < 0.5, "{} {}", error(0), error(1));
    let text = String::from_utf8(done.stdout).unwrap();
    let table = text.split_once(", by precision\n").unwrap().1;
    let rows: Vec<_> =
        table.lines().filter(|l| l.starts_with("f32") || l.starts_with("int8")).collect();
    assert_eq!(rows.len(), 2, "{table}");
    let wrong = run([Path::new("eval"), &list, Path::new("--precisions"), Path::new("f33")]);
    assert_eq!(wrong.code, Some(2));
}

#[test]
fn a_stopped_evaluation_says_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let points: Vec<_> = (0..68).map(|i| [i % 9, i]).collect();
    let mut lines = String::new();
    for i in 0..200 {
        let file = format!("{i}.png");
        std::fs::copy(clip("astronaut.png"), folder.path().join(&file)).unwrap();
        lines += &format!("{}\n", json!({"file": file, "points": points}));
    }
    let [list, written] = ["list.jsonl", "records.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&list, lines).unwrap();
    let arguments = [Path::new("eval"), &list, Path::new("--records"), &written];
    let mut running = Running::start(command(arguments));
    let so_far = || std::fs::read_to_string(&written).unwrap_or_default().lines().count();
    running.wait_until(|| so_far() >= 4);
    running.signal("INT");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let table = String::from_utf8(done.stdout).unwrap();
    assert!(table.contains("Stopped early"), "{table}");
    assert!(!table.contains("200 of 200"), "{table}");
}

#[test]
fn wrong_use_is_told() {
    let (folder, list) = dataset();
    let list = list.to_str().unwrap();
    let missing = run(["eval", "nowhere.jsonl"]);
    assert!(missing.failure(3).contains("nowhere.jsonl"));
    let empty = folder.path().join("in");
    assert!(run(["eval", empty.to_str().unwrap()]).failure(3).contains("AFLW2000-3D"));
    assert!(run(["eval", list, "--out", list]).failure(2).contains("--out"));
    assert!(run(["eval", list, "--out", "no/such/folder.json"]).failure(6).contains("--out"));
    let camera = run(["eval", list, "--camera", "0"]);
    assert_eq!(camera.code, Some(2));
    assert!(camera.stderr.contains("--camera"), "{}", camera.stderr);
}
