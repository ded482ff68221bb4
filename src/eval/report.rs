//! What an evaluation found, as JSON and as a table.

use std::fmt;

use serde::Serialize;

use super::Judged;
use super::metric::{self, digits, digits_if_any};
use mmface::record::Network;

/// All that was measured. Two runs of the same program on the same machine and pictures differ in
/// `timing` only.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `mmface-live`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The networks, and what ran them.
    pub network: Network,
    /// The face model.
    pub face_model: Named,
    /// `icp`, if poses were aligned to the volumes.
    pub refine: Option<String>,
    /// Voxels along each side of the volumes, if there were any.
    pub volume: Option<u32>,
    /// False if the run was stopped before the last picture.
    pub complete: bool,
    /// One for each data set.
    pub datasets: Vec<DatasetReport>,
    /// How long it took.
    pub timing: Timing,
}

/// A file of the engines.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its SHA-256.
    pub hash: String,
}

/// What was measured on one data set.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetReport {
    /// Its file's or folder's name.
    pub name: String,
    /// Which landmarks were judged.
    pub points: Judged,
    /// What became of the labels.
    pub labels: Labels,
    /// How many faces are in a bin by the yaw of their label, and how many by that of their fit.
    pub yaw_from: YawFrom,
    /// All faces first, then the bins of yaw, then the sources if there are several.
    pub groups: Vec<Group>,
}

/// What became of the labels of a data set.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Labels {
    /// Labelled faces.
    pub faces: usize,
    /// Those whose picture went through the program.
    pub measured: usize,
    /// Those whose picture cannot be decoded.
    pub unreadable: usize,
    /// Labels that make no sense.
    pub broken: usize,
    /// Lines or pictures without points.
    pub unlabelled: usize,
}

/// Where yaw comes from.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct YawFrom {
    /// The label's pose.
    pub label: usize,
    /// The fitted pose, where the label has none.
    pub fit: usize,
}

/// Means over some of the faces.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// `all`, `yaw 0–30°`, … or a source.
    pub name: String,
    /// Labelled faces, the missed ones too (in a bin: if their label tells their yaw).
    pub faces: usize,
    /// Faces that were not found; they are not in the means.
    pub missed: usize,
    /// Landmark error as it is, % of the face's size.
    pub raw: Option<metric::Error>,
    /// The same without the habit of placing points.
    pub free: Option<metric::Error>,
    /// Mean absolute errors of the pose, degrees, where labels have one.
    pub pose: Option<Pose>,
    /// Against true meshes, where labels have one.
    pub mesh: Option<MeshError>,
}

/// See [`Group::mesh`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MeshError {
    /// How many faces.
    pub faces: usize,
    /// Voxels of the volume that differ from the true solid, where both lie, %.
    #[serde(serialize_with = "digits_if_any")]
    pub voxels: Option<f64>,
    /// The same for the solid that the fitted mesh bounds.
    #[serde(serialize_with = "digits_if_any")]
    pub solid: Option<f64>,
    /// From the visible skin of the fitted mesh to the true surface, point to plane, where both lie;
    /// % of the face's size.
    #[serde(serialize_with = "digits")]
    pub surface: f64,
    /// The same after the similarity that lays the fitted mesh best on the true one.
    #[serde(serialize_with = "digits")]
    pub aligned: f64,
}

/// See [`Group::pose`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pose {
    /// How many faces.
    pub faces: usize,
    #[serde(serialize_with = "digits")]
    pub pitch: f64,
    #[serde(serialize_with = "digits")]
    pub yaw: f64,
    #[serde(serialize_with = "digits")]
    pub roll: f64,
    /// Of the one rotation between the two poses.
    #[serde(serialize_with = "digits")]
    pub angle: f64,
}

