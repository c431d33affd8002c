//! Large buffers kept between calls: fresh ones cost more in page faults than the arithmetic on them.

use std::sync::{MutexGuard, PoisonError};

use crate::simd::Float;

/// Bytes kept per type; what is more goes back to the system.
const KEPT_BYTES: usize = 64 << 20;

/// A buffer of `len` values, whatever they are.
pub(crate) fn take<T: Float>(len: usize) -> Vec<T> {
    let mut kept = lock::<T>();
    let fit = kept.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= len);
    let best = fit.min_by_key(|(_, buffer)| buffer.capacity()).map(|(i, _)| i);
    let mut buffer = best.map(|i| kept.swap_remove(i)).unwrap_or_default();
    drop(kept);
    buffer.resize(len, T::ZERO);
    buffer
}

/// Keeps a buffer for later.
pub(crate) fn give<T: Float>(buffer: Vec<T>) {
    let mut kept = lock::<T>();
    let held: usize = kept.iter().map(Vec::capacity).sum();
    if (held + buffer.capacity()) * size_of::<T>() <= KEPT_BYTES {
        kept.push(buffer);
    }
}

fn lock<T: Float>() -> MutexGuard<'static, Vec<Vec<T>>> {
    T::kept().lock().unwrap_or_else(PoisonError::into_inner)
}
