//! Checks a manifest's entries: with numbers that cannot be, a run would find no face and not say
//! why.

use std::path::Path;

use super::{Manifest, NetworkFile};
use crate::backend::{GAZE, Inference};
use crate::crop::{CROP, CropRule};
use crate::error::{Error, Result};
use crate::face::{FaceModel, LANDMARKS};
use crate::gaze::GazeRule;

/// Errors name the entry, and say what could be.
type Checked = std::result::Result<(), String>;

/// Checks all entries, whatever a run will use of them.
pub(super) fn manifest(manifest: &Manifest) -> Checked {
    let model = &manifest.face_model;
    file("face_model", &model.file, &model.sha256)?;
    for (name, variant) in &manifest.variants {
        let at = format!("variants.{name}");
        // At the ends nothing, or everything, would count as a face.
        within(&at, "presence_threshold", variant.presence_threshold, 0.05, 0.95)?;
        within(&at, "points_weight", variant.points_weight, 0.0, 1.0)?;
        let CropRule { size, scale, raise } = variant.crop;
        if size as usize != CROP {
            return Err(format!("{at}.crop.size is {size}, and must be {CROP}"));
        }
        within(&at, "crop.scale", scale, 0.7, 3.0)?;
        within(&at, "crop.raise", raise, -0.5, 0.5)?;
        if let Some(GazeRule { span, eyeball, raise }) = variant.gaze {
            within(&at, "gaze.span", span, 1.0, 4.0)?;
            within(&at, "gaze.eyeball", eyeball, 0.5, 1.5)?;
            within(&at, "gaze.raise", raise, -0.5, 0.5)?;
            if !variant.networks.contains_key(GAZE) {
                return Err(format!("{at}.gaze has no network {GAZE:?}"));
            }
        }
        for (network, about) in &variant.networks {
            let at = format!("{at}.networks.{network}");
            file(&at, &about.file, &about.sha256)?;
            shapes(&at, network, about)?;
        }
    }
    for (name, rule) in &manifest.detectors {
        let at = format!("detectors.{name}");
        within(&at, "scale", rule.scale, 0.5, 2.5)?;
        for shift in rule.centre {
            within(&at, "centre", shift, -0.5, 0.5)?;
        }
    }
    Ok(())
}

fn within(at: &str, entry: &str, value: f32, low: f32, high: f32) -> Checked {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{at}.{entry} is {value}, and must be within {low} to {high}"))
}

fn file(at: &str, path: &Path, hash: &str) -> Checked {
    if path.as_os_str().is_empty() {
        return Err(format!("{at}.file is empty"));
    }
    if hash.is_empty() || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("{at}.sha256 is {hash:?}, and must be a hexadecimal number"));
    }
    Ok(())
}

/// What the program reads of networks must have the sizes that it knows.
fn shapes(at: &str, network: &str, about: &NetworkFile) -> Checked {
    let resolution = network.strip_prefix("volume-").and_then(|r| r.parse::<i64>().ok());
    for output in &about.outputs {
        let wanted: Vec<i64> = match (network, output.name.as_str()) {
            ("pmn", "pose") => vec![7],
            ("pmn", "presence") => vec![1],
            ("pmn", "points") => vec![LANDMARKS as i64, 2],
            (GAZE, "points") => vec![3, 2],
            (GAZE, "confidence") => vec![1],
            ("pmn", "identity" | "expression") => match &output.shape[..] {
                [_, toml::Value::Integer(count @ 1..)] => vec![*count],
                _ => {
                    return Err(format!(
                        "{at} has the output {} of a shape that cannot be",
                        output.name
                    ));
                }
            },
            (_, "volume") => match resolution {
                Some(r) => vec![r; 3],
                None => continue,
            },
            _ => continue,
        };
        let sizes: Vec<_> = output.shape.iter().skip(1).map(toml::Value::as_integer).collect();
        if !sizes.iter().copied().eq(wanted.iter().copied().map(Some)) {
            let name = &output.name;
            return Err(format!("{at} has the output {name} of another shape than {wanted:?}"));
        }
    }
    Ok(())
}

/// Checks what the networks give for a crop against the face model.
///
/// # Errors
/// [`Error::Models`] if there are too many or too few numbers, or some that are none.
pub(crate) fn outputs(variant: &super::Variant, model: &FaceModel, seen: &Inference) -> Result<()> {
    let output = &seen.output;
    let name = &variant.name;
    let points = if variant.has_points() { LANDMARKS } else { 0 };
    let counts = [
        ("identity coefficients", output.identity.len(), model.identities),
        ("expression coefficients", output.expression.len(), model.expressions.len()),
        ("points", output.points.len(), points),
    ];
    for (what, found, wanted) in counts {
        if found != wanted {
            return Err(Error::Models(format!(
                "the network pmn of {name} gives {found} {what}, and {wanted} are needed; take \
                 networks, face model and manifest from one export"
            )));
        }
    }
    let mut numbers = output.pose.iter().chain(&output.identity).chain(&output.expression);
    // Without training, grey may give anything.
    if !variant.trained || numbers.all(|v| v.is_finite()) && output.presence.is_finite() {
        return Ok(());
    }
    Err(Error::Models(format!("the networks of {name} give numbers that are none; restore them")))
}
