//! The only rooms that name pyo3: checks, conversions and the export list. No arithmetic here.

mod errors;
mod image;
mod loader;

use pyo3::prelude::*;

/// What Python may call, in one list.
#[pymodule]
#[allow(clippy::unnecessary_wraps)] // the macro asks for a result
mod _rust {
    use pyo3::prelude::*;

    /// True for an unoptimised build: importing it warns and benches refuse it.
    #[pymodule_export]
    const DEBUG_BUILD: bool = cfg!(debug_assertions);

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use super::image::{decode_bytes, decode_file, image_sizes, letterbox};

    #[pymodule_export]
    use super::loader::{PyBatchStream, PyPipeline};

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        Ok(())
    }
}
