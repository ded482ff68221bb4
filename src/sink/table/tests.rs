#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs::File;

use ::parquet::basic::Compression;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use mmface::record::{
    CameraPose, Dropped, FaceModel, FaceRecord, Gaze, Latency, Look, Network, Raw,
};

use super::*;

fn header() -> Header {
    Header {
        schema: 1,
        program: "mmface-live".into(),
        version: "0".into(),
        stream: "a".into(),
        source: "a.mp4".into(),
        network: Network {
            variant: "v".into(),
            hash: "h".into(),
            backend: "openvino".into(),
            device: "cpu".into(),
            precision: "f32".into(),
            trained: true,
        },
        face_model: FaceModel {
            name: "m".into(),
            hash: "h".into(),
            identity: 2,
            expressions: vec!["jawOpen".into(), "eyeBlinkLeft".into()],
        },
        smoothing: "off".into(),
        refine: None,
        lens: None,
        volume: None,
        volume_from: None,
        started: "2026-11-29T00:00:00.000Z".into(),
        revision: None,
    }
}

fn face(id: u64) -> FaceRecord {
    FaceRecord {
        id,
        confidence: 0.987_654,
        bounds: [1.0, 2.0, 30.0, 40.0],
        f: 12.345_678,
        r: [10.0, -20.0, 30.0],
        q: [1.0, 0.0, 0.0, 0.0],
        t: [100.0, 200.0, -3.0],
        identity: vec![0.5, -0.5],
        expression: vec![0.25, 0.75],
        landmarks: Some((0..68).map(|i| [i as f32, 2.0 * i as f32]).collect()),
        landmarks3d: Some((0..68).map(|i| [i as f32, 0.0, -1.0]).collect()),
        gaze: Some(Gaze {
            left: Look { iris: Some([5.0, 6.0]), ..look([0.6, 0.0, 0.8]) },
            right: look([0.0, 0.6, 0.8]),
            both: look([-0.5, 0.5, std::f32::consts::FRAC_1_SQRT_2]),
        }),
        raw: Some(Raw {
            f: 12.0,
            r: [1.0, 2.0, 3.0],
            t: [4.0, 5.0, 6.0],
            identity: vec![0.0, 1.0],
            expression: vec![0.125, 1.0],
        }),
        ..FaceRecord::default()
    }
}

fn look(direction: [f32; 3]) -> Look {
    Look { direction, angles: [30.0, 45.0], confidence: 0.9, iris: None }
}

fn frame(number: u64, faces: Vec<FaceRecord>) -> Frame {
    Frame {
        stream: "a, \"b\"\nc".into(),
        frame: number,
        file: None,
        pts: number as f64 / 30.0,
        time: "2026-11-29T00:00:01.500Z".into(),
        camera_time: None,
        latency_ms: Latency::default(),
        dropped: Dropped { busy: 1, damaged: 2, lost: 3, idle: 4, skipped: 5 },
        faces,
    }
}

fn written(format: TableFormat, groups: Groups, frames: &[Frame]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let mut table = Table::create(&path, format, groups).unwrap();
    table.header(&header()).unwrap();
    for frame in frames {
        table.frame(frame).unwrap();
    }
    table.finish().unwrap();
    (folder, path)
}

/// The rows of a CSV file by the names of their columns.
fn read_csv(path: &Path) -> Vec<std::collections::HashMap<String, String>> {
    ::csv::Reader::from_path(path).unwrap().deserialize().map(|row| row.unwrap()).collect()
}

const ALL: Groups = Groups { landmarks: true, raw: true };

