//! Labelled pictures: JSON lines, and folders in the format of AFLW2000-3D.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Judged;
use super::matlab;
use super::metric::{self, Points};
use crate::source::is_picture;
use crate::{Error, Result};
use mmface::face::LANDMARKS;
use mmface::limited::read_limited;

/// Most warnings about broken labels, because a file in a wrong format has nothing but broken
/// lines.
const MAX_WARNINGS: usize = 10;

/// Most bytes of a MATLAB file with labels.
const LARGEST_MATLAB: u64 = 64 << 20;

/// Largest coordinate, pixels. Larger ones would make sizes and errors infinite.
const LARGEST: f64 = 1e6;

/// The labelled faces of a data set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dataset {
    /// Name of its file or folder.
    pub name: String,
    /// Which landmarks correspond to its labels.
    pub judged: Judged,
    /// The labels, in their order.
    pub faces: Vec<Label>,
    /// Number of lines or pictures without points.
    pub unlabelled: usize,
    /// Number of invalid lines or labels.
    pub broken: usize,
    /// Those of the requested pictures' names that the data set has.
    pub met: HashSet<String>,
}

/// A labelled face.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label {
    /// Name of the picture in the data set.
    pub file: String,
    /// Path of the picture.
    pub path: PathBuf,
    /// The person, if known.
    pub person: Option<String>,
    /// The origin of the picture, if the data set has several.
    pub source: Option<String>,
    /// The 68 points in pixels; (0, 0) is the centre of the top left pixel.
    pub points: Points,
    /// [pitch, yaw, roll] in degrees, in 300W-LP's convention, if known.
    pub pose: Option<[f64; 3]>,
    /// File of the true mesh, if known.
    pub mesh: Option<PathBuf>,
}

impl Dataset {
    /// Reads a data set: a folder with `.mat` files, or a file of JSON lines. `only` restricts it
    /// to the pictures named, by their path in the data set or by their file name.
    ///
    /// # Errors
    /// [`Error::Source`] if the data set cannot be read or has no labelled face, [`Error::Usage`]
    /// if `only` leaves no face. A single broken label is logged, counted and left out.
    pub(super) fn read(path: &Path, only: Option<&HashSet<String>>) -> Result<Self> {
        let mut data = Self::new(path);
        let read = if path.is_dir() { data.folder(path, only) } else { data.lines(path, only) };
        let name = path.display();
        read.map_err(|e| {
            Error::Source(format!("the data set {name} cannot be read ({e}); check the path"))
        })?;
        if !data.faces.is_empty() {
            return Ok(data);
        }
        Err(match (only, path.is_dir()) {
            (Some(_), _) => Error::Usage(format!("--only names no labelled picture of {name}")),
            (None, true) => Error::Source(format!(
                "{name} holds no pair of a picture and a .mat file with `pt3d_68`, as AFLW2000-3D \
                 has them; of other data make JSON lines (see docs/evaluation.md)"
            )),
            (None, false) => Error::Source(format!(
                "{name} has no line with 68 labelled points, as in {{\"file\": \"a.jpg\", \
                 \"points\": [[x, y], …]}} (see docs/evaluation.md)"
            )),
        })
    }

    /// A data set without labels, to be read from `path`.
    pub(super) fn new(path: &Path) -> Self {
        let name = path.canonicalize().ok().and_then(|p| Some(p.file_name()?.to_owned()));
        Self {
            name: name.unwrap_or_else(|| path.into()).to_string_lossy().into_owned(),
            judged: if path.is_dir() { Judged::Fixed } else { Judged::Visible },
            faces: Vec::new(),
            unlabelled: 0,
            broken: 0,
            met: HashSet::new(),
        }
    }

