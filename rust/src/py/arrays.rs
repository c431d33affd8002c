//! Numpy arrays on memory that the loader uses again once the last array or tensor on it is gone, and slots: arrays of
//! Python that the loader fills.
#![expect(unsafe_code, reason = "numpy writes to memory that is ours, and we to memory that is numpy's")]

use std::ops::{Deref, DerefMut};
use std::slice::{from_raw_parts, from_raw_parts_mut};

use numpy::ndarray::ArrayView4;
use numpy::{Element, PyArray1, PyArray4, PyArrayMethods};
use pyo3::prelude::*;

use crate::loader::{Lent, Pixels, Slot};

/// The values of an array, which lives as long.
struct Borrowed<T> {
    first: *mut T,
    length: usize,
    _array: Py<PyArray1<T>>,
}

// SAFETY: the values are plain numbers, the array is not looked at, and `lend` demands that nobody else uses them.
unsafe impl<T: Send> Send for Borrowed<T> {}
// SAFETY: a shared `Borrowed` gives shared access to its values alone.
unsafe impl<T: Sync> Sync for Borrowed<T> {}

impl<T> Deref for Borrowed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `slot_of` saw a contiguous array of so many values, which we keep alive.
        unsafe { from_raw_parts(self.first, self.length) }
    }
}

impl<T> DerefMut for Borrowed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; it was writable, and `lend` demands that nobody else uses it.
        unsafe { from_raw_parts_mut(self.first, self.length) }
    }
}

/// A flat, contiguous, writable array of this type as memory for a batch.
pub(super) fn slot_of<T: Element + Send + Sync + 'static>(array: &Bound<'_, PyAny>) -> Option<Slot<T>> {
    let array = array.cast::<PyArray1<T>>().ok()?;
    let (first, length) = {
        let mut values = array.try_readwrite().ok()?;
        let values = values.as_slice_mut().ok()?;
        (values.as_mut_ptr(), values.len())
    };
    Some(Box::new(Borrowed { first, length, _array: array.clone().unbind() }))
}

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