#[test]
fn a_face_is_a_row_under_the_names_of_openface_and_of_the_records() {
    let frames = [frame(0, vec![face(7), face(8)]), frame(1, vec![])];
    let (_folder, path) = written(TableFormat::Csv, ALL, &frames);
    let rows = read_csv(&path);
    assert_eq!(rows.len(), 3);
    for (name, value) in [
        ("frame", "1"),
        ("face_id", "7"),
        ("timestamp", "0.000000"),
        ("confidence", "0.9877"),
        ("success", "1"),
        // The eye on the left of the picture is the subject's right one; OpenFace's y points down, its
        // z away from the camera.
        ("gaze_0_x", "0"),
        ("gaze_0_y", "-0.6"),
        ("gaze_0_z", "-0.8"),
        ("gaze_1_x", "0.6"),
        ("gaze_angle_x", "-0.615484"),
        ("gaze_angle_y", "-0.615484"),
        ("gaze_yaw", "45"),
        ("iris_left_y", "6"),
        ("iris_right_x", ""),
        // Radians; down is positive, as OpenFace has it.
        ("pose_Rx", "-0.174533"),
        ("pose_Ry", "-0.349066"),
        ("pose_Rz", "0.523599"),
        ("x_67", "67"),
        ("y_67", "134"),
        ("p_tx", "100"),
        ("stream", "a, \"b\"\nc"),
        ("dropped", "15"),
        ("box_height", "40"),
        ("yaw", "-20"),
        ("f", "12.35"),
        ("eyeBlinkLeft", "0.75"),
        ("identity_1", "-0.5"),
        ("landmarks3d_z_3", "-1"),
        ("raw_jawOpen", "0.125"),
        ("raw_identity_1", "1"),
        ("camera_time", ""),
    ] {
        assert_eq!(rows[0][name], value, "{name}");
    }
    assert_eq!(rows[1]["face_id"], "8");
    let nobody = &rows[2];
    assert_eq!((&*nobody["frame"], &*nobody["success"]), ("2", "0"));
    assert_eq!((&*nobody["confidence"], &*nobody["timestamp"]), ("0", "0.033333"));
    for name in [
        "face_id",
        "gaze_0_x",
        "gaze_confidence",
        "pose_Rx",
        "x_0",
        "jawOpen",
        "raw_f",
        "landmarks3d_x_0",
    ] {
        assert_eq!(nobody[name], "", "{name}");
    }
}

#[test]
fn columns_are_those_of_the_groups_and_come_once() {
    for (landmarks, raw) in [(false, false), (true, false), (false, true), (true, true)] {
        let columns = Columns::new(&header(), Groups { landmarks, raw });
        let has = |wanted: &str| columns.all().iter().any(|(name, _)| name == wanted);
        assert_eq!((has("x_0"), has("landmarks3d_x_0"), has("raw_f")), (landmarks, landmarks, raw));
        let names: std::collections::HashSet<_> = columns.all().iter().map(|(n, _)| n).collect();
        assert_eq!(names.len(), columns.all().len());
        // Nothing that was not measured.
        assert!(!columns.all().iter().any(|(n, _)| n.starts_with("AU") || n.starts_with("pose_T")));
    }
}

#[test]
fn with_a_lens_the_pose_is_that_in_camera_space() {
    let header = Header { lens: Some("fov 60".into()), ..header() };
    let columns = Columns::new(&header, Groups::default());
    let camera = CameraPose {
        focal: 1108.5,
        r: [30.0, 50.0, 0.0],
        q: [1.0, 0.0, 0.0, 0.0],
        t: [1.5, 2.0, -60.25],
    };
    let seen = FaceRecord { camera: Some(camera), ..face(1) };
    let rows = columns.rows(&frame(0, vec![seen, face(2)]));
    let cell = |row: usize, name: &str| {
        let at = columns.all().iter().position(|(n, _)| n == name).unwrap();
        rows[row][at].clone()
    };
    let place = ["pose_Tx", "pose_Ty", "pose_Tz"].map(|name| cell(0, name));
    assert_eq!(place, [15.0, -20.0, 602.5].map(Cell::Number), "millimetres, y down, z away");
    assert_eq!(cell(0, "pose_Ry"), Cell::Number(0.872_665));
    assert_eq!(cell(1, "pose_Tz"), Cell::Empty, "a picture without EXIF");
    assert_eq!(cell(1, "pose_Ry"), cell(1, "p_ry"));
}

#[test]
fn records_with_lists_of_other_lengths_keep_their_columns() {
    let mut odd = face(1);
    odd.expression = vec![0.5];
    odd.identity = vec![1.0; 9];
    odd.landmarks = Some(vec![]);
    odd.raw = None;
    odd.gaze = None;
    let (_folder, path) = written(TableFormat::Csv, ALL, &[frame(0, vec![odd])]);
    let row = &read_csv(&path)[0];
    assert_eq!((&*row["jawOpen"], &*row["eyeBlinkLeft"], &*row["identity_1"]), ("0.5", "", "1"));
    assert_eq!((&*row["x_0"], &*row["raw_f"], &*row["landmarks3d_z_67"]), ("", "", "-1"));
    assert_eq!((&*row["gaze_1_z"], &*row["iris_left_x"]), ("", ""));
}

