//! Presets of the filters. The numbers were chosen by measurement; the test in `measured.rs` checks
//! what they achieve.

use std::fmt;

use super::one_euro::Tuning;

/// Strength of the smoothing: less jitter for more lag. Measured with known motion and a realistic
/// noise (docs/conventions.md, "Smoothing").
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// No smoothing: every frame stands alone, identity included.
    Off,
    /// Half the jitter.
    Light,
    /// A third of the jitter.
    #[default]
    Medium,
    /// A sixth of the jitter, for heads that move slowly.
    Strong,
    /// For driving an avatar: eyelids and jaw fast, the head calm.
    Avatar,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Light => "light",
            Self::Medium => "medium",
            Self::Strong => "strong",
            Self::Avatar => "avatar",
        })
    }
}

/// A tuning for each group of parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Preset {
    /// t, with speed in face sizes per second, and ln f.
    pub place: Tuning,
    /// Rotation, with speed in radians per second.
    pub rotation: Tuning,
    /// Expressions that move slowly, such as brows, cheeks and lips.
    pub slow: Tuning,
    /// Eyelids and jaw. A blink lasts 0.13 s, four frames at 30 frames per second, and must
    /// survive.
    pub quick: Tuning,
}

impl Preset {
    /// The preset of a strength; `None` for no smoothing.
    pub(super) fn of(strength: Strength) -> Option<Self> {
        let tuning = |min_cutoff, beta| Tuning { min_cutoff, beta, speed_cutoff: 1.0 };
        // Jitter looks like speed and raises the cutoff. For strong smoothing, a steadier estimate
        // of the speed gives less lag than one that responds faster.
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
            Strength::Avatar => Self {
                place: heavy(0.3, 3.0),
                rotation: heavy(0.3, 1.5),
                slow: tuning(0.8, 3.0),
                quick: tuning(1.5, 14.0),
            },
        })
    }
}

/// Whether an expression (by its ARKit name) moves quickly: those of the eyelids, and opening the
/// jaw.
pub(super) fn is_quick(expression: &str) -> bool {
    ["eyeBlink", "eyeSquint", "eyeWide", "jawOpen"].iter().any(|part| expression.starts_with(part))
}
