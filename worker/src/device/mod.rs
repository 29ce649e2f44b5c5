//! Where a worker computes.

#[cfg(feature = "cuda")]
mod compiled;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod failure;

use std::fmt;
use std::str::FromStr;

/// A device as named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The best that this build and this machine have.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
    /// A WGPU device, for tests of the GPU path without CUDA.
    Wgpu,
}

/// A text that names no device, or one that this build does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not a device.
    #[error("`{0}` is not a device; use auto, cpu or cuda:N")]
    Unknown(String),
    /// Not in this build.
    #[error(
        "this build has no {backend}; build with `cargo build --release --features {backend}`, or use --device cpu"
    )]
    NotBuilt {
        /// The feature that is missing.
        backend: &'static str,
    },
    /// In this build, but not to be used on this machine.
    #[cfg(feature = "cuda")]
    #[error("cuda:{number}: {why}")]
    NotReady {
        /// The device.
        number: usize,
        /// What is missing.
        why: cuda::NotReady,
    },
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "wgpu" => Ok(Self::Wgpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl Device {
    /// The device that is used: `auto` is the processor, which every build has.
    ///
    /// # Errors
    /// When this build does not have it, or it cannot be used on this machine.
    pub fn resolve(self) -> Result<Self, DeviceError> {
        match self {
            Self::Auto => Ok(Self::Cpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => match cuda::ready(number) {
                Ok(_) => Ok(self),
                Err(why) => Err(DeviceError::NotReady { number, why }),
            },
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DeviceError::NotBuilt { backend: "cuda" }),
            Self::Wgpu if !cfg!(feature = "wgpu") => Err(DeviceError::NotBuilt { backend: "wgpu" }),
            device => Ok(device),
        }
    }

    /// Element of convolutions where a specification leaves it open: bf16 where the card's matrix units take it, which
    /// came with compute capability 8.0.
    pub fn precision(self) -> &'static str {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(number) if cuda::ready(number).is_ok_and(|ready| ready.capability >= 80) => "bf16",
            _ => "f32",
        }
    }

    /// Name of the backend, as runs and workers state it.
    pub fn backend(self) -> &'static str {
        match self {
            Self::Auto | Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Wgpu => "wgpu",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_name() {
        assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
        assert!("cuda:x".parse::<Device>().is_err() && "gpu".parse::<Device>().is_err());
        assert_eq!(Device::Auto.resolve(), Ok(Device::Cpu));
        if !cfg!(feature = "cuda") {
            assert!(Device::Cuda(0).resolve().expect_err("not built").to_string().contains("--features cuda"));
        }
    }
}