#[test]
fn parquet_has_the_same_rows_and_the_header() {
    let frames: Vec<_> = (0..50).map(|i| frame(i, vec![face(i); (i % 3) as usize])).collect();
    let (_folder, path) = written(TableFormat::Parquet, ALL, &frames);
    let (_folder, text) = written(TableFormat::Csv, ALL, &frames);
    let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let about = file.metadata().file_metadata();
    let stored = about.key_value_metadata().unwrap()[0].value.clone().unwrap();
    assert_eq!(
        serde_json::from_str::<Record>(&stored).unwrap(),
        Record::Header(Box::new(header()))
    );
    assert!(matches!(file.metadata().row_group(0).column(0).compression(), Compression::ZSTD(_)));
    let rows: Vec<_> = file.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
    let expected = read_csv(&text);
    assert_eq!((rows.len(), about.num_rows()), (expected.len(), expected.len() as i64));
    for (row, expected) in rows.iter().zip(&expected) {
        for (name, field) in row.get_column_iter() {
            let text = &expected[name];
            match field {
                Field::Null => assert_eq!(text, "", "{name}"),
                Field::Long(value) => assert_eq!(&value.to_string(), text, "{name}"),
                Field::Float(value) => assert_eq!(&value.to_string(), text, "{name}"),
                Field::Double(value) => assert_eq!(&format!("{value:.6}"), text, "{name}"),
                Field::Str(value) => assert_eq!(value, text, "{name}"),
                &Field::TimestampMillis(value) => {
                    assert_eq!((value, &**text), (1_795_910_401_500, "2026-11-29T00:00:01.500Z"));
                }
                other => panic!("{name} is {other:?}"),
            }
        }
    }
}

#[test]
fn a_killed_run_leaves_a_parquet_file_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");
    let rows = |path: &Path| {
        let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        file.metadata().file_metadata().num_rows()
    };
    let mut table = Table::create(&path, TableFormat::Parquet, ALL).unwrap();
    table.header(&header()).unwrap();
    assert_eq!(rows(&path), 0);
    let crowd = frame(0, vec![face(1); 1024]);
    let mut before = 0i64;
    for _ in 0..50 {
        table.frame(&crowd).unwrap();
        // At every moment the file is whole.
        let now = rows(&path);
        assert!(now >= before && now % 1024 == 0);
        before = now;
    }
    assert!(before >= 48 * 1024, "{before} rows");
    table.finish().unwrap();
    assert_eq!(rows(&path), 50 * 1024);
    let file = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let first = file.get_row_iter(None).unwrap().next().unwrap().unwrap();
    assert_eq!(first.get_column_iter().count(), Columns::new(&header(), ALL).all().len());
}

#[test]
fn what_cannot_be_a_table_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, format| match Table::create(path, format, ALL) {
        Err(Error::Sink(why)) => why,
        _ => panic!("{}", path.display()),
    };
    let nowhere = folder.path().join("none/a.csv");
    assert!(refused(&nowhere, TableFormat::Csv).contains("name another file for the csv"));
    let device = Path::new("/dev/null");
    assert!(refused(device, TableFormat::Parquet).contains("has to be a file"));
    let path = folder.path().join("a.csv");
    let mut table = Table::create(&path, TableFormat::Csv, ALL).unwrap();
    assert!(matches!(table.frame(&frame(0, vec![])), Err(Error::Source(_))));
    table.header(&header()).unwrap();
    let mut other = header();
    other.face_model.expressions.pop();
    assert!(matches!(table.header(&other), Err(Error::Source(_))));
    let mut full = Table::create(Path::new("/dev/full"), TableFormat::Csv, ALL).unwrap();
    let told = full.header(&header()).and_then(|()| full.frame(&frame(0, vec![face(1)])));
    assert!(matches!(told, Err(Error::Sink(why)) if why.contains("make room")));
}
