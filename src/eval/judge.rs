//! Compares records with labels: assigns faces to labels and computes errors.

use mmface::bounds::iou;

use super::dataset::{Dataset, Label};
use super::mesh::Fit;
use super::metric::{self, MIN_OVERLAP, Points, box_of};
use super::report::{DatasetReport, Group, Labels, MeshError, Pose, Timing, YawFrom};
use super::{Judged, Seen, SeenFace};

/// Limits of the bins of |yaw| in degrees. The last bin includes larger angles.
const BINS: [f64; 4] = [0.0, 30.0, 60.0, 90.0];

/// A labelled face whose picture was processed.
struct Face<'a> {
    label: &'a Label,
    found: Option<Found>,
    /// The comparison with the true mesh, if there is one and the face was found.
    fit: Option<&'a Fit>,
}

struct Found {
    raw: Points,
    free: Points,
    pose: [f64; 3],
}

impl Face<'_> {
    fn yaw(&self) -> Option<f64> {
        let pose = self.label.pose.or(self.found.as_ref().map(|found| found.pose))?;
        Some(pose[1].abs())
    }
}

impl DatasetReport {
    /// Evaluates a data set. `seen` returns the record of a label's picture: `None` if the run did
    /// not reach it, `Some(None)` if the picture cannot be decoded. `fit` returns the comparison
    /// with the true mesh.
    pub(super) fn new<'s>(
        data: &Dataset,
        judged: Judged,
        seen: impl Fn(&Label) -> Option<Option<&'s Seen>>,
        fit: impl Fn(usize) -> Option<&'s Fit>,
    ) -> Self {
        let mut labels = Labels {
            faces: data.faces.len(),
            broken: data.broken,
            unlabelled: data.unlabelled,
            ..Labels::default()
        };
        let mut faces = Vec::new();
        for (place, label) in data.faces.iter().enumerate() {
            match seen(label) {
                Some(Some(seen)) => {
                    let found = best(seen, label, judged).map(|(points, face)| {
                        let raw = metric::offsets(&points, &label.points);
                        Found { raw, free: raw, pose: face.r }
                    });
                    let fit = found.is_some().then(|| fit(place)).flatten();
                    faces.push(Face { label, found, fit });
                    labels.measured += 1;
                }
                Some(None) => labels.unreadable += 1,
                None => {}
            }
        }
        set_free_offsets(&mut faces);
        let found = || faces.iter().filter(|face| face.found.is_some());
        let labelled = faces.iter().filter(|face| face.label.pose.is_some()).count();
        let fitted = found().filter(|face| face.label.pose.is_none()).count();
        Self {
            name: data.name.clone(),
            points: judged,
            labels,
            yaw_from: YawFrom { label: labelled, fit: fitted },
            groups: groups(&faces),
        }
    }
}

/// The face in a record that overlaps the label most, with its landmarks, if the overlap is
/// sufficient.
fn best<'s>(seen: &'s Seen, label: &Label, judged: Judged) -> Option<(Points, &'s SeenFace)> {
    let mut best = (MIN_OVERLAP, None);
    for face in &seen.faces {
        let points: Vec<[f64; 2]> = match judged {
            Judged::Visible => face.landmarks.clone(),
            Judged::Fixed => face.landmarks3d.iter().map(|[x, y, _]| [*x, *y]).collect(),
        };
        let Ok(points) = Points::try_from(points) else { continue };
        let shared = iou(box_of(&points), box_of(&label.points));
        if shared > best.0 || (shared == best.0 && best.1.is_none()) {
            best = (shared, Some((points, face)));
        }
    }
    best.1
}

/// Computes the free offsets.
fn set_free_offsets(faces: &mut [Face]) {
    let mut found: Vec<_> = faces
        .iter_mut()
        .filter_map(|face| {
            let person = face.label.person.as_ref().unwrap_or(&face.label.file);
            Some((metric::second_half(person), face.found.as_mut()?))
        })
        .collect();
    let raw: Vec<_> = found.iter().map(|(half, found)| (found.raw, *half)).collect();
    for ((_, found), free) in found.iter_mut().zip(metric::free(&raw)) {
        found.free = free;
    }
}

