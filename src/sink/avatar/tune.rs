//! `--avatar FILE.toml`: how coefficients become an avatar's.

use std::path::Path;

use mmface::limited::read_text_limited;
use serde::Deserialize;

use super::arkit::{self, COUNT, Coefficients, NAMES};
use super::defaults;

/// Most bytes of a file.
const LARGEST: u64 = 1 << 20;
/// Most letters of a name on the wire.
const LONGEST_NAME: usize = 64;

/// What happens to one coefficient, in this order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Added first.
    pub offset: f32,
    /// What is below this is 0; the rest is stretched to start there.
    pub dead_zone: f32,
    /// Factor, after which everything above 1 is 1.
    pub gain: f32,
    /// Exponent: below 1 small values become larger, above 1 smaller.
    pub curve: f32,
    /// Least value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
}

impl Curve {
    /// Leaves values as they are.
    pub const PLAIN: Self =
        Self { offset: 0.0, dead_zone: 0.0, gain: 1.0, curve: 1.0, min: 0.0, max: 1.0 };

    /// The avatar's value.
    #[must_use]
    pub fn apply(&self, value: f32) -> f32 {
        let value = (value + self.offset - self.dead_zone).max(0.0) / (1.0 - self.dead_zone);
        (value * self.gain).clamp(0.0, 1.0).powf(self.curve).clamp(self.min, self.max)
    }
}

/// How an avatar is tuned.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    curves: [Curve; COUNT],
    /// Names on the wire.
    pub names: [String; COUNT],
    link_eyes: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { curves: defaults::curves(), names: NAMES.map(Into::into), link_eyes: false }
    }
}

/// The table of a coefficient in a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    offset: Option<f32>,
    dead_zone: Option<f32>,
    gain: Option<f32>,
    curve: Option<f32>,
    min: Option<f32>,
    max: Option<f32>,
    name: Option<String>,
}

/// Keys of a coefficient's table, and keys that stand alone.
const TABLE_KEYS: [&str; 7] = ["offset", "dead-zone", "gain", "curve", "min", "max", "name"];
const KEYS: [&str; 2] = ["link-eyes", "defaults"];

impl Tuning {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = read_text_limited(path, LARGEST).map_err(|e| e.to_string())?;
        Self::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let root: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let at = e.span().map_or(0, |s| s.start.min(text.len()));
            let line = 1 + text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
            format!("line {line}: {}", e.message().replace('\n', " "))
        })?;
        let flag = |key: &str, otherwise: bool| match root.get(key) {
            None => Ok(otherwise),
            Some(toml::Value::Boolean(value)) => Ok(*value),
            Some(other) => Err(format!("{key} is true or false, not {other}")),
        };
        let mut tuning = Self { link_eyes: flag("link-eyes", false)?, ..Self::default() };
        if !flag("defaults", true)? {
            tuning.curves = [Curve::PLAIN; COUNT];
        }
        // Both sides first, so that a single side wins wherever it stands.
        let entries = root.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()));
        let (sides, both): (Vec<_>, Vec<_>) =
            entries.partition(|(key, _)| arkit::index(key).is_some());
        for (key, value) in both.into_iter().chain(sides) {
            tuning.set(key, value)?;
        }
        Ok(tuning)
    }

    /// Takes over the table of a coefficient, or of a pair of them.
    fn set(&mut self, key: &str, value: &toml::Value) -> Result<(), String> {
        let sides = [key.into(), format!("{key}Left"), format!("{key}Right")];
        let places: Vec<_> = sides.iter().filter_map(|name| arkit::index(name)).collect();
        if places.is_empty() {
            let pairs = NAMES.iter().filter_map(|name| name.strip_suffix("Left"));
            return Err(unknown(key, pairs.chain(NAMES).chain(KEYS)));
        }
        let Some(entries) = value.as_table() else {
            return Err(format!("{key} is a table, as in [{key}]"));
        };
        if let Some(wrong) = entries.keys().find(|name| !TABLE_KEYS.contains(&name.as_str())) {
            return Err(format!("[{key}]: {}", unknown(wrong, TABLE_KEYS)));
        }
        let table: Table = value
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| format!("[{key}]: {}", e.message()))?;
        for at in places {
            self.curves[at] =
                checked(&table, self.curves[at]).map_err(|why| format!("[{key}]: {why}"))?;
            if let Some(name) = &table.name {
                self.names[at] = name_on_the_wire(key, name, NAMES[at])?;
            }
        }
        Ok(())
    }

    /// The avatar's coefficients.
    #[must_use]
    pub fn apply(&self, coefficients: &Coefficients) -> Coefficients {
        let mut tuned: Coefficients =
            std::array::from_fn(|at| self.curves[at].apply(coefficients[at]));
        if self.link_eyes {
            for stem in ["eyeBlink", "eyeSquint", "eyeWide"] {
                let sides = ["Left", "Right"].map(|side| arkit::index(&format!("{stem}{side}")));
                if let [Some(left), Some(right)] = sides {
                    let mean = f32::midpoint(tuned[left], tuned[right]);
                    (tuned[left], tuned[right]) = (mean, mean);
                }
            }
        }
        tuned
    }
}

