//! GPU chips, identified by their compute capability.

use std::str::FromStr;

/// A chip's compute capability, written as NVIDIA does: `sm_89` is 8.9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chip(u32);

impl Chip {
    /// From the major and minor number of the compute capability.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self(major * 10 + minor)
    }

    /// Ten times the compute capability, for example 89.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Chips for which TensorRT-RTX can build engines on any machine, with examples of GPUs.
    pub const TARGETS: [(Self, &'static str); 6] = [
        (Self(75), "Turing: T4, RTX 20"),
        (Self(80), "Ampere: A100"),
        (Self(86), "Ampere: A10, RTX 30"),
        (Self(89), "Ada: L4, L40, RTX 40"),
        (Self(120), "Blackwell: RTX 50"),
        (Self(121), "Blackwell: GB10"),
    ];

    /// Whether TensorRT-RTX supports the chip.
    #[must_use]
    pub fn is_target(self) -> bool {
        Self::TARGETS.iter().any(|(chip, _)| *chip == self)
    }
}

impl std::fmt::Display for Chip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sm_{}", self.0)
    }
}

impl FromStr for Chip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sm_").unwrap_or(text).replace('.', "");
        match digits.parse() {
            Ok(number) if (50..1000).contains(&number) => Ok(Self(number)),
            _ => Err("a chip is named like sm_89".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!("sm_89".parse(), Ok(Chip::new(8, 9)));
        assert_eq!("12.0".parse(), Ok(Chip::new(12, 0)));
        assert_eq!(Chip::new(12, 0).to_string(), "sm_120");
        assert!("RTX 4090".parse::<Chip>().is_err() && "sm_9".parse::<Chip>().is_err());
        assert!(Chip::new(8, 9).is_target() && !Chip::new(9, 0).is_target());
    }
}
