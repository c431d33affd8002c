//! Memory of dropped batches for the next ones: new pages cost a tenth of a picture's time.
//!
//! A batch that somebody still holds is never written to: its memory comes back when the last holder drops it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use super::slots::Slot;
use crate::error::{Error, Result};

/// Buffers kept; the others go back to the system.
const MAX_SPARE: usize = 2;

/// Buffers that wait for the next batch.
#[derive(Debug, Default)]
pub(super) struct Spare<T>(Arc<Mutex<Vec<Vec<T>>>>);

/// Values of a batch; memory that is ours is used again once they are dropped.
#[derive(Debug)]
pub struct Lent<T>(Memory<T>);

enum Memory<T> {
    Ours(Vec<T>, Spare<T>),
    Slot(Slot<T>, usize),
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
        Ok(Lent(Memory::Ours(values, Self(Arc::clone(&self.0)))))
    }
}

impl<T> Lent<T> {
    /// The first values of a slot, if it has so many.
    pub(super) fn slot(slot: Slot<T>, length: usize) -> Result<Self> {
        let room = slot.len();
        if room < length {
            return Err(Error::Argument(format!("a slot of {room} values cannot hold a batch of {length}")));
        }
        Ok(Self(Memory::Slot(slot, length)))
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        // Not waiting: in a forked child nobody may be left to open the lock.
        if let Self::Ours(values, home) = self
            && let Ok(mut spare) = home.0.try_lock()
            && spare.len() < MAX_SPARE
        {
            spare.push(std::mem::take(values));
        }
    }
}

impl<T> Deref for Lent<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Memory::Ours(values, _) => values,
            Memory::Slot(slot, length) => &slot[..*length],
        }
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Memory::Ours(values, _) => values,
            Memory::Slot(slot, length) => &mut slot[..*length],
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Memory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(values, _) => write!(f, "{} values", values.len()),
            Self::Slot(_, length) => write!(f, "{length} values in a slot"),
        }
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
