//! Tables: what a run writes, and what is made of its records.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::common::clip;
use crate::common::program::{Records, Running, command, run};

const FLAGS: [&str; 3] = ["--csv", "--parquet", "--json"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn rows_of(parquet: &Path) -> i64 {
    let file = SerializedFileReader::new(File::open(parquet).unwrap()).unwrap();
    file.metadata().file_metadata().num_rows()
}

#[test]
fn a_run_and_its_records_give_the_same_tables() {
    let folder = tempfile::tempdir().unwrap();
    let [csv, parquet, json] =
        ["run.csv", "run.parquet", "run.jsonl"].map(|name| folder.path().join(name));
    let source = clip("noface_face.mov");
    let mut args = vec!["--file", text(&source), "--landmarks", "--raw"];
    for (flag, path) in FLAGS.iter().zip([&csv, &parquet, &json]) {
        args.extend([flag, text(path)]);
    }
    let done = run(args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let seen = Records::read(&std::fs::read(&json).unwrap());

    let (again, other) = (folder.path().join("again.csv"), folder.path().join("again.parquet"));
    for output in [&again, &other] {
        let done = run(["convert", text(&json), "-o", text(output)]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stderr.contains("rows of"), "{}", done.stderr);
    }
    let table = std::fs::read_to_string(&csv).unwrap();
    assert!(table == std::fs::read_to_string(&again).unwrap(), "the tables differ");
    assert!(std::fs::read(&parquet).unwrap() == std::fs::read(&other).unwrap());

    // Every frame is there, with or without a face, and says what its record says.
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let names = reader.headers().unwrap().clone();
    let at = |name: &str| names.iter().position(|n| n == name).unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows_of(&parquet), rows.len() as i64);
    let number = |row: &csv::StringRecord, name| row[at(name)].parse::<f64>().unwrap();
    let mut rows = rows.iter();
    let (mut nobody, mut somebody) = (0, 0);
    for frame in &seen.frames {
        if frame.faces.is_empty() {
            let row = rows.next().unwrap();
            assert_eq!((number(row, "success"), &row[at("yaw")]), (0.0, ""));
            nobody += 1;
        }
        for face in &frame.faces {
            let row = rows.next().unwrap();
            assert_eq!(number(row, "frame") as u64, frame.frame + 1);
            assert_eq!(number(row, "face_id") as u64, face.id);
            assert!((number(row, "timestamp") - frame.pts).abs() < 1e-6);
            assert!((number(row, "pose_Ry").to_degrees() - f64::from(face.r[1])).abs() < 1e-3);
            assert!((number(row, "pose_Rx").to_degrees() + f64::from(face.r[0])).abs() < 1e-3);
            let [x, y] = face.landmarks.as_ref().unwrap()[30];
            assert!((number(row, "x_30") - f64::from(x)).abs() < 1e-3);
            assert!((number(row, "y_30") - f64::from(y)).abs() < 1e-3);
            let raw = face.raw.as_ref().unwrap();
            assert!((number(row, "raw_yaw") - f64::from(raw.r[1])).abs() < 1e-3);
            somebody += 1;
        }
    }
    assert!(rows.next().is_none());
    assert!(nobody > 5 && somebody > 20, "{nobody} frames with nobody, {somebody} faces");
}

#[test]
fn a_killed_run_leaves_tables_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let [csv, parquet, json] =
        ["run.csv", "run.parquet", "run.jsonl"].map(|name| folder.path().join(name));
    let source = "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1";
    let mut args = vec!["--pipeline", source];
    for (flag, path) in FLAGS.iter().zip([&csv, &parquet, &json]) {
        args.extend([flag, text(path)]);
    }
    let mut program = Running::start(command(args));
    let lines = || std::fs::read_to_string(&csv).unwrap_or_default().lines().count();
    program.wait_until(|| lines() > 20 && parquet.metadata().is_ok_and(|file| file.len() > 0));
    program.signal("KILL");
    assert_eq!(program.finish().code, None);
    let rows = csv::Reader::from_path(&csv).unwrap().records().filter(Result::is_ok).count();
    assert!(rows >= 20, "{rows} rows");
    assert!(rows_of(&parquet) >= 0);
}

#[test]
fn what_cannot_be_converted_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let says = |args: &[&str], code: i32, words: &str| {
        let done = run(args);
        let sentence = done.failure(code);
        assert!(sentence.contains(words), "{args:?}: {sentence}");
    };
    std::fs::write(path("a.jsonl"), "{\"type\":\"header\"}\n").unwrap();
    std::fs::write(path("empty.jsonl"), "").unwrap();
    std::fs::write(path("noise.jsonl"), [0u8, 255, 10, 3, 10]).unwrap();
    let file = |name: &str| path(name).to_str().unwrap().to_string();
    says(&["convert", &file("none.jsonl")], 3, "cannot be read");
    says(&["convert", &file("a.jsonl")], 3, "line 1");
    says(&["convert", &file("noise.jsonl")], 3, "line 1");
    says(&["convert", &file("empty.jsonl")], 3, "holds no frame");
    says(&["convert", &file("a.jsonl"), "-o", &file("a.jsonl")], 2, "written over the records");
    says(&["convert", &file("a.jsonl"), "-o", &file("a.xlsx")], 2, "ends in .csv or .parquet");
    says(&["--file", "a.mp4", "--csv", "-"], 2, "name one for the table");
    says(
        &["--pipeline", "videotestsrc num-buffers=3", "--parquet", "/none/a.parquet"],
        6,
        "cannot create",
    );
}
