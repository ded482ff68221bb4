//! How strong the filters are: numbers chosen by measurement, held by the test in `measured.rs`.

use std::fmt;

use super::one_euro::Tuning;

/// How much the parameters are smoothed: less jitter for more lag. Measured with known motion and
/// the noise of a good network (docs/conventions.md, "Smoothing").
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// Not at all: every frame stands alone, identity too.
    Off,
    /// Half the jitter, for whoever drives an avatar.
    Light,
    /// A third of the jitter.
    #[default]
    Medium,
    /// A sixth of the jitter, for slow heads.
    Strong,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Light => "light",
            Self::Medium => "medium",
            Self::Strong => "strong",
        })
    }
}

/// One tuning for each group of parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Preset {
    /// t in face sizes per second, ln f per second.
    pub place: Tuning,
    /// Rotation, radians per second.
    pub rotation: Tuning,
    /// Expressions that move slowly: brows, cheeks, lips.
    pub slow: Tuning,
    /// Eyelids and jaw: a blink lasts 0.13 s, four frames, and must not be flattened.
    pub quick: Tuning,
}

impl Preset {
    /// `None`: no smoothing.
    pub(super) fn of(strength: Strength) -> Option<Self> {
        let tuning = |min_cutoff, beta| Tuning { min_cutoff, beta, speed_cutoff: 1.0 };
        // Jitter looks like speed and lifts the cutoff. Where most of it is to go, a steadier speed
        // buys less lag than one that answers sooner.
        let heavy = |min_cutoff, beta| Tuning { min_cutoff, beta, speed_cutoff: 0.7 };
        Some(match strength {
            Strength::Off => return None,
            Strength::Light => Self {
                place: tuning(1.5, 12.0),
                rotation: tuning(1.5, 6.0),
                slow: tuning(1.5, 6.0),
                quick: tuning(1.5, 10.0),
            },
            Strength::Medium => Self {
                place: tuning(0.5, 5.0),
                rotation: tuning(0.5, 2.5),
                slow: tuning(0.4, 1.5),
                quick: tuning(0.5, 7.0),
            },
            Strength::Strong => Self {
                place: heavy(0.12, 1.0),
                rotation: heavy(0.12, 0.5),
                slow: heavy(0.1, 0.3),
                quick: tuning(0.3, 4.0),
            },
        })
    }
}

/// Whether an expression (by its ARKit name) moves quickly: eyelids and the opening of the jaw.
pub(super) fn is_quick(expression: &str) -> bool {
    ["eyeBlink", "eyeSquint", "eyeWide", "jawOpen"].iter().any(|part| expression.starts_with(part))
}
