//! Pictures for Python: decode, sizes, letterbox.

// Values taken over from Python arrive by value.
#![allow(clippy::needless_pass_by_value)]

use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray3, PyArrayMethods, PyReadonlyArray3};
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::error::Error;
use crate::image::{self, Image, Letterbox, Options, View};
use crate::threads;

type Pixels<'py> = Bound<'py, PyArray3<u8>>;

fn to_array(py: Python<'_>, image: Image) -> PyResult<Pixels<'_>> {
    image.pixels.into_pyarray(py).reshape([image.height, image.width, 3])
}

/// Decode a file to (H, W, 3) RGB.
#[pyfunction]
pub(super) fn decode_file(py: Python<'_>, path: PathBuf, apply_exif: bool, strict: bool) -> PyResult<Pixels<'_>> {
    let options = Options { apply_exif, strict };
    let image = py.detach(|| image::decode_file(&path, options))?;
    to_array(py, image)
}

/// Decode a file's bytes to (H, W, 3) RGB.
#[pyfunction]
pub(super) fn decode_bytes<'py>(py: Python<'py>, data: &[u8], apply_exif: bool, strict: bool) -> PyResult<Pixels<'py>> {
    let options = Options { apply_exif, strict };
    let image = py.detach(|| image::decode_bytes(data, "<bytes>", options))?;
    to_array(py, image)
}

/// (height, width) of each upright picture from its header, or the reason why there is none.
#[pyfunction]
pub(super) fn image_sizes(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    num_threads: usize,
) -> PyResult<Vec<(usize, usize, Option<String>)>> {
    let look = |path: &PathBuf| match image::size_of_file(path) {
        Ok((height, width)) => (height, width, None),
        Err(error) => (0, 0, Some(error.to_string())),
    };
    Ok(py.detach(|| threads::pool(num_threads).map(|pool| pool.install(|| paths.par_iter().map(look).collect())))?)
}

/// Letterbox (H, W, 3) into (3, height, width); with it the gain and the left and top padding.
#[pyfunction]
pub(super) fn letterbox<'py>(
    py: Python<'py>,
    pixels: PyReadonlyArray3<'py, u8>,
    height: usize,
    width: usize,
    scale_up: bool,
) -> PyResult<(Pixels<'py>, f64, usize, usize)> {
    let array = pixels.as_array();
    let (rows, columns, channels) = array.dim();
    if channels != 3 || rows == 0 || columns == 0 {
        let message = format!("image must have shape (H, W, 3) with H, W > 0, got ({rows}, {columns}, {channels})");
        return Err(Error::Argument(message).into());
    }
    let contiguous = array.as_standard_layout(); // a copy only where rows are not in order
    let refused = || Error::Argument("the picture's pixels cannot be put in order".into());
    let image = View { height: rows, width: columns, pixels: contiguous.as_slice().ok_or_else(refused)? };
    let (fit, out) = py.detach(|| {
        let fit = Letterbox::fit((image.height, image.width), (height, width), scale_up);
        let mut out = vec![0; 3 * height * width];
        image::letterbox_into(image, (height, width), fit, &mut out);
        (fit, out)
    });
    Ok((out.into_pyarray(py).reshape([3, height, width])?, fit.gain, fit.left, fit.top))
}
