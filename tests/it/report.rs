//! The page about a run: it opens offline, and shows what the records say.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mmface::face::Params;
use mmface::record::{FaceRecord, Record};
use mmface_live::sink::report::Digest;
use nalgebra::UnitQuaternion;
use serde_json::Value;

use crate::common::program::{Records, Running, run};
use crate::common::{clip, models};

/// A run with a page, and the page that `view` makes of its records.
struct Pages {
    folder: tempfile::TempDir,
    records: Records,
}

static PAGES: LazyLock<Pages> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, report) = (path("faces.jsonl"), path("run.html"));
    let clip = clip("single_face.mp4");
    let stream = "</script><b>\"{{data}}";
    let flags = ["--json", &json, "--report", &report, "--stream", stream];
    let done = run(["--file", clip.to_str().unwrap()].into_iter().chain(flags));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let done = run(["view", &json, "-o", &path("view.html")]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let records = Records::read(&std::fs::read(&json).unwrap());
    assert!(records.faces().count() > 65, "{} faces", records.faces().count());
    Pages { folder, records }
});

impl Pages {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a page's script reads.
    fn data(&self, name: &str) -> Value {
        let page = std::fs::read_to_string(self.path(name)).unwrap();
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    bytes(value).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn near(a: f32, b: f32, tolerance: f32) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b}");
}

#[test]
fn curves_are_those_of_the_records() {
    let records = &PAGES.records;
    let names = &records.header.face_model.expressions;
    for page in ["run.html", "view.html"] {
        let data = PAGES.data(page);
        assert_eq!(data["frames"], 72);
        assert_eq!(data["header"]["stream"], records.header.stream.as_str());
        assert_eq!(data["end"]["frames"]["in"], 72);
        let latency = floats(&data["timing"]["points"]["low"]);
        assert_eq!(latency.len(), 6 * records.frames.len());
        for (row, frame) in latency.chunks_exact(6).zip(&records.frames) {
            near(row[0], frame.latency_ms.capture_to_record as f32, 0.06);
            near(row[2], frame.latency_ms.infer as f32, 0.06);
        }
        let main: Vec<&str> =
            data["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        assert_eq!(main[..4], ["pitch", "yaw", "roll", "eyeBlinkLeft"]);
        assert_eq!(data["tracks"].as_array().unwrap().len() as u64, records.end.faces);
        for track in data["tracks"].as_array().unwrap() {
            let id = track["id"].as_u64().unwrap();
            let seen =
                records.frames.iter().flat_map(|f| f.faces.iter().map(move |face| (f.pts, face)));
            let seen: Vec<(f64, &FaceRecord)> = seen.filter(|(_, face)| face.id == id).collect();
            let (time, low) = (floats(&track["points"]["time"]), floats(&track["points"]["low"]));
            assert_eq!((time.len(), low.len()), (seen.len(), seen.len() * main.len()));
            assert_eq!(low, floats(&track["points"]["high"]), "nothing was thinned");
            for (i, (pts, face)) in seen.iter().enumerate() {
                near(time[i], *pts as f32, 1e-4);
                let row = &low[i * main.len()..];
                near(row[1], face.r[1], 0.01);
                for (value, name) in row[3..].iter().zip(&main[3..]) {
                    let at = names.iter().position(|n| n == name).unwrap();
                    near(*value, face.expression[at], 1e-4);
                }
            }
        }
    }
}

/// Neutral mesh and expressions, as the page puts them together, are the model's.
#[test]
fn the_mesh_is_that_of_the_face_model() {
    let (model, _) = models().face_model().unwrap();
    let data = PAGES.data("view.html");
    let (mesh, track) = (&data["mesh"], &data["tracks"][0]);
    let id = track["id"].as_u64().unwrap();
    let triangles = bytes(&mesh["triangles"]);
    assert_eq!(triangles.len(), model.triangles.len() * 12);
    assert_eq!(bytes(&mesh["region"]), model.triangle_region);
    let modes = bytes(&mesh["modes"]);
    let steps: Vec<f32> =
        mesh["steps"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap() as f32).collect();
    let stepped = |value: &Value| -> Vec<f32> {
        let (step, whole) = (value["step"].as_f64().unwrap() as f32, bytes(&value["points"]));
        whole.as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b)) * step).collect()
    };
    let (neutral, weights) = (stepped(&track["neutral"]), stepped(&track["expression"]));
    let last = PAGES.records.faces().filter(|face| face.id == id).last().unwrap();
    let weights = &weights[weights.len() - model.expressions.len()..];
    let mut shape = neutral;
    for (k, mode) in modes.chunks_exact(shape.len()).enumerate() {
        let weight = weights[k] * steps[k];
        shape.iter_mut().zip(mode).for_each(|(s, m)| *s += weight * f32::from(*m as i8));
    }
    let params = Params {
        f: 1.0,
        rotation: UnitQuaternion::identity(),
        t: [0.0; 3],
        identity: last.identity.clone(),
        expression: last.expression.clone(),
        landmark_offsets: vec![],
    };
    // Half a millimetre: no more than can be seen.
    for (a, b) in shape.iter().zip(model.shape(&params).iter().flatten()) {
        near(*a, *b, 0.05);
    }
}

