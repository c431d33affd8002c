//! Torch tensors as slices: on the CPU, of the expected type, copied only where they are not contiguous. Each question
//! to a tensor takes 50 ns, so few are asked; numpy arrays take longer than a small scan.
#![expect(unsafe_code, reason = "the memory is torch's")]

use std::ops::{Deref, DerefMut};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::Error;

/// Element types and their names in torch.
pub(super) trait Scalar: Copy + 'static {
    /// The name in torch.
    const NAME: &'static str;
    /// torch's object for it.
    fn dtype(py: Python<'_>) -> PyResult<&'static Py<PyAny>>;
}

macro_rules! scalar {
    ($type:ty, $name:literal) => {
        impl Scalar for $type {
            const NAME: &'static str = $name;
            fn dtype(py: Python<'_>) -> PyResult<&'static Py<PyAny>> {
                static DTYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                DTYPE.get_or_try_init(py, || py.import("torch")?.getattr($name).map(Bound::unbind))
            }
        }
    };
}
scalar!(f32, "float32");
scalar!(f64, "float64");
scalar!(i64, "int64");
scalar!(u8, "uint8");

/// Whether a tensor holds float64.
pub(super) fn is_float64(tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(tensor.getattr(intern!(tensor.py(), "dtype"))?.is(f64::dtype(tensor.py())?))
}

/// A tensor that is read; copied where its elements do not lie one after the other.
pub(super) struct Input<'py, T> {
    first: *const T,
    len: usize,
    /// Keeps the memory.
    tensor: Bound<'py, PyAny>,
}

/// A tensor that is written; made by the caller for this call, so that nothing else refers to its memory.
pub(super) struct Output<'py, T>(Input<'py, T>);

impl<'py, T: Scalar> FromPyObject<'_, 'py> for Input<'py, T> {
    type Error = PyErr;

    fn extract(tensor: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = tensor.py();
        let fits = tensor.getattr(intern!(py, "dtype"))?.is(T::dtype(py)?)
            && tensor.getattr(intern!(py, "is_cpu"))?.is_truthy()?;
        if !fits {
            return Err(unfit::<T>("a", tensor));
        }
        let tensor = tensor.call_method0(intern!(py, "contiguous"))?;
        let address: usize = tensor.call_method0(intern!(py, "data_ptr"))?.extract()?;
        let bytes: usize = tensor.getattr(intern!(py, "nbytes"))?.extract()?;
        Ok(Self { first: address as *const T, len: bytes / size_of::<T>(), tensor })
    }
}

impl<'py, T: Scalar> FromPyObject<'_, 'py> for Output<'py, T> {
    type Error = PyErr;

    fn extract(tensor: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let output = Self(tensor.extract()?);
        if output.0.tensor.is(tensor) { Ok(output) } else { Err(unfit::<T>("a contiguous", tensor)) }
    }
}

/// The error for a tensor of another kind.
fn unfit<T: Scalar>(kind: &str, tensor: Borrowed<'_, '_, PyAny>) -> PyErr {
    Error::Argument(format!("expected {kind} {} tensor on the CPU, got {:?}", T::NAME, &*tensor)).into()
}

impl<T> Deref for Input<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.len == 0 {
            return &[]; // torch gives no address for nothing
        }
        // SAFETY: a contiguous tensor of this type has `len` elements at its address, aligned by torch's allocator,
        // and is kept alive by `tensor`.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

impl<T> Deref for Output<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Output<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if self.0.len == 0 {
            return &mut [];
        }
        // SAFETY: as above, and the caller made the tensor for this call.
        unsafe { std::slice::from_raw_parts_mut(self.0.first.cast_mut(), self.0.len) }
    }
}
