//! VMN and PMN as TensorRT engines.

#![allow(unsafe_code, reason = "TensorRT takes addresses of device memory")]

use std::ffi::c_void;

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use trtx::trtx_sys::Dims64;
use trtx::{CudaEngine, DataType, ExecutionContext, Runtime};

use super::engine::{CHUNK, ErrorLog};
use crate::crop::CROP;
use crate::error::{Error, Result};
use crate::face::LANDMARKS;

/// An engine, loaded and ready to run.
pub(super) struct Opened {
    // The engine must be dropped before its runtime.
    engine: CudaEngine<'static>,
    _runtime: Runtime<'static>,
}

impl Opened {
    /// Loads an engine. Needs the GPU for which it was built.
    pub(super) fn new(bytes: &[u8]) -> Result<Self> {
        let errors = ErrorLog::get()?;
        let _turn = errors.begin();
        let open = || {
            let mut runtime = Runtime::new(errors.logger())?;
            let engine = runtime.deserialize_cuda_engine(bytes)?;
            Ok(Self { engine, _runtime: runtime })
        };
        open()
            .map_err(|e| Error::Library(format!("TensorRT cannot use it: {}", errors.explain(&e))))
    }

    /// Type and shape of an input or output.
    fn tensor(&self, name: &str) -> Result<(DataType, Vec<i64>)> {
        let found = || Ok((self.engine.tensor_data_type(name)?, self.engine.tensor_shape(name)?));
        found().map_err(|e: trtx::Error| {
            Error::Library(format!("an engine has no tensor {name:?} ({e}); is it one of ours?"))
        })
    }

    /// Checks that the tensor has one of the types, and the shape after the batch dimension (0
    /// stands for any size). Returns its type and last dimension.
    fn expect(&self, name: &str, types: &[DataType], shape: &[i64]) -> Result<(DataType, i64)> {
        let (found, dimensions) = self.tensor(name)?;
        let fits = dimensions.len() == shape.len() + 1
            && dimensions.iter().skip(1).zip(shape).all(|(d, s)| (*s == 0 && *d > 0) || d == s);
        if fits && types.contains(&found) {
            return Ok((found, dimensions.last().copied().unwrap_or_default()));
        }
        Err(Error::Library(format!("an engine's {name} is {found:?} {dimensions:?}: not ours")))
    }

    fn context(&mut self) -> Result<ExecutionContext<'static>> {
        let errors = ErrorLog::get()?;
        let _turn = errors.begin();
        create(&mut self.engine).map_err(|e| {
            Error::Gpu(format!("TensorRT cannot start an engine: {}", errors.explain(&e)))
        })
    }
}