/// Medians of the wall clock, milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Timing {
    /// Pictures that were timed.
    pub pictures: usize,
    #[serde(serialize_with = "digits")]
    pub picture_ms: f64,
    #[serde(serialize_with = "digits")]
    pub detection_ms: f64,
    #[serde(serialize_with = "digits")]
    pub networks_ms: f64,
    #[serde(serialize_with = "digits")]
    pub networks_per_face_ms: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for data in &self.datasets {
            writeln!(f, "{data}")?;
        }
        if !self.complete {
            let measured: usize = self.datasets.iter().map(|data| data.labels.measured).sum();
            writeln!(
                f,
                "Stopped early: {measured} faces were measured, the rest was not looked at.\n"
            )?;
        }
        let Self { network, timing, .. } = self;
        writeln!(
            f,
            "Time, median: {:.1} ms a picture (detection {:.1}, networks {:.1}), networks {:.1} ms a face",
            timing.picture_ms, timing.detection_ms, timing.networks_ms, timing.networks_per_face_ms,
        )?;
        let hash = network.hash.get(..12).unwrap_or(&network.hash);
        write!(
            f,
            "{} {}, {} {hash}, {} on {} in {}",
            self.program,
            self.version,
            network.variant,
            network.backend,
            network.device,
            network.precision
        )?;
        if let Some(refine) = &self.refine {
            write!(f, ", refined by {refine}")?;
        }
        self.volume.map_or(Ok(()), |r| write!(f, ", volumes of {r}³"))
    }
}

impl fmt::Display for DatasetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Labels { faces, measured, unreadable, broken, unlabelled } = self.labels;
        write!(f, "{}: {measured} of {faces} labelled faces", self.name)?;
        for (what, count) in
            [("unreadable", unreadable), ("broken", broken), ("unlabelled", unlabelled)]
        {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        let points = match self.points {
            Judged::Visible => "landmarks",
            Judged::Fixed => "landmarks3d",
        };
        writeln!(f, "; judged by `{points}`")?;
        table(f, &self.groups)?;
        let YawFrom { label, fit } = self.yaw_from;
        let whose = match (label, fit) {
            (_, 0) => "the label's".into(),
            (0, _) => "the fit's".into(),
            _ => format!("the label's for {label} faces, the fit's for {fit}"),
        };
        writeln!(f, "Points: % of √(area of the labelled box); pose: degrees. Yaw is {whose}.")?;
        if self.groups.iter().any(|group| group.mesh.is_some()) {
            writeln!(
                f,
                "Meshes: % of voxels that differ, as they lie, the volume's and those of the fitted mesh as a \
                 solid; skin to true surface, point to plane, % as points, as it lies and aligned by a \
                 similarity."
            )?;
        }
        Ok(())
    }
}

/// Columns that are as wide as they need to be.
fn table(f: &mut fmt::Formatter<'_>, groups: &[Group]) -> fmt::Result {
    let mut rows = [
        ["", "", "", "raw", "", "free", "", "pose", "", "", "", "mesh", "", "", ""].to_vec(),
        [
            &["", "faces", "missed", "inner", "all", "inner", "all"][..],
            &["pitch", "yaw", "roll", "angle", "voxels", "solid", "surface", "aligned"],
        ]
        .concat(),
    ]
    .map(|row| row.into_iter().map(String::from).collect::<Vec<_>>())
    .to_vec();
    rows.extend(groups.iter().map(|group| {
        let number = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.2}"));
        let Group { name, faces, missed, raw, free, pose, mesh } = group;
        vec![
            name.clone(),
            faces.to_string(),
            missed.to_string(),
            number(raw.map(|e| e.inner)),
            number(raw.map(|e| e.all)),
            number(free.map(|e| e.inner)),
            number(free.map(|e| e.all)),
            number(pose.map(|p| p.pitch)),
            number(pose.map(|p| p.yaw)),
            number(pose.map(|p| p.roll)),
            number(pose.map(|p| p.angle)),
            number(mesh.and_then(|m| m.voxels)),
            number(mesh.and_then(|m| m.solid)),
            number(mesh.map(|m| m.surface)),
            number(mesh.map(|m| m.aligned)),
        ]
    }));
    // Without poses or meshes there is nothing to say of them.
    let posed = groups.iter().any(|group| group.pose.is_some());
    let meshed = groups.iter().any(|group| group.mesh.is_some());
    let told = |column: usize| if column < 11 { column < 7 || posed } else { meshed };
    let width = |k: usize| rows.iter().map(|row| row[k].chars().count()).max().unwrap_or(0);
    let columns: Vec<_> = (0..rows[0].len()).filter(|k| told(*k)).map(|k| (k, width(k))).collect();
    for row in &rows {
        let mut line = format!("{:<1$}", row[0], columns[0].1);
        for (column, width) in &columns[1..] {
            line += &format!("  {:>width$}", row[*column]);
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
