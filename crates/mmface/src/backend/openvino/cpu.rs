//! What the CPU computes in.

use std::ffi::OsString;

use openvino::{DeviceType, ElementType, PropertyKey, Shape, Tensor};

use super::{FEATURES, Inferred, failed, library};
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::models::Variant;

/// What the CPU can do, and what OpenVINO may use of it.
#[derive(Debug)]
pub(super) struct Cpu {
    /// As OpenVINO names them.
    abilities: String,
    /// oneDNN's limits on instructions, for benchmarks of older CPUs.
    limits: [Option<OsString>; 2],
}

impl Cpu {
    pub(super) fn ask() -> Result<Self> {
        let abilities = library::core()?
            .get_property(&DeviceType::CPU, &PropertyKey::DeviceCapabilities)
            .map_err(|e| failed("asking what the CPU can do", &e))?;
        let limits = ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"].map(std::env::var_os);
        Ok(Self { abilities, limits })
    }

    fn has(&self, ability: &str) -> bool {
        self.abilities.contains(ability)
    }

    /// Whether it computes in bfloat16. OpenVINO names the ability also where oneDNN is held to
    /// instructions without it, and then fails.
    fn has_bf16(&self) -> bool {
        const WITH: [&str; 6] = ["BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT"];
        let is_without = |limit: &OsString| {
            let limit = limit.to_string_lossy().to_uppercase();
            !WITH.iter().any(|isa| limit.contains(isa))
        };
        self.has("BF16") && !self.limits.iter().flatten().any(is_without)
    }

    /// The type of floats for networks in a precision.
    pub(super) fn floats(&self, precision: Precision) -> Floats {
        if precision != Precision::F32 && self.has_bf16() { Floats::Bf16 } else { Floats::F32 }
    }

    /// The precision for a variant's networks, if `wanted` is what the user asks for.
    pub(super) fn precision(
        &self,
        variant: &Variant,
        wanted: Option<Precision>,
    ) -> Result<Precision> {
        let unsupported = |why: String| Err(Error::Precision(why));
        let int8 = ["vmn", "pmn"].iter().all(|n| variant.has_network(&Precision::Int8.network(n)));
        match wanted {
            None if int8 && self.has("INT8") => Ok(Precision::Int8),
            None if self.has_bf16() => Ok(Precision::Bf16),
            None => Ok(Precision::F32),
            Some(Precision::Bf16) if !self.has_bf16() => {
                unsupported("this CPU does not compute in bf16".into())
            }
            Some(Precision::Int8) if !self.has("INT8") => {
                unsupported("this CPU does not compute in int8".into())
            }
            Some(Precision::Int8) if !int8 => {
                unsupported(format!("{} has no networks in int8", variant.name))
            }
            Some(Precision::F16) => {
                unsupported("f16 is for the GPU; the CPU computes in int8, bf16 or f32".into())
            }
            Some(precision) => Ok(precision),
        }
    }
}

/// What the networks compute in where they compute in floats, and the type of the features between
/// them: in one precision they need no conversion to f32 and back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Floats {
    F32,
    Bf16,
}

impl Floats {
    /// OpenVINO's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// A tensor for the features of one crop.
    pub(super) fn features(self) -> Inferred<Tensor> {
        let element = match self {
            Self::F32 => ElementType::F32,
            Self::Bf16 => ElementType::Bf16,
        };
        Tensor::new(element, &Shape::new(&FEATURES)?)
    }
}

/// The CPU's name, as reported by OpenVINO.
///
/// # Errors
/// [`Error::Library`] if OpenVINO cannot be loaded, [`Error::Device`] if it fails.
pub fn cpu_name() -> Result<String> {
    let core = library::core()?;
    core.get_property(&DeviceType::CPU, &PropertyKey::DeviceFullName)
        .map(|name| name.trim().to_string())
        .map_err(|e| failed("naming the CPU", &e))
}