/// With the eager strategy, kernels for a batch size are compiled when that size is first seen;
/// they must not be compiled while a graph is captured or replayed.
#[cfg(not(feature = "tensorrt-enterprise"))]
fn create(engine: &mut CudaEngine<'static>) -> trtx::Result<ExecutionContext<'static>> {
    let mut config = engine.create_runtime_config()?;
    config.set_dynamic_shapes_kernel_specialization_strategy(
        trtx::DynamicShapesKernelSpecializationStrategy::kEAGER,
    );
    engine.create_execution_context_with_config(std::rc::Rc::new(config))
}

#[cfg(feature = "tensorrt-enterprise")]
fn create(engine: &mut CudaEngine<'static>) -> trtx::Result<ExecutionContext<'static>> {
    engine.create_execution_context()
}

/// VMN and PMN, ready to run: TensorRT's, or a stand-in for tests.
pub(super) trait Networks {
    /// Sizes of their outputs.
    ///
    /// # Errors
    /// [`Error::Library`] if inputs or outputs are not as expected.
    fn sizes(&self) -> Result<Sizes>;

    /// Makes the execution contexts for one slot.
    ///
    /// # Errors
    /// [`Error::Gpu`] if they cannot be created.
    fn contexts(&mut self) -> Result<Box<dyn Contexts>>;
}

/// The execution contexts of one slot.
pub(super) trait Contexts {
    /// Queues both networks for a batch of crops, chunk by chunk.
    ///
    /// # Safety
    /// The addresses must be device memory that lives until the stream has done this work: crops of
    /// the whole batch, features of one chunk, a block of results for each chunk. The stream must
    /// be alive, and the CUDA context that they belong to must be current.
    ///
    /// # Errors
    /// [`Error::Gpu`].
    unsafe fn enqueue(
        &mut self,
        sizes: &Sizes,
        batch: usize,
        memory: [CUdeviceptr; 3],
        stream: CUstream,
    ) -> Result<()>;
}

/// Both networks as TensorRT engines.
pub(super) struct Pair {
    /// u8 [N, 3, 256, 256] → features [N, 64, 64, 64].
    pub vmn: Opened,
    /// Features → pose [N, 7], identity, expression, presence [N, 1], optionally points [N, 68, 2];
    /// all f32.
    pub pmn: Opened,
}

/// Sizes of the networks' outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Size of the features of one chunk in bytes.
    pub features: usize,
    /// Number of identity parameters.
    pub identity: usize,
    /// Number of expression parameters.
    pub expression: usize,
    /// Number of coordinates of the points; 0 if the PMN has no such output.
    pub points: usize,
}

/// Alignment of addresses in bytes that TensorRT requires.
const ALIGNED: usize = 256;

impl Sizes {
    /// Where the outputs of one chunk lie in its block of the results: name, offset in bytes, and
    /// number of floats per face.
    pub(super) fn outputs(&self) -> [(&'static str, usize, usize); 5] {
        let mut offset = 0;
        let Self { identity, expression, points, .. } = *self;
        [
            ("pose", 7),
            ("presence", 1),
            ("identity", identity),
            ("expression", expression),
            ("points", points),
        ]
        .map(|(name, count)| {
            let at = offset;
            offset += (CHUNK * count * 4).next_multiple_of(ALIGNED);
            (name, at, count)
        })
    }

    /// Size of the results of one chunk in bytes.
    pub(super) fn block(&self) -> usize {
        let [.., (_, offset, count)] = self.outputs();
        offset + (CHUNK * count * 4).next_multiple_of(ALIGNED)
    }
}

/// Size of one crop in bytes.
pub(super) const CROP_BYTES: usize = 3 * CROP * CROP;

impl Networks for Pair {
    fn sizes(&self) -> Result<Sizes> {
        let side = CROP as i64;
        self.vmn.expect("image", &[DataType::kUINT8], &[3, side, side])?;
        let float = [DataType::kFLOAT];
        let either = [DataType::kFLOAT, DataType::kHALF];
        let (features, _) = self.vmn.expect("features", &either, &[64, 64, 64])?;
        self.pmn.expect("features", &[features], &[64, 64, 64])?;
        self.pmn.expect("pose", &float, &[7])?;
        self.pmn.expect("presence", &float, &[1])?;
        let (_, identity) = self.pmn.expect("identity", &float, &[0])?;
        let (_, expression) = self.pmn.expect("expression", &float, &[0])?;
        let points = if self.pmn.tensor("points").is_ok() {
            self.pmn.expect("points", &float, &[LANDMARKS as i64, 2])?;
            2 * LANDMARKS
        } else {
            0
        };
        let each = if features == DataType::kHALF { 2 } else { 4 };
        let count = |n: i64| usize::try_from(n).unwrap_or_default();
        Ok(Sizes {
            features: CHUNK * 64 * 64 * 64 * each,
            identity: count(identity),
            expression: count(expression),
            points,
        })
    }

    fn contexts(&mut self) -> Result<Box<dyn Contexts>> {
        Ok(Box::new(Running { vmn: self.vmn.context()?, pmn: self.pmn.context()? }))
    }
}

/// Execution contexts of one slot.
struct Running {
    vmn: ExecutionContext<'static>,
    pmn: ExecutionContext<'static>,
}

impl Contexts for Running {
    unsafe fn enqueue(
        &mut self,
        sizes: &Sizes,
        batch: usize,
        [crops, features, results]: [CUdeviceptr; 3],
        stream: CUstream,
    ) -> Result<()> {
        let at = |base: CUdeviceptr, offset: usize| (base + offset as CUdeviceptr) as *mut c_void;
        let mut queue = |chunk: usize, first: usize| -> trtx::Result<()> {
            let count = (batch - first).min(CHUNK) as i64;
            let image = Dims64::from_slice(&[count, 3, CROP as i64, CROP as i64]);
            self.vmn.set_input_shape("image", &image)?;
            self.pmn.set_input_shape("features", &Dims64::from_slice(&[count, 64, 64, 64]))?;
            // SAFETY: as promised by the caller; the offsets are within the sizes given by `Sizes`.
            unsafe {
                self.vmn.set_tensor_address("image", at(crops, first * CROP_BYTES))?;
                self.vmn.set_tensor_address("features", at(features, 0))?;
                self.pmn.set_tensor_address("features", at(features, 0))?;
                for (name, offset, _) in sizes.outputs().into_iter().filter(|o| o.2 > 0) {
                    self.pmn
                        .set_tensor_address(name, at(results, chunk * sizes.block() + offset))?;
                }
                self.vmn.enqueue_v3(stream.cast())?;
                self.pmn.enqueue_v3(stream.cast())
            }
        };
        (0..batch)
            .step_by(CHUNK)
            .enumerate()
            .try_for_each(|(chunk, first)| queue(chunk, first))
            .map_err(|e| Error::Gpu(format!("TensorRT cannot queue a batch: {e}")))
    }
}