fn groups(faces: &[Face]) -> Vec<Group> {
    let mut groups = vec![Group::of("all".into(), faces.iter())];
    let bins = BINS.windows(2).map(|bin| (bin[0], bin[1]));
    groups.extend(bins.map(|(from, to)| {
        let to_the_last = |yaw: f64| yaw < to || to == BINS[3];
        let inside = |yaw: f64| yaw >= from && to_the_last(yaw);
        let name = format!("yaw {from}–{to}°");
        Group::of(name, faces.iter().filter(|face| face.yaw().is_some_and(inside)))
    }));
    let mut sources: Vec<_> = faces.iter().filter_map(|f| f.label.source.as_deref()).collect();
    sources.sort_unstable();
    sources.dedup();
    if sources.len() > 1 {
        groups.extend(sources.iter().map(|source| {
            let of_it = faces.iter().filter(|face| face.label.source.as_deref() == Some(source));
            Group::of((*source).into(), of_it)
        }));
    }
    groups
}

impl Group {
    fn of<'f>(name: String, faces: impl Iterator<Item = &'f Face<'f>> + Clone) -> Self {
        let found = || faces.clone().filter_map(|face| Some((face.label, face.found.as_ref()?)));
        let error = |of: &dyn Fn(&Found) -> metric::Error| {
            let inner = mean(found().map(|(_, f)| of(f).inner))?;
            Some(metric::Error { inner, all: mean(found().map(|(_, f)| of(f).all))? })
        };
        let turns: Vec<[f64; 4]> =
            found().filter_map(|(label, f)| Some(metric::between(f.pose, label.pose?))).collect();
        let turn = |k: usize| mean(turns.iter().map(|turn| turn[k]));
        let pose = || {
            let (pitch, yaw, roll, angle) = (turn(0)?, turn(1)?, turn(2)?, turn(3)?);
            Some(Pose { faces: turns.len(), pitch, yaw, roll, angle })
        };
        let fits: Vec<_> = faces.clone().filter_map(|face| face.fit).collect();
        let percent = |of: &dyn Fn(&Fit) -> Option<f64>| {
            mean(fits.iter().filter_map(|fit| of(fit))).map(|part| 100.0 * part)
        };
        let mesh = || {
            let surface = percent(&|fit| Some(fit.distance.as_is))?;
            let aligned = percent(&|fit| Some(fit.distance.aligned))?;
            let (voxels, solid) = (percent(&|fit| fit.voxels), percent(&|fit| fit.solid));
            Some(MeshError { faces: fits.len(), voxels, solid, surface, aligned })
        };
        Self {
            name,
            mesh: mesh(),
            faces: faces.clone().count(),
            missed: faces.clone().filter(|face| face.found.is_none()).count(),
            raw: error(&|found| metric::distance(&found.raw)),
            free: error(&|found| metric::distance(&found.free)),
            pose: pose(),
        }
    }
}

