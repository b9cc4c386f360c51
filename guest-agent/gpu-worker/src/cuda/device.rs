//! The first GPU, one stream of it, and memory on it: all that this crate asks of the driver.
//!
//! **Rules.** A device address leaves [`Memory`] only as an argument of a kernel, and memory outlives what is launched on it because
//! `cuMemFree` waits for the device. No host memory is pinned or mapped: a confidential guest's is copied through bounce buffers by
//! the driver. What a kernel writes where is its caller's to get right; no kernel can write to the host.

#![expect(unsafe_code, reason = "functions of the CUDA driver, through cudarc")]

use std::ffi::{CString, c_void};
use std::mem::size_of_val;

use cudarc::driver::{DriverError, result, sys};

use super::CudaError;

/// What a step cost: for tests, and for whoever measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs)]
pub struct Counters {
    pub copies_in: u64,
    pub copies_out: u64,
    pub synchronisations: u64,
    pub launches: u64,
    pub graph_launches: u64,
    pub captures: u64,
}

/// The GPU with its stream.
pub struct Device {
    context: sys::CUcontext,
    stream: sys::CUstream,
    name: String,
    counters: std::cell::Cell<Counters>,
}

// SAFETY: contexts and streams are the driver's handles, which any thread may use once the context is current, which `enter` sees to;
// a device and what belongs to it move to another thread together, as parts of one decoder.
unsafe impl Send for Device {}

/// Memory of the device, which is freed with the value.
pub struct Memory {
    address: sys::CUdeviceptr,
    bytes: usize,
}

/// A kernel.
#[derive(Clone, Copy)]
pub struct Function(sys::CUfunction);

// SAFETY: as for `Device`.
unsafe impl Send for Function {}

/// Launches that were captured.
pub struct Graph(sys::CUgraphExec);

// SAFETY: as for `Device`.
unsafe impl Send for Graph {}

/// An argument of a kernel, in the lowest bytes of eight.
#[derive(Clone, Copy)]
pub struct Argument(u64);

impl From<u32> for Argument {
    fn from(number: u32) -> Self {
        Argument(number.into())
    }
}
impl From<u64> for Argument {
    fn from(number: u64) -> Self {
        Argument(number)
    }
}
impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Argument(number.to_bits().into())
    }
}
impl From<&Memory> for Argument {
    fn from(memory: &Memory) -> Self {
        Argument(memory.address)
    }
}
impl From<Option<&Memory>> for Argument {
    fn from(memory: Option<&Memory>) -> Self {
        Argument(memory.map_or(0, |memory| memory.address))
    }
}

