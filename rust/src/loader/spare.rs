//! Memory of dropped batches for the next ones: new pages cost a tenth of a picture's time.
//!
//! A batch that somebody still holds is never written to: its memory comes back when the last holder drops it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};

/// Buffers kept; the others go back to the system.
const MAX_SPARE: usize = 2;

/// Buffers that wait for the next batch.
#[derive(Debug, Default)]
pub(super) struct Spare<T>(Arc<Mutex<Vec<Vec<T>>>>);

/// Values of a batch, whose memory is used again once they are dropped.
#[derive(Debug)]
pub struct Lent<T> {
    values: Vec<T>,
    home: Spare<T>,
}

impl<T: Copy + Default> Spare<T> {
    /// So many values, whatever they are.
    pub(super) fn take(&self, length: usize) -> Result<Lent<T>> {
        let mut values = self.0.try_lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
        if values.capacity() < length {
            values = Vec::new();
        }
        values
            .try_reserve_exact(length.saturating_sub(values.len()))
            .map_err(|_| Error::Argument(format!("no memory for a batch of {length} values")))?;
        values.resize(length, T::default());
        Ok(Lent { values, home: Self(Arc::clone(&self.0)) })
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        // Not waiting: in a forked child nobody may be left to open the lock.
        if let Ok(mut spare) = self.home.0.try_lock()
            && spare.len() < MAX_SPARE
        {
            spare.push(std::mem::take(&mut self.values));
        }
    }
}

impl<T> Deref for Lent<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SPARE, Spare};

    #[test]
    fn memory_comes_back_when_it_is_dropped_and_not_before() {
        let spare = Spare::<u8>::default();
        let (mut held, dropped) = (spare.take(100).unwrap(), spare.take(100).unwrap());
        held.fill(7);
        let place = dropped.as_ptr();
        drop(dropped);
        let mut again = spare.take(90).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (place, 90));
        again.fill(9);
        assert!(held.iter().all(|&value| value == 7));
    }

    #[test]
    fn few_buffers_are_kept_and_none_that_is_too_small() {
        let spare = Spare::<f32>::default();
        drop((0..5).map(|_| spare.take(10).unwrap()).collect::<Vec<_>>());
        assert_eq!(spare.0.lock().unwrap().len(), MAX_SPARE);
        assert_eq!(spare.take(11).unwrap().len(), 11);
        drop(spare.take(usize::MAX).unwrap_err());
    }
}
