//! The results of an evaluation, as JSON and as a table.

use std::fmt;

use serde::Serialize;

use super::Judged;
use super::metric::{self, digits, digits_if_any};
use mmface::record::Network;

/// The results. Two runs of the same program on the same machine and pictures differ in `timing`
/// only.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `mmface-live`.
    pub program: String,
    /// Version of the program.
    pub version: String,
    /// The networks and their backend.
    pub network: Network,
    /// The face model.
    pub face_model: Named,
    /// `icp` if poses were aligned to the volumes.
    pub refine: Option<String>,
    /// Voxels along each side of the volumes, if there were any.
    pub volume: Option<u32>,
    /// False if the run was stopped before the last picture.
    pub complete: bool,
    /// Results of each data set.
    pub datasets: Vec<DatasetReport>,
    /// Processing times.
    pub timing: Timing,
}

/// A model file.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    /// Name of the model.
    pub name: String,
    /// SHA-256 of its file.
    pub hash: String,
}

/// Results of one data set.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetReport {
    /// Name of the data set.
    pub name: String,
    /// Which landmarks were compared.
    pub points: Judged,
    /// Counts of labels.
    pub labels: Labels,
    /// Origin of the yaw by which faces are put into bins.
    pub yaw_from: YawFrom,
    /// Results over all faces, then by yaw, then by source if there are several.
    pub groups: Vec<Group>,
}

/// Counts of the labels of a data set.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Labels {
    /// Labelled faces.
    pub faces: usize,
    /// Labelled faces whose picture was processed.
    pub measured: usize,
    /// Labelled faces whose picture cannot be decoded.
    pub unreadable: usize,
    /// Invalid labels.
    pub broken: usize,
    /// Lines or pictures without points.
    pub unlabelled: usize,
}

/// Number of faces by the origin of their yaw.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct YawFrom {
    /// From the label's pose.
    pub label: usize,
    /// From the fitted pose, because the label has none.
    pub fit: usize,
}

/// Results over a group of faces.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// `all`, `yaw 0–30°`, … or a source.
    pub name: String,
    /// Labelled faces, missed ones included. In a group by yaw, only faces whose yaw is known.
    pub faces: usize,
    /// Labelled faces that were not found. They are not part of the means below.
    pub missed: usize,
    /// Raw landmark error, % of the face's size.
    pub raw: Option<metric::Error>,
    /// Free landmark error: without the mean offset of each point.
    pub free: Option<metric::Error>,
    /// Mean absolute errors of the pose in degrees, if labels have poses.
    pub pose: Option<Pose>,
    /// Comparison with true meshes, if labels have them.
    pub mesh: Option<MeshError>,
}

/// See [`Group::mesh`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MeshError {
    /// Number of faces.
    pub faces: usize,
    /// Voxels that differ between the volume and the true solid, without alignment, in %.
    #[serde(serialize_with = "digits_if_any")]
    pub voxels: Option<f64>,
    /// Voxels that differ between the fitted mesh, filled, and the true solid, in %.
    #[serde(serialize_with = "digits_if_any")]
    pub solid: Option<f64>,
    /// Mean point-to-plane distance from the visible skin of the fitted mesh to the true surface,
    /// without alignment, in % of the face's size.
    #[serde(serialize_with = "digits")]
    pub surface: f64,
    /// The same distance after alignment by a similarity transform.
    #[serde(serialize_with = "digits")]
    pub aligned: f64,
}

/// See [`Group::pose`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pose {
    /// Number of faces.
    pub faces: usize,
    #[serde(serialize_with = "digits")]
    pub pitch: f64,
    #[serde(serialize_with = "digits")]
    pub yaw: f64,
    #[serde(serialize_with = "digits")]
    pub roll: f64,
    /// Angle of the rotation between the two poses.
    #[serde(serialize_with = "digits")]
    pub angle: f64,
}

/// Median processing times in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Timing {
    /// Number of pictures.
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

/// Results of the same data sets in several precisions.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Comparison(pub Vec<Report>);

impl fmt::Display for Comparison {
    /// All reports, then what holds for all faces of each data set, a row for each precision.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.0 {
            writeln!(f, "{report}\n")?;
        }
        let Some(first) = self.0.first() else { return Ok(()) };
        for (set, data) in first.datasets.iter().enumerate() {
            writeln!(f, "{}, by precision", data.name)?;
            let all = |report: &Report| {
                let group = report.datasets.get(set)?.groups.first()?.clone();
                Some(Group { name: report.network.precision.clone(), ..group })
            };
            table(f, &self.0.iter().filter_map(all).collect::<Vec<_>>())?;
        }
        let times = self.0.iter().map(|report| {
            format!("{} {:.1}", report.network.precision, report.timing.networks_per_face_ms)
        });
        write!(f, "Networks, median ms a face: {}", times.collect::<Vec<_>>().join(", "))
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
                "Meshes, compared with the true ones: voxels and solid, % of voxels that differ, for the volume \
                 and for the filled fitted mesh; surface and aligned, distance of the skin from the true \
                 surface (point to plane, % as for points), as it is and after alignment by a similarity."
            )?;
        }
        Ok(())
    }
}

/// Prints a table with columns as wide as necessary.
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
    // Columns for poses and meshes are left out if there are none.
    let posed = groups.iter().any(|group| group.pose.is_some());
    let meshed = groups.iter().any(|group| group.mesh.is_some());
    let shown = |column: usize| if column < 11 { column < 7 || posed } else { meshed };
    let width = |k: usize| rows.iter().map(|row| row[k].chars().count()).max().unwrap_or(0);
    let columns: Vec<_> = (0..rows[0].len()).filter(|k| shown(*k)).map(|k| (k, width(k))).collect();
    for row in &rows {
        let mut line = format!("{:<1$}", row[0], columns[0].1);
        for (column, width) in &columns[1..] {
            line += &format!("  {:>width$}", row[*column]);
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