impl Device {
    /// GPU 0, which must be the only one.
    pub fn open() -> Result<Self, CudaError> {
        // SAFETY: opens NVIDIA's `libcuda` if the system's loader finds it, as any use of CUDA does. cudarc would panic without it.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoDriver);
        }
        result::init().map_err(failed("cuInit"))?;
        let count = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
        if count != 1 {
            return Err(CudaError::Count(count));
        }
        let device = result::device::get(0).map_err(failed("cuDeviceGet"))?;
        let name = result::device::get_name(device).map_err(failed("cuDeviceGetName"))?;
        // SAFETY: the device is that of the line above; it stays retained for the life of the process.
        let context = unsafe { result::primary_ctx::retain(device) };
        let context = context.map_err(failed("cuDevicePrimaryCtxRetain"))?;
        // SAFETY: the context is that of the line above.
        unsafe { result::ctx::set_current(context) }.map_err(failed("cuCtxSetCurrent"))?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Device {
            context,
            stream: stream.map_err(failed("cuStreamCreate"))?,
            name,
            counters: Default::default(),
        })
    }

    /// What the driver calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was counted since it was opened.
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    fn count(&self, add: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        add(&mut counters);
        self.counters.set(counters);
    }

    /// Makes this thread the device's: before a step, which may be taken by another thread than the last.
    pub fn enter(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained for the life of the process.
        unsafe { result::ctx::set_current(self.context) }.map_err(failed("cuCtxSetCurrent"))
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> Result<u64, CudaError> {
        let (free, _) = result::mem_get_info().map_err(failed("cuMemGetInfo"))?;
        Ok(free as u64)
    }

    /// The kernels of `names` in a cubin.
    pub fn functions(
        &self,
        cubin: &[u8],
        names: &[&'static str],
    ) -> Result<Vec<Function>, CudaError> {
        // SAFETY: an image of the driver's format says its own length; what is none is refused by the driver. The module is never
        // unloaded, so its functions stay.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) };
        let module = module.map_err(failed("cuModuleLoadData"))?;
        let find = |name: &&'static str| {
            let text = CString::new(*name).map_err(|_| CudaError::Kernel(name))?;
            // SAFETY: the module was loaded above.
            let function = unsafe { result::module::get_function(module, text) };
            function.map(Function).map_err(|_| CudaError::Kernel(name))
        };
        names.iter().map(find).collect()
    }

    /// Zeros.
    pub fn zeros(&self, bytes: usize) -> Result<Memory, CudaError> {
        let size = bytes.max(16);
        // SAFETY: `Memory` frees it once.
        let address = unsafe { result::malloc_sync(size) }.map_err(failed("cuMemAlloc"))?;
        let memory = Memory {
            address,
            bytes: size,
        };
        // SAFETY: so many bytes are there. The stream orders it before all that is launched.
        unsafe { result::memset_d8_async(address, 0, size, self.stream) }
            .map_err(failed("cuMemsetD8Async"))?;
        Ok(memory)
    }

    /// Copies `numbers` to byte `at` of `memory`.
    pub fn copy_in<T: Copy>(
        &self,
        memory: &Memory,
        at: usize,
        numbers: &[T],
    ) -> Result<(), CudaError> {
        let bytes = size_of_val(numbers);
        memory.check(at, bytes)?;
        self.count(|all| all.copies_in += 1);
        // SAFETY: the range lies in `memory`. Of pageable memory the driver takes a copy before it returns.
        let copied =
            unsafe { result::memcpy_htod_async(memory.address + at as u64, numbers, self.stream) };
        copied.map_err(failed("cuMemcpyHtoDAsync"))
    }

    /// Copies from the beginning of `memory`, and waits for all that was launched before.
    pub fn copy_out<T: Copy>(&self, memory: &Memory, numbers: &mut [T]) -> Result<(), CudaError> {
        memory.check(0, size_of_val(numbers))?;
        self.count(|all| all.copies_out += 1);
        // SAFETY: the range lies in `memory`, and `numbers` is borrowed until the wait below. `T` is a plain number.
        unsafe { result::memcpy_dtoh_async(numbers, memory.address, self.stream) }
            .map_err(failed("cuMemcpyDtoHAsync"))?;
        self.wait()
    }

    /// Waits for all that was launched.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.count(|all| all.synchronisations += 1);
        // SAFETY: the stream is this device's.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("cuStreamSynchronize"))
    }

    /// Launches a kernel on `grid` blocks of `threads` threads. The arguments are those of its declaration, in order.
    pub fn launch(
        &self,
        function: Function,
        grid: [usize; 3],
        threads: usize,
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        let mut slots: Vec<u64> = arguments.iter().map(|argument| argument.0).collect();
        let mut places: Vec<*mut c_void> = slots
            .iter_mut()
            .map(|slot| std::ptr::from_mut(slot).cast())
            .collect();
        let size = |count: usize| u32::try_from(count).map_err(|_| CudaError::Grid);
        let grid = (size(grid[0])?, size(grid[1])?, size(grid[2])?);
        self.count(|all| all.launches += 1);
        // SAFETY: each place has eight bytes, of which the driver reads the lowest: as many as the cubin says that the argument has.
        let launched = unsafe {
            result::launch_kernel(
                function.0,
                grid,
                (size(threads)?, 1, 1),
                0,
                self.stream,
                &mut places,
            )
        };
        launched.map_err(failed("cuLaunchKernel"))
    }

    /// What `record` launches, as a graph; nothing of it runs.
    pub fn capture(
        &self,
        record: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<Graph, CudaError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.count(|all| all.captures += 1);
        // SAFETY: the stream is this device's and is not capturing: each capture ends below.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(failed("cuStreamBeginCapture"))?;
        let recorded = record();
        // SAFETY: it began above.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        recorded?;
        let graph = graph.map_err(failed("cuStreamEndCapture"))?;
        // SAFETY: the graph is that of the line above; what is instantiated does not need it any more.
        let made = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: as above, and used once.
        unsafe { result::graph::destroy(graph) }.map_err(failed("cuGraphDestroy"))?;
        made.map(Graph).map_err(failed("cuGraphInstantiate"))
    }

    /// Launches a graph.
    pub fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        self.count(|all| all.graph_launches += 1);
        // SAFETY: graph and stream are this device's, and the memory that it names stays: both belong to one decoder.
        unsafe { result::graph::launch(graph.0, self.stream) }.map_err(failed("cuGraphLaunch"))
    }
}

impl Memory {
    /// The address of byte `at`, for a kernel.
    pub fn at(&self, at: usize) -> Argument {
        Argument(self.address + at as u64)
    }

    fn check(&self, at: usize, bytes: usize) -> Result<(), CudaError> {
        let end = at.checked_add(bytes).filter(|end| *end <= self.bytes);
        end.map(|_| ()).ok_or(CudaError::Range)
    }
}

impl Argument {
    /// Its eight bytes, for a struct in memory.
    pub fn word(self) -> u64 {
        self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeros`, freed once. That a driver which has failed frees nothing is of no use to anybody.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `capture`, destroyed once.
        let _ = unsafe { result::graph::exec_destroy(self.0) };
    }
}

fn failed(call: &'static str) -> impl FnOnce(DriverError) -> CudaError {
    move |error| CudaError::Call {
        call,
        code: error.0 as u32,
    }
}