#[test]
fn the_page_fetches_nothing_and_text_stays_text() {
    let page = std::fs::read_to_string(PAGES.path("run.html")).unwrap();
    assert!(page.contains("default-src 'none'"), "the browser is told to fetch nothing");
    for tag in ["<link", "<img", "<iframe", "src=\"http", "@import"] {
        let ours = page.split_once("<script>").unwrap().0;
        assert!(!ours.contains(tag), "{tag}");
    }
    assert_eq!(page.matches("</script>").count(), 3, "a stream's name ended an element");
    assert!(!page.contains("<b>\""));
}

#[test]
fn what_is_no_recording_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read_to_string(PAGES.path("faces.jsonl")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let view = |text: &[u8]| {
        let path = folder.path().join("some.jsonl");
        std::fs::write(&path, text).unwrap();
        run([Path::new("view"), &path])
    };
    let says = |text: &str, words: &str| {
        let done = view(text.as_bytes());
        assert!(done.failure(3).contains(words), "not {words:?}: {}", done.stderr);
    };
    says("", "holds no frame");
    says(lines[0], "holds no frame");
    says("no records\n", "line 1 cannot be understood");
    says(&lines[1..].join("\n"), "the beginning is missing");
    says(&(whole.clone() + &whole), "a second run");
    says(
        &whole.replacen("\"expression\":[", "\"expression\":[0.5,", 1),
        "more or fewer coefficients",
    );
    assert!(view(&[0xff, 0, b'\n']).failure(3).contains("line 1"));
    assert!(run(["view", "/nonexistent.jsonl"]).failure(3).contains("cannot be read"));
    assert!(!folder.path().join("some.html").exists(), "no page of nothing");

    // What a crash leaves, and what a later program may write.
    let cut = &lines[..lines.len() - 1].join("\n");
    let done = view(&cut.as_bytes()[..cut.len() - 30]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("is cut off"), "{}", done.stderr);
    let done = view(&[whole.as_bytes(), &[0; 40], b"\n"].concat());
    assert!(done.code == Some(0) && done.stderr.contains("is cut off"), "{}", done.stderr);
    let done = view((whole.replacen('\n', "\n\n", 1) + "\n").as_bytes());
    assert!(done.code == Some(0) && !done.stderr.contains("is cut off"), "{}", done.stderr);
    let newer = whole.replacen('\n', "\n{\"type\":\"weather\",\"sun\":1}\n", 1);
    assert_eq!(view(newer.as_bytes()).code, Some(0));
    assert!(folder.path().join("some.html").exists(), "beside the records");

    let (_, hash) = models().face_model().unwrap();
    let stranger = whole.replacen(&hash, "other", 1);
    let done = view(stranger.as_bytes());
    assert!(done.code == Some(0) && done.stderr.contains("another face model"), "{}", done.stderr);
}