    /// Adds a label, or counts why there is none.
    fn add(&mut self, place: &str, label: Checked<Option<Label>>) {
        match label {
            Ok(Some(label)) => self.faces.push(label),
            Ok(None) => self.unlabelled += 1,
            Err(why) => {
                match self.broken {
                    0..MAX_WARNINGS => tracing::warn!("{place}: {why}; going on without it"),
                    MAX_WARNINGS => {
                        tracing::warn!("{place}: {why}; the next ones are only counted")
                    }
                    _ => {}
                }
                self.broken += 1;
            }
        }
    }

    /// Whether `only` names a picture, by its path in the data set or by its file name. Remembers
    /// the name in `met`.
    fn is_wanted(&mut self, only: Option<&HashSet<String>>, file: &str) -> bool {
        let Some(only) = only else { return true };
        let last = file.rsplit('/').next().unwrap_or(file);
        let names: Vec<_> = [file, last].iter().filter_map(|name| only.get(*name)).collect();
        self.met.extend(names.iter().map(ToString::to_string));
        !names.is_empty()
    }

    fn lines(&mut self, path: &Path, only: Option<&HashSet<String>>) -> std::io::Result<()> {
        let text = read_limited(path, super::LARGEST_LIST).map_err(|e| io::Error::other(e.why))?;
        self.take_lines(&text, path, only);
        Ok(())
    }

    /// Adds the labels in the text of the list at `path`.
    pub(super) fn take_lines(&mut self, text: &[u8], path: &Path, only: Option<&HashSet<String>>) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let place = format!("{}, line {}", path.display(), index + 1);
            match serde_json::from_slice::<Line>(line) {
                Ok(line) if self.is_wanted(only, &line.file) => {
                    self.add(&place, line.label(folder));
                }
                Ok(_) => {}
                Err(e) => self.add(&place, Err(format!("this is no label ({e})"))),
            }
        }
    }

    fn folder(&mut self, folder: &Path, only: Option<&HashSet<String>>) -> std::io::Result<()> {
        let mut pictures = BTreeMap::new();
        let mut labels = BTreeSet::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let stem = path.file_stem().map(ToOwned::to_owned).unwrap_or_default();
            if is_picture(&path) {
                pictures.insert(stem, path);
            } else if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("mat")) {
                labels.insert(stem);
            }
        }
        for (stem, path) in pictures {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !self.is_wanted(only, &file) {
                continue;
            }
            let place = path.with_extension("mat");
            let label = match labels.remove(&stem) {
                true => read_limited(&place, LARGEST_MATLAB)
                    .map_err(|e| format!("it cannot be read ({})", e.why))
                    .and_then(|bytes| from_matlab(&bytes, file, path))
                    .map(Some),
                false => Ok(None),
            };
            self.add(&place.display().to_string(), label);
        }
        for stem in labels.iter().filter(|_| only.is_none()) {
            let place = folder.join(stem).with_extension("mat");
            self.add(&place.display().to_string(), Err("it has no picture beside it".into()));
        }
        Ok(())
    }
}

/// Errors are the reason why a label cannot be used.
type Checked<T> = std::result::Result<T, String>;

/// A line of a JSON lines file; unknown fields are ignored.
#[derive(Deserialize)]
#[serde(expecting = "expected an object with `file` and `points`")]
struct Line {
    file: String,
    person: Option<String>,
    source: Option<String>,
    points: Option<Vec<Vec<f64>>>,
    points68: Option<Vec<Vec<f64>>>,
    pose: Option<[f64; 3]>,
    mesh: Option<String>,
}

impl Line {
    /// The label; `None` if the line has no points.
    fn label(self, folder: &Path) -> Checked<Option<Label>> {
        let Self { file, person, source, points, points68, pose, mesh } = self;
        let Some(points) = points.filter(|list| !list.is_empty()).or(points68) else {
            return Ok(None);
        };
        let points = points.iter().map(|point| match point[..] {
            [x, y, ..] => Ok([x, y]),
            _ => Err("a point is not [x, y]".to_string()),
        });
        let points = check(points.collect::<Checked<_>>()?)?;
        let (path, person) = (folder.join(&file), person.filter(|name| !name.is_empty()));
        let mesh = mesh.map(|name| folder.join(name));
        if let Some(path) = mesh.as_ref().filter(|path| !path.is_file()) {
            return Err(format!("there is no mesh {}", path.display()));
        }
        let pose = pose.map(turn).transpose()?;
        Ok(Some(Label { path, file, person, source, points, pose, mesh }))
    }
}

