//! Compiles networks for the CPU, for a batch of one crop.

use std::sync::{Mutex, PoisonError};

use openvino::prepostprocess::Pipeline;
use openvino::{CompiledModel, Core, DeviceType, PartialShape, RwPropertyKey};

use super::compiled::Compiled;
use super::cpu::{Cpu, Floats, cpu_name};
use super::{FEATURES, IMAGE, Inferred, Lane, failed, library};
use crate::backend::cache::Cache;
use crate::error::{Error, Result};
use crate::models::{Variant, sha256};

/// A network's name in the manifest and the contents of its ONNX file.
pub(super) type Source = (String, Vec<u8>);

/// What a compiled network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// One crop at a time, on all cores.
    Single,
    /// So many crops at a time, each on one core.
    Several(usize),
}

/// Most crops that are inferred at once: each takes memory.
const MOST: usize = 8;

/// Compiles networks for a batch of one.
pub(super) struct Compiler {
    pub(super) variant: Variant,
    pub(super) floats: Floats,
    pub(super) threads: Option<u32>,
    pub(super) cache: Cache,
    /// The networks' names in the manifest and in the cache.
    pub(super) names: Vec<(String, String)>,
}

impl Compiler {
    /// How many crops are inferred at once.
    pub(super) fn side_by_side(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.map_or_else(cores, |threads| threads as usize).clamp(1, MOST)
    }

    /// What the cache has of the networks.
    pub(super) fn cached(&self) -> Option<Compiled> {
        Compiled::take(self.cache.clone(), self.names.clone())
    }

    pub(super) fn core(&self, purpose: Use) -> Result<Core> {
        let mut core = library::core()?;
        let mut settings = vec![
            (RwPropertyKey::HintInferencePrecision, self.floats.name().to_string()),
            // Threads that may move get out of the way of decoders and of other programs.
            (RwPropertyKey::HintEnableCpuPinning, "NO".to_string()),
        ];
        match purpose {
            Use::Single => {
                settings.push((RwPropertyKey::HintPerformanceMode, "LATENCY".to_string()));
                settings.extend(
                    self.threads.map(|n| (RwPropertyKey::InferenceNumThreads, n.to_string())),
                );
            }
            Use::Several(count) => settings.extend([
                (RwPropertyKey::HintPerformanceMode, "THROUGHPUT".to_string()),
                (RwPropertyKey::NumStreams, count.to_string()),
                (RwPropertyKey::InferenceNumThreads, count.to_string()),
            ]),
        }
        for (key, value) in &settings {
            core.set_property(&DeviceType::CPU, key, value)
                .map_err(|e| failed("setting up the CPU", &e))?;
        }
        Ok(core)
    }

    /// Compiles a network whose input has this shape: the VMN makes features of images, all others
    /// read features.
    pub(super) fn compile(
        &self,
        core: &mut Core,
        (network, bytes): &Source,
        input: &[i64; 4],
        cached: Option<&Compiled>,
    ) -> Result<CompiledModel> {
        let mut run = || -> Inferred<_> {
            if let Some(folder) = cached.map(|cached| cached.folder(network)) {
                let folder = folder.to_string_lossy();
                core.set_property(&DeviceType::CPU, &RwPropertyKey::CacheDir, &folder)?;
            }
            let mut model = core.read_model_from_buffer(bytes, None)?;
            model.reshape_single_input(&PartialShape::new_static(4, input)?)?;
            let features = self.floats.features()?;
            let ends = Pipeline::new(&model)?;
            if *input == IMAGE {
                let mut end = ends.get_output_info_by_index(0)?.get_tensor_info()?;
                end.set_element_type(features.get_element_type()?)?;
            } else {
                ends.get_input_info_by_index(0)?.get_tensor_info()?.set_from(&features)?;
            }
            core.compile_model(&ends.build_new_model()?, DeviceType::CPU)
        };
        run().map_err(|e| {
            Error::Models(format!("OpenVINO cannot use {network} of {}: {e}", self.variant.name))
        })
    }
}

/// Both networks for several crops at once, compiled when they are needed for the first time.
pub(super) struct Several {
    pub(super) compiler: Compiler,
    pub(super) vmn: Source,
    pub(super) pmn: Source,
    /// VMN and PMN.
    pub(super) models: Mutex<Option<[CompiledModel; 2]>>,
}

impl Several {
    /// Room for one more crop.
    pub(super) fn lane(&self) -> Result<Lane> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let [vmn, pmn] = match &mut *models {
            Some(models) => models,
            empty => empty.insert(self.compile()?),
        };
        let mut requests = || -> Inferred<Lane> {
            Ok(Lane { vmn: vmn.create_infer_request()?, pmn: pmn.create_infer_request()? })
        };
        requests().map_err(|e| failed("making room for a crop", &e))
    }

    fn compile(&self) -> Result<[CompiledModel; 2]> {
        let Self { compiler, vmn, pmn, .. } = self;
        let cached = compiler.cached();
        let mut core = compiler.core(Use::Several(compiler.side_by_side()))?;
        Ok([
            compiler.compile(&mut core, vmn, &IMAGE, cached.as_ref())?,
            compiler.compile(&mut core, pmn, &FEATURES, cached.as_ref())?,
        ])
    }
}

/// The names of networks in the manifest and in the cache. The latter say what a compiled network
/// depends on: its file, OpenVINO's version, the CPU and what OpenVINO may use of it.
pub(super) fn cache_names(
    cpu: &Cpu,
    variant: &Variant,
    floats: Floats,
    networks: Vec<String>,
) -> Result<Vec<(String, String)>> {
    let core = library::core()?;
    let versions = core.versions("CPU").map_err(|e| failed("naming its version", &e))?;
    let versions: Vec<_> = versions.into_iter().map(|(_, version)| version.build_number).collect();
    let machine = sha256(format!("{versions:?} {} {cpu:?}", cpu_name()?).as_bytes());
    let named = networks.into_iter().map(|network| {
        let (variant, onnx, floats) =
            (&variant.name, variant.network_hash(&network)?, floats.name());
        let (onnx, machine) = (&onnx[..onnx.len().min(12)], &machine[..12]);
        let name = format!("{variant}-{network}-{onnx}-openvino-{machine}-{floats}.compiled");
        Ok((network, name))
    });
    named.collect()
}
