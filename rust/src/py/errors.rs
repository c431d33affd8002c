//! Crate errors as Python exceptions; `errors.py` of the package gives them their public types.

use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyValueError};

use crate::error::Error;

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Io { .. } | Error::Image { .. } => PyOSError::new_err(message),
            Error::Argument(_) => PyValueError::new_err(message),
        }
    }
}
