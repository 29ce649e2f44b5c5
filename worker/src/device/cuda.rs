//! Whether a CUDA device can be used, found out before any work begins: each thing that can be missing has its own
//! message.

#![expect(unsafe_code, reason = "calls of the driver and of NVRTC; each says why its arguments are valid")]

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};
use std::path::{Path, PathBuf};

/// Bytes that have to be free on a card: the driver's context alone takes some hundred MiB.
const LEAST_FREE: usize = 512 << 20;

/// Headers that kernels include.
const HEADERS: [&str; 4] = ["cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h", "mma.h"];

/// Why a device cannot be used, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// No driver.
    #[error(
        "there is no NVIDIA driver here (libcuda.so.1 is not found); install one, give the container the GPU \
         (`docker run --gpus all`), or use --device cpu"
    )]
    NoDriver,
    /// A driver that does not start.
    #[error("the NVIDIA driver does not start: {0}; `nvidia-smi` may say more")]
    Driver(String),
    /// A number beyond the last device.
    #[error("there is no CUDA device {number}; this machine has {count}, numbered from 0")]
    NoDevice {
        /// The number that was asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// The compiler of kernels is missing.
    #[error(
        "NVRTC, which compiles the kernels, is not found (libnvrtc.so); install the CUDA toolkit, or `pip install \
         nvidia-cuda-nvrtc` and put the folder of libnvrtc.so.* into LD_LIBRARY_PATH"
    )]
    NoNvrtc,
    /// The compiler of kernels does not work.
    #[error(
        "NVRTC {version} compiles nothing here: {log}; put the folder of libnvrtc-builtins.so.* into LD_LIBRARY_PATH"
    )]
    Nvrtc {
        /// Its version.
        version: String,
        /// What it says.
        log: String,
    },
    /// The headers of the kernels are missing.
    #[error(
        "the CUDA header {header} is not found in {folder}; install the CUDA toolkit (or `pip install \
         nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-crt`) and set CUDA_PATH to the folder that has include/"
    )]
    NoHeaders {
        /// The first that is missing.
        header: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A driver that does not take what NVRTC makes.
    #[error(
        "the driver is of CUDA {driver}, but NVRTC {nvrtc} compiles for newer ones; update the driver, or put an NVRTC \
         of CUDA {driver} or older into LD_LIBRARY_PATH"
    )]
    OldDriver {
        /// Of the driver.
        driver: String,
        /// Of the compiler.
        nvrtc: String,
    },
    /// A card that NVRTC does not compile for.
    #[error("{name} has compute capability {capability}; NVRTC {nvrtc} compiles for {least} and newer")]
    OldCard {
        /// Name of the card.
        name: String,
        /// Its capability.
        capability: String,
        /// Version of the compiler.
        nvrtc: String,
        /// The least capability that it knows.
        least: String,
    },
    /// Another process has the card for itself.
    #[error(
        "{name} is in use: another process has it for itself (compute mode EXCLUSIVE_PROCESS); `nvidia-smi` lists it"
    )]
    InUse {
        /// Name of the card.
        name: String,
    },
    /// Too little memory is left.
    #[error("{name} has {free} MiB of {total} MiB free, too little to begin; `nvidia-smi` lists who uses it")]
    NoMemory {
        /// Name of the card.
        name: String,
        /// MiB that are free.
        free: usize,
        /// MiB that it has.
        total: usize,
    },
}

/// A device that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Name of the card.
    pub name: String,
    /// Its compute capability, times ten.
    pub capability: i32,
    /// Bytes that are free.
    pub free: usize,
}

/// Looks at a device, the driver, NVRTC and the headers, and makes CubeCL keep what it compiles.
///
/// # Errors
/// Names the first thing that is missing.
pub fn ready(number: usize) -> Result<Ready, NotReady> {
    // SAFETY: loads libraries of NVIDIA by name, whose initialisers have no requirements.
    let (driver, nvrtc) = unsafe { (sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
    if !driver {
        return Err(NotReady::NoDriver);
    }
    let failed = |error: result::DriverError| NotReady::Driver(error.to_string());
    result::init().map_err(|error| match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => NotReady::NoDevice { number, count: 0 },
        _ => failed(error),
    })?;
    let count = usize::try_from(result::device::get_count().map_err(failed)?).unwrap_or(0);
    let ordinal = i32::try_from(number).ok().filter(|_| number < count).ok_or(NotReady::NoDevice { number, count })?;
    let device = result::device::get(ordinal).map_err(failed)?;
    let name = result::device::get_name(device).map_err(failed)?;
    if !nvrtc {
        return Err(NotReady::NoNvrtc);
    }
    headers(&folder())?;
    let attribute = |attribute| {
        // SAFETY: `device` was given by the driver.
        unsafe { result::device::get_attribute(device, attribute) }.map_err(failed)
    };
    let capability = 10 * attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?
        + attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let nvrtc = compiles_for(&name, capability)?;
    let free = free(device, &name)?;
    super::failure::watch();
    super::compiled::keep(&format!("sm_{capability}-nvrtc-{nvrtc}"));
    Ok(Ready { name, capability, free })
}

/// Where CubeCL looks for the toolkit's folder `include`.
fn folder() -> PathBuf {
    let usual = ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from);
    let named = std::env::var_os("CUDA_PATH").map(PathBuf::from);
    named.or_else(|| usual.into_iter().find(|path| path.exists())).unwrap_or_else(|| PathBuf::from("/usr/local/cuda"))
}