#[test]
fn a_page_that_cannot_be_written_is_told() {
    let json = PAGES.path("faces.jsonl");
    let json = json.to_str().unwrap();
    assert!(run(["view", json, "-o", "/nonexistent/a.html"]).failure(6).contains("cannot create"));
    assert!(run(["view", json, "-o", json]).failure(2).contains("over the records"));
    let text = "videotestsrc num-buffers=2";
    assert!(
        run(["--pipeline", text, "--report", "/nonexistent/a.html"])
            .failure(6)
            .contains("another file")
    );
    let mut command = crate::common::program::command(["view", json, "-o", "/dev/null"]);
    command.env("MMFACE_PLOTLY", "/nonexistent");
    assert!(Running::start(command).finish().failure(4).contains("make setup"));
}

/// An hour of one face, and a crowd that passes: the curves stay small and keep their extremes.
#[test]
fn a_long_run_stays_small() {
    let mut digest = Digest::default();
    let [first, .., end] = &PAGES.records.all[..] else { panic!("no records") };
    digest.add(first).unwrap();
    let template = PAGES.records.frames.iter().find(|f| !f.faces.is_empty()).unwrap();
    let blink = 75_000;
    let names = &PAGES.records.header.face_model.expressions;
    let at = names.iter().position(|n| n == "eyeBlinkLeft").unwrap();
    for n in 0..108_000_u64 {
        let mut frame = template.clone();
        frame.pts = n as f64 / 30.0;
        frame.faces.truncate(1);
        frame.faces[0].id = 1;
        frame.faces[0].expression[at] = if n == blink { 1.0 } else { 0.0 };
        let mut other = frame.faces[0].clone();
        other.id = 2 + n / 7;
        frame.faces.push(other);
        digest.add(&Record::Frame(frame)).unwrap();
    }
    digest.add(end).unwrap();
    let points: usize = digest.tracks.values().map(|t| t.points.time.len()).sum();
    assert!(points <= 32_768, "{points}");
    assert_eq!(digest.tracks.len(), 1 + 108_000_usize.div_ceil(7));
    let first = &digest.tracks[&1];
    assert_eq!(first.frames, 108_000);
    assert!(first.points.time.len() > 2000, "{}", first.points.time.len());
    let width = 3 + digest.main.len();
    let highest = first.points.high.chunks(width).map(|row| row[3]).fold(0.0, f32::max);
    assert_eq!(highest, 1.0, "a blink of one frame is still seen");
}

/// Each connection counts its own time: on the page it goes on, by the clock on the wall.
#[test]
fn time_goes_on_across_connections() {
    let records = &PAGES.records;
    let mut digest = Digest::default();
    digest.add(&records.all[0]).unwrap();
    for (connection, pts, time) in
        [(1, 7.0, "2026-01-01T00:00:00.000Z"), (2, 0.5, "2026-01-01T00:00:30.000Z")]
    {
        let mut stream = records.streams[0].clone();
        stream.connection = connection;
        digest.add(&Record::Stream(stream)).unwrap();
        for later in [0.0, 0.1] {
            let mut frame = records.frames[0].clone();
            (frame.pts, frame.time) = (pts + later, time.into());
            digest.add(&Record::Frame(frame)).unwrap();
        }
    }
    assert_eq!(digest.timing.time.len(), 4);
    for (time, wanted) in digest.timing.time.iter().zip([7.0, 7.1, 37.1, 37.2]) {
        near(*time, wanted, 1e-4);
    }
}

/// A real browser, where there is one: everything is drawn, nothing fails.
#[test]
fn a_browser_shows_it() {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    let Some(browser) = found else {
        println!("skipped: there is no Chromium here (apt install chromium)");
        return;
    };
    let profile = PAGES.path("profile");
    let dom = PAGES.path("dom.html");
    let mut running = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
        ])
        .args(["--virtual-time-budget=15000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", PAGES.path("run.html").display()))
        .stdout(std::fs::File::create(&dom).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(400);
    while running.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            running.kill().unwrap();
            panic!("the browser does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let dom = std::fs::read_to_string(dom).unwrap();
    let body = dom.split_once("<body").unwrap().1;
    assert!(body.starts_with(" data-state=\"shown\""), "{}", &body[..200]);
}
