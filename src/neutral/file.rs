//! The file of a neutral face: TOML, with expressions by their names, so that it outlives a change
//! of the face model.

use std::collections::BTreeMap;
use std::path::Path;

use mmface::face::rotation;
use mmface::limited::read_text_limited;
use nalgebra::{Quaternion, UnitQuaternion};
use serde::{Deserialize, Serialize};

use super::Neutral;

/// Most bytes of a file.
const LARGEST: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// The head, if it was marked.
    head: Option<Head>,
    /// Each expression at rest; those that are not named are 0.
    #[serde(default)]
    expression: BTreeMap<String, f32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// As in the records: w, x, y, z.
    q: [f32; 4],
    /// Centimetres to the right in the picture and up from its middle, and away from the camera.
    place: [f32; 3],
}

/// Reads a file; `None` if there is none.
pub(super) fn read(path: &Path, names: &[String]) -> Result<Option<Neutral>, String> {
    if !path.try_exists().map_err(|e| e.to_string())? {
        return Ok(None);
    }
    let text = read_text_limited(path, LARGEST).map_err(|e| e.to_string())?;
    let contents: Contents = toml::from_str(&text).map_err(|e| e.message().replace('\n', " "))?;
    for (name, value) in &contents.expression {
        if !(0.0..=1.0).contains(value) {
            return Err(format!("{name} = {value} is not within 0 to 1"));
        }
        if !names.contains(name) {
            return Err(format!("the face model has no expression {name}"));
        }
    }
    let head = contents.head.map(|Head { q: [w, x, y, z], place }| {
        let q = Quaternion::new(w, x, y, z);
        let is_number = place.iter().all(|v| v.is_finite()) && place[2] > 0.0;
        (is_number && (0.5..2.0).contains(&q.norm()))
            .then(|| (UnitQuaternion::new_normalize(q), place))
            .ok_or("its head is none: q is a rotation, and place lies before the camera")
    });
    let value = |name: &String| contents.expression.get(name).copied().unwrap_or(0.0);
    let expression = names.iter().map(value).collect();
    Ok(Some(Neutral { expression, head: head.transpose()? }))
}

/// Writes a file.
pub(super) fn write(path: &Path, neutral: &Neutral, names: &[String]) -> std::io::Result<()> {
    let rounded = |value: f32| (value * 1e4).round() / 1e4;
    let contents = Contents {
        head: neutral.head.as_ref().map(|(turned, place)| Head {
            q: rotation::to_wxyz(turned).map(rounded),
            place: place.map(rounded),
        }),
        expression: names
            .iter()
            .cloned()
            .zip(neutral.expression.iter().copied().map(rounded))
            .collect(),
    };
    let text = toml::to_string_pretty(&contents).map_err(std::io::Error::other)?;
    std::fs::write(path, text)
}