/// Reads `pt3d_68` [3×68] and `Pose_Para` [1×7] of AFLW2000-3D. Its pixel coordinates start at (1,
/// 1), as in MATLAB.
pub(super) fn from_matlab(bytes: &[u8], file: String, path: PathBuf) -> Checked<Label> {
    let arrays = matlab::arrays(bytes).map_err(|why| format!("the file {why}"))?;
    let array = |name| arrays.get(name).ok_or_else(|| format!("there is no `{name}` in it"));
    let points = array("pt3d_68")?;
    if points.rows != 3 {
        return Err(format!("`pt3d_68` has {} rows instead of 3", points.rows));
    }
    let flat = points.values.as_chunks::<3>().0;
    let points = check(flat.iter().map(|[x, y, _]| [x - 1.0, y - 1.0]).collect())?;
    let pose = match array("Pose_Para")?.values[..] {
        [pitch, yaw, roll, ..] => [pitch, yaw, roll].map(f64::to_degrees),
        _ => return Err("`Pose_Para` holds no three angles".into()),
    };
    let (person, source, mesh) = (None, None, None);
    Ok(Label { file, path, person, source, points, pose: Some(turn(pose)?), mesh })
}

/// Checks that angles in degrees are within ±360.
fn turn(pose: [f64; 3]) -> Checked<[f64; 3]> {
    match pose.iter().find(|angle| !(-360.0..=360.0).contains(*angle)) {
        Some(angle) => Err(format!("its pose has {angle} for an angle in degrees")),
        None => Ok(pose),
    }
}

