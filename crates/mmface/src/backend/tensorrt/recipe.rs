//! The names of engines in the [cache](super::Cache).

use super::Chip;
use crate::backend::Precision;

/// Everything that an engine depends on.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// Name of the variant: `mmface-lite`.
    pub variant: &'a str,
    /// Name of the network: `vmn`.
    pub network: &'a str,
    /// SHA-256 of the ONNX file, hexadecimal.
    pub onnx: &'a str,
    /// Flavour and version of TensorRT: `rtx-1.7.1`.
    pub library: &'a str,
    /// The GPU's chip.
    pub chip: Chip,
    /// The precision.
    pub precision: Precision,
}

impl Recipe<'_> {
    /// The engine's file name.
    #[must_use]
    pub fn file_name(&self) -> String {
        let Self { variant, network, onnx, library, chip, precision } = self;
        let onnx = &onnx[..onnx.len().min(12)];
        format!("{variant}-{network}-{onnx}-{library}-{chip}-{precision}.engine")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_is_made_from() {
        let recipe = Recipe {
            variant: "mmface-lite",
            network: "vmn",
            onnx: "0123456789abcdef0123",
            library: "rtx-1.7.1",
            chip: Chip::new(8, 9),
            precision: Precision::F16,
        };
        let name = "mmface-lite-vmn-0123456789ab-rtx-1.7.1-sm_89-f16.engine";
        assert_eq!(recipe.file_name(), name);
    }
}