fn headers(folder: &Path) -> Result<(), NotReady> {
    let include = folder.join("include");
    match HEADERS.into_iter().find(|header| !include.join(header).is_file()) {
        Some(header) => Err(NotReady::NoHeaders { header, folder: include }),
        None => Ok(()),
    }
}

/// Whether what NVRTC makes runs under this driver and on this card; gives the version of NVRTC.
fn compiles_for(name: &str, capability: i32) -> Result<String, NotReady> {
    use cudarc::nvrtc::sys as nvrtc;
    let (mut driver, mut major, mut minor, mut count) = (0, 0, 0, 0);
    // SAFETY: both libraries are there, and each call writes one or two integers, to which the pointers lead.
    unsafe {
        sys::cuDriverGetVersion(&mut driver);
        nvrtc::nvrtcVersion(&mut major, &mut minor);
        nvrtc::nvrtcGetNumSupportedArchs(&mut count);
    }
    let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
    if !known.is_empty() {
        // SAFETY: it writes as many integers as it said just before.
        unsafe { nvrtc::nvrtcGetSupportedArchs(known.as_mut_ptr()) };
    }
    let compiler = format!("{major}.{minor}");
    if driver < 1000 * major + 10 * minor {
        let driver = format!("{}.{}", driver / 1000, driver % 1000 / 10);
        return Err(NotReady::OldDriver { driver, nvrtc: compiler });
    }
    match known.into_iter().min() {
        Some(least) if capability < least => {
            let [capability, least] = [capability, least].map(|tenths| format!("{}.{}", tenths / 10, tenths % 10));
            Err(NotReady::OldCard { name: name.to_owned(), capability, nvrtc: compiler, least })
        }
        _ => compiles_anything(&compiler).map(|()| compiler),
    }
}

/// Compiles next to nothing: NVRTC has a second library (`libnvrtc-builtins`), which it looks for only then.
fn compiles_anything(version: &str) -> Result<(), NotReady> {
    use cudarc::nvrtc::result;
    let broken = |log: String| NotReady::Nvrtc { version: version.to_owned(), log };
    let program =
        result::create_program(c"__global__ void nothing() {}", None).map_err(|error| broken(format!("{error:?}")))?;
    // SAFETY: the program was made just now, and is not used after it is destroyed.
    unsafe {
        let compiled = result::compile_program::<&str>(program, &[]);
        let log = result::get_program_log(program).unwrap_or_default();
        let log: Vec<u8> =
            log.into_iter().map(|letter| letter.cast_unsigned()).take_while(|&letter| letter != 0).collect();
        // Nothing is left to do where this fails.
        let _ = result::destroy_program(program);
        compiled.map_err(|_| broken(String::from_utf8_lossy(&log).trim().replace('\n', " ")))
    }
}

/// Bytes that are free on a device. Leaves its primary context retained and current, as CubeCL is about to.
fn free(device: sys::CUdevice, name: &str) -> Result<usize, NotReady> {
    // SAFETY: `device` was given by the driver, and the context by the call before.
    let asked = unsafe { result::primary_ctx::retain(device).and_then(|context| result::ctx::set_current(context)) };
    let mib = |bytes: usize| bytes >> 20;
    match asked.and_then(|()| result::mem_get_info()) {
        Ok((free, total)) if free < LEAST_FREE => {
            Err(NotReady::NoMemory { name: name.to_owned(), free: mib(free), total: mib(total) })
        }
        Ok((free, _)) => Ok(free),
        Err(error) => Err(match error.0 {
            CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => NotReady::InUse { name: name.to_owned() },
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => NotReady::NoMemory { name: name.to_owned(), free: 0, total: 0 },
            _ => NotReady::Driver(error.to_string()),
        }),
    }
}
