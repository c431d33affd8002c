//! Which vector level the kernels use: the best the machine has, or the one `MAMBA_YOLO_CPU` names.

use std::env;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Environment variable that forces a level.
pub const VARIABLE: &str = "MAMBA_YOLO_CPU";

/// A vector instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What every machine has; no fused multiply-add.
    Scalar,
    /// Plain arrays, which is what 64-bit ARM runs too, left to the compiler for AVX-512; for tests and benches.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, VL, DQ, BW.
    Avx512,
    /// 64-bit ARM.
    Neon,
}

impl Level {
    /// All levels, slowest first.
    pub const ALL: [Self; 5] = [Self::Scalar, Self::Portable, Self::Avx2, Self::Avx512, Self::Neon];

    /// The name used in `MAMBA_YOLO_CPU` and by `doctor`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// Whether this machine runs it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Portable | Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Portable | Self::Avx2 | Self::Avx512 => false,
        }
    }
}

/// The level of this process, decided on first use.
///
/// # Errors
/// [`Error::Argument`] when `MAMBA_YOLO_CPU` names a level that is unknown or not available here.
pub fn level() -> Result<Level> {
    static LEVEL: OnceLock<std::result::Result<Level, String>> = OnceLock::new();
    LEVEL.get_or_init(|| choose(env::var(VARIABLE).ok().as_deref())).clone().map_err(Error::Argument)
}

/// The forced level, or the best available.
fn choose(forced: Option<&str>) -> std::result::Result<Level, String> {
    let available = || Level::ALL.into_iter().filter(|l| l.is_available());
    match forced {
        None | Some("" | "auto") => Ok(available().next_back().unwrap_or(Level::Scalar)),
        Some(name) => available().find(|l| l.name() == name).ok_or_else(|| {
            let names: Vec<_> = available().map(Level::name).collect();
            format!("{VARIABLE}={name} is not available on this machine; use auto or one of {}", names.join(", "))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_forced_by_name_and_unknown_names_are_refused() {
        assert_eq!(choose(Some("scalar")), Ok(Level::Scalar));
        assert_eq!(choose(Some("auto")), choose(None));
        assert!(choose(Some("sse9")).unwrap_err().contains("MAMBA_YOLO_CPU=sse9"));
    }
}