/// A curve with the table's values instead of some of its own.
fn checked(table: &Table, before: Curve) -> Result<Curve, String> {
    let within = |what: &str, value: Option<f32>, otherwise: f32, low: f32, high: f32| match value {
        None => Ok(otherwise),
        Some(value) if (low..=high).contains(&value) => Ok(value),
        Some(value) => Err(format!("{what} = {value} is not within {low} to {high}")),
    };
    let curve = Curve {
        offset: within("offset", table.offset, before.offset, -1.0, 1.0)?,
        dead_zone: within("dead-zone", table.dead_zone, before.dead_zone, 0.0, 0.95)?,
        gain: within("gain", table.gain, before.gain, 0.0, 100.0)?,
        curve: within("curve", table.curve, before.curve, 0.05, 20.0)?,
        min: within("min", table.min, before.min, 0.0, 1.0)?,
        max: within("max", table.max, before.max, 0.0, 1.0)?,
    };
    if curve.min > curve.max {
        return Err(format!("min = {} is above max = {}", curve.min, curve.max));
    }
    Ok(curve)
}

/// A new name. For a pair of coefficients it stands without the side, which is added.
fn name_on_the_wire(key: &str, name: &str, standard: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == ' ';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
        return Err(format!(
            "[{key}]: a name has 1 to {LONGEST_NAME} letters, digits, points, blanks and underscores"
        ));
    }
    let side = standard.strip_prefix(key).unwrap_or_default();
    Ok(format!("{name}{side}"))
}

/// That a name is unknown, and which known one is nearest to it.
fn unknown<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let far =
        |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let nearest = known.into_iter().min_by_key(|other| far(other)).unwrap_or_default();
    format!("there is no {name}; did you mean {nearest}?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tuning: &Tuning, name: &str, value: f32) -> f32 {
        let mut coefficients = [0.0; COUNT];
        coefficients[arkit::index(name).expect("a name")] = value;
        arkit::value(&tuning.apply(&coefficients), name)
    }

    fn plain(text: &str) -> Tuning {
        Tuning::parse(&format!("defaults = false\n{text}")).expect(text)
    }

    #[test]
    fn each_setting_does_what_it_says() {
        for (setting, value, expected) in [
            ("gain = 2", 0.3, 0.6),
            ("gain = 2", 0.7, 1.0),
            ("offset = -0.2", 0.5, 0.3),
            ("offset = -0.2", 0.1, 0.0),
            ("dead-zone = 0.2", 0.2, 0.0),
            ("dead-zone = 0.2", 0.6, 0.5),
            ("dead-zone = 0.2", 1.0, 1.0),
            ("curve = 2", 0.5, 0.25),
            ("max = 0.4", 0.9, 0.4),
            ("min = 0.1", 0.0, 0.1),
            ("offset = 0.1\ngain = 2\ncurve = 0.5\nmax = 0.7", 0.22, 0.7),
        ] {
            let tuning = plain(&format!("[jawOpen]\n{setting}"));
            let seen = of(&tuning, "jawOpen", value);
            assert!((seen - expected).abs() < 1e-5, "{setting}: {value} becomes {seen}");
            assert_eq!(of(&tuning, "jawLeft", value), value);
        }
    }

    #[test]
    fn a_name_without_a_side_means_both_and_one_side_wins() {
        let tuning = plain("[mouthSmileLeft]\ngain = 3\n[mouthSmile]\ngain = 2\nname = \"Smile_\"");
        assert_eq!(
            (of(&tuning, "mouthSmileLeft", 0.2), of(&tuning, "mouthSmileRight", 0.2)),
            (0.6, 0.4)
        );
        let names = ["mouthSmileLeft", "mouthSmileRight", "jawOpen"]
            .map(|name| tuning.names[arkit::index(name).expect("a name")].as_str());
        assert_eq!(names, ["Smile_Left", "Smile_Right", "jawOpen"]);
        let tuning = plain("[eyeBlinkLeft]\nname = \"Blink_L\"");
        assert_eq!(tuning.names[0], "Blink_L");
    }

    #[test]
    fn linked_eyes_move_together() {
        let mut coefficients = [0.0; COUNT];
        coefficients[arkit::index("eyeBlinkLeft").expect("a name")] = 1.0;
        let linked = plain("link-eyes = true").apply(&coefficients);
        assert_eq!(arkit::value(&linked, "eyeBlinkRight"), 0.5);
        assert_eq!(arkit::value(&linked, "eyeBlinkLeft"), 0.5);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("[mouthSmle]", "there is no mouthSmle; did you mean mouthSmile?"),
            ("[eyeblinkleft]", "did you mean eyeBlinkLeft?"),
            ("link_eyes = true", "did you mean link-eyes?"),
            ("[jawOpen]\ngian = 2", "[jawOpen]: there is no gian; did you mean gain?"),
            ("[jawOpen]\ngain = -2", "gain = -2 is not within 0 to 100"),
            ("[jawOpen]\ngain = nan", "is not within"),
            ("[jawOpen]\ngain = \"x\"", "[jawOpen]: "),
            ("[jawOpen]\nmin = 0.5\nmax = 0.4", "min = 0.5 is above max = 0.4"),
            ("[jawOpen]\nname = \"a|b\"", "[jawOpen]: a name has"),
            ("jawOpen = 1", "jawOpen is a table"),
            ("link-eyes = 1", "link-eyes is true or false, not 1"),
            ("\n[jaw", "line 2: "),
        ] {
            let error = Tuning::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn an_empty_file_is_the_default_and_defaults_stay_within_bounds() {
        assert_eq!(Tuning::parse(""), Ok(Tuning::default()));
        let tuning = Tuning::default();
        for value in [0.0, 0.3, 1.0] {
            for seen in tuning.apply(&[value; COUNT]) {
                assert!((0.0..=1.0).contains(&seen));
            }
        }
    }
}
