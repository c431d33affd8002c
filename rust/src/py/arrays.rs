//! Numpy arrays on memory that the loader uses again once the last array or tensor on it is gone.
#![expect(unsafe_code, reason = "numpy writes to memory that is ours")]

use numpy::ndarray::ArrayView4;
use numpy::{Element, PyArray4};
use pyo3::prelude::*;

use crate::loader::{Lent, Pixels};

/// Holds the memory of an array, which numpy drops with it.
#[pyclass(frozen)]
struct Held {
    _pixels: Pixels,
}

/// The pixels of a batch in this shape.
pub(super) fn to_array(py: Python<'_>, mut pixels: Pixels, shape: [usize; 4]) -> PyResult<Bound<'_, PyAny>> {
    match &mut pixels {
        Pixels::Bytes(values) => {
            let first = start(values, shape);
            on_memory(py, first, shape, pixels)
        }
        Pixels::Floats(values) => {
            let first = start(values, shape);
            on_memory(py, first, shape, pixels)
        }
    }
}

fn start<T>(values: &mut Lent<T>, shape: [usize; 4]) -> *mut T {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "a batch of another shape");
    values.as_mut_ptr()
}

fn on_memory<T: Element>(
    py: Python<'_>,
    first: *mut T,
    shape: [usize; 4],
    pixels: Pixels,
) -> PyResult<Bound<'_, PyAny>> {
    let held = Bound::new(py, Held { _pixels: pixels })?.into_any();
    // SAFETY: `start` saw as many values there as the shape says. They are on the heap, neither moved nor looked at while
    // `held` lives, which the array keeps.
    Ok(unsafe { PyArray4::borrow_from_array(&ArrayView4::from_shape_ptr(shape, first), held) }.into_any())
}