impl Timing {
    pub(super) fn of<'s>(seen: impl Iterator<Item = &'s Seen> + Clone) -> Self {
        let median = |times: &mut dyn Iterator<Item = f64>| {
            let mut times: Vec<_> = times.collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let times = || seen.clone().map(|s| (s.latency_ms, s.faces.len() as f64));
        Self {
            pictures: seen.clone().count(),
            picture_ms: median(&mut times().map(|(t, _)| t.detect + t.infer)),
            detection_ms: median(&mut times().map(|(t, _)| t.detect)),
            networks_ms: median(&mut times().map(|(t, _)| t.infer)),
            networks_per_face_ms: median(
                &mut times().filter(|(_, n)| *n > 0.0).map(|(t, n)| t.infer / n),
            ),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmface::record::Latency;

    /// Six made-up faces, and what was seen of them.
    fn faces() -> Vec<(Label, Seen)> {
        let names = ["anna", "emil", "carl", "ines", "paul", "zoe"];
        let face = |(k, name): (usize, &&str)| {
            let k = k as f64;
            let points: Points = std::array::from_fn(|i| {
                let i = i as f64;
                [100.0 + 30.0 * (1.3 * i + k).sin(), 120.0 + 35.0 * (0.7 * i - k).cos()]
            });
            let found = points.iter().enumerate().map(|(i, [x, y])| {
                let i = i as f64;
                [x + 2.0 * (0.9 * i * k + 1.0).sin(), y + 1.5 * (1.1 * i + 2.0 * k).cos()]
            });
            let label = Label {
                file: format!("{name}.jpg"),
                path: name.into(),
                person: Some((*name).into()),
                source: Some(if k < 2.0 { "some" } else { "others" }.into()),
                points,
                pose: Some([10.0 * k, -20.0 * k, 5.0 + k]),
                mesh: None,
            };
            let r = [8.0 * k - 3.0, -15.0 * k + 1.0, -4.0 * k];
            let face = SeenFace { r, landmarks: found.collect(), landmarks3d: Vec::new() };
            let latency_ms = Latency { capture_to_record: 0.0, detect: k, infer: 10.0 * k };
            (label, Seen { latency_ms, faces: vec![face] })
        };
        names.iter().enumerate().map(face).collect()
    }

    fn report<'a>(
        faces: &'a [(Label, Seen)],
        seen: impl Fn(&'a (Label, Seen)) -> Option<Option<&'a Seen>>,
    ) -> DatasetReport {
        let labels: Vec<_> = faces.iter().map(|(label, _)| label.clone()).collect();
        let data = Dataset {
            name: "made.jsonl".into(),
            judged: Judged::Visible,
            faces: labels,
            unlabelled: 0,
            broken: 0,
            met: std::collections::HashSet::new(),
        };
        let at = |label: &Label| faces.iter().find(|(l, _)| l == label).and_then(&seen);
        DatasetReport::new(&data, Judged::Visible, at, |_| None)
    }

    /// The figures are those that engines/training/compare.py computes of the same points.
    #[test]
    fn the_figures_are_those_of_the_scorer_in_python() {
        let faces = faces();
        let report = report(&faces, |(_, seen)| Some(Some(seen)));
        let all = &report.groups[0];
        let (raw, free) = (all.raw.expect("found"), all.free.expect("found"));
        let pose = all.pose.expect("labelled");
        for (ours, theirs) in [
            (raw.inner, 2.6881764757170736),
            (raw.all, 2.6955674111162886),
            (free.inner, 3.621294662024041),
            (free.all, 3.6482738925501503),
        ] {
            assert!((ours - theirs).abs() < 1e-12, "{ours} and {theirs}");
        }
        assert_eq!((all.faces, pose.faces), (6, 6));
        assert_eq!((pose.pitch, pose.yaw, pose.roll), (8.0, 13.5, 17.5));
        assert!((pose.angle - 27.59154998).abs() < 1e-4, "{}", pose.angle);
    }

    #[test]
    fn faces_fall_into_bins_and_sources() {
        let faces = faces();
        let report = report(&faces, |(_, seen)| Some(Some(seen)));
        let counts: Vec<_> =
            report.groups.iter().map(|group| (group.name.as_str(), group.faces)).collect();
        let bins = [("all", 6), ("yaw 0–30°", 2), ("yaw 30–60°", 1), ("yaw 60–90°", 3)];
        assert_eq!(counts, [&bins[..], &[("others", 4), ("some", 2)]].concat());
    }

    #[test]
    fn what_was_not_found_or_not_seen_is_in_no_mean() {
        let mut faces = faces();
        faces[0].1.faces.clear();
        faces[1].1.faces[0].landmarks.iter_mut().for_each(|p| p[0] += 60.0);
        let (dark, late) = ("carl", "zoe");
        let is = |label: &Label, name: &str| label.person.as_deref() == Some(name);
        let report = report(&faces, |(label, seen)| {
            (!is(label, late)).then(|| (!is(label, dark)).then_some(seen))
        });
        let Labels { faces, measured, unreadable, .. } = report.labels;
        assert_eq!((faces, measured, unreadable), (6, 4, 1));
        let all = &report.groups[0];
        assert_eq!((all.faces, all.missed), (4, 2));
        assert_eq!(all.pose.expect("two").faces, 2);
        // Of the second half nobody is left to tell of its habit.
        assert_eq!(all.raw, all.free);
        let table = report.to_string();
        assert!(table.starts_with("made.jsonl: 4 of 6 labelled faces, 1 unreadable"));
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[2].ends_with("pitch    yaw   roll  angle"), "{table}");
        assert!(lines[4].starts_with("yaw 0–30°") && lines[4].contains('–'), "{table}");
    }

    #[test]
    fn times_are_medians() {
        let faces = faces();
        let timing = Timing::of(faces[..3].iter().map(|(_, seen)| seen));
        assert_eq!((timing.pictures, timing.picture_ms, timing.networks_ms), (3, 11.0, 10.0));
        assert_eq!(Timing::of(std::iter::empty()).picture_ms, 0.0);
    }
}