/// Checks that there are 68 finite points that span a face.
fn check(points: Vec<[f64; 2]>) -> Checked<Points> {
    let count = points.len();
    let points: Points = points
        .try_into()
        .map_err(|_| format!("there are {count} points instead of {LANDMARKS}"))?;
    if !points.as_flattened().iter().all(|v| (-LARGEST..=LARGEST).contains(v)) {
        return Err("a coordinate is not a number or too large".into());
    }
    if !(metric::size(&points) > 0.0 && metric::eye_line(&points).norm() > 0.0) {
        return Err("the points do not span a face".into());
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::super::matlab::tests::{compressed, file, matrix};
    use super::super::metric::tests::face;
    use super::*;

    fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn line(file: &str, key: &str, rest: &str) -> String {
        let points = serde_json::to_string(&face()[..]).expect("points");
        format!("{{\"file\": \"{file}\", \"{key}\": {points}{rest}}}\n")
    }

    #[test]
    fn both_kinds_of_lines_are_read_and_broken_ones_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = [
            "\u{feff}".to_string() // as some editors begin a file
                + &line("a/one.jpg", "points", ", \"person\": \"anna\", \"width\": 5"),
            line(
                "two.jpg",
                "points68",
                ", \"person\": null, \"source\": \"AFW\", \"pose\": [1, -2, 3.5]",
            ),
            "{\"file\": \"three.jpg\", \"source\": \"LFW\"}\n\n".into(),
            "{\"file\": \"four.jpg\", \"points\": [[1, 2]]}\n".into(),
            line("six.jpg", "points", ", \"mesh\": \"none.obj\""),
            line("seven.jpg", "points", ", \"pose\": [0, 400, 0]"),
            "{\"file\": \"five.jpg\", \"points\": ".into(),
            "\n{\"points\": []}\n\u{feff}".into(),
        ];
        let path = write(folder.path(), "list.jsonl", text.concat());
        let data = Dataset::read(&path, None).expect("two faces");
        assert_eq!((data.name.as_str(), data.judged), ("list.jsonl", Judged::Visible));
        assert_eq!((data.faces.len(), data.unlabelled, data.broken), (2, 1, 6));
        let [one, two] = &data.faces[..] else { panic!("two faces") };
        assert_eq!(one.path, folder.path().join("a/one.jpg"));
        assert_eq!((one.person.as_deref(), one.pose, one.points), (Some("anna"), None, face()));
        assert_eq!((two.person.as_deref(), two.source.as_deref()), (None, Some("AFW")));
        assert_eq!(two.pose, Some([1.0, -2.0, 3.5]));
    }

    #[test]
    fn only_the_named_pictures_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = ["a/1.jpg", "b/1.jpg", "c.jpg"].map(|name| line(name, "points", ""));
        let path = write(folder.path(), "list.jsonl", text.concat());
        let files = |names: &[&str]| {
            let only = names.iter().map(ToString::to_string).collect();
            let data = Dataset::read(&path, Some(&only))?;
            Ok::<_, Error>(data.faces.into_iter().map(|face| face.file).collect::<Vec<_>>())
        };
        assert_eq!(files(&["b/1.jpg", "c.jpg"]).expect("two"), ["b/1.jpg", "c.jpg"]);
        assert_eq!(files(&["1.jpg"]).expect("two"), ["a/1.jpg", "b/1.jpg"]);
        assert_eq!(files(&["d.jpg"]).expect_err("none").exit_code(), 2);
        let only = ["1.jpg", "d.jpg"].map(String::from).into_iter().collect();
        let data = Dataset::read(&path, Some(&only)).expect("two");
        assert_eq!(data.met.into_iter().collect::<Vec<_>>(), ["1.jpg"]);
    }

    #[test]
    fn labels_without_a_face_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let flat = format!("{{\"file\": \"a.jpg\", \"points\": {:?}}}", [[1.0, 2.0]; 68]);
        for text in ["", "{}", "\u{0}\u{1}", &flat] {
            let path = write(folder.path(), "list.jsonl", text);
            assert_eq!(Dataset::read(&path, None).expect_err(text).exit_code(), 3);
        }
        let missing = Dataset::read(&folder.path().join("none.jsonl"), None);
        assert_eq!(missing.expect_err("missing").exit_code(), 3);
        let empty = tempfile::tempdir().expect("a folder");
        assert_eq!(Dataset::read(empty.path(), None).expect_err("empty").exit_code(), 3);
    }

    #[test]
    fn a_folder_of_matlab_files_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let points: Vec<f64> = face().iter().flat_map(|[x, y]| [x + 1.0, y + 1.0, -9.0]).collect();
        let points = compressed(&matrix("pt3d_68", 3, &points));
        let pose = [0.1, -std::f64::consts::FRAC_PI_4, 0.0, 5.0, 6.0, 7.0, 0.001];
        let pose = compressed(&matrix("Pose_Para", 1, &pose));
        write(folder.path(), "b.mat", file(&[pose.clone(), points.clone()]));
        write(folder.path(), "a.mat", file(&[points.clone(), pose]));
        write(folder.path(), "c.mat", file(&[points]));
        write(folder.path(), "d.mat", "MATLAB 5.0");
        write(folder.path(), "alone.mat", "");
        for name in ["a.jpg", "b.png", "c.jpg", "d.jpg", "unlabelled.jpg"] {
            write(folder.path(), name, "");
        }
        let data = Dataset::read(folder.path(), None).expect("two faces");
        assert_eq!((data.faces.len(), data.unlabelled, data.broken), (2, 1, 3));
        assert_eq!(data.judged, Judged::Fixed);
        let files: Vec<_> = data.faces.iter().map(|face| face.file.as_str()).collect();
        assert_eq!(files, ["a.jpg", "b.png"]);
        assert_eq!(data.faces[0].points, face());
        let [pitch, yaw, roll] = data.faces[0].pose.expect("a pose");
        assert!((pitch - 5.7296).abs() < 1e-3 && (yaw + 45.0).abs() < 1e-9 && roll == 0.0);
    }
}
