//! Memory that the consumer lends for batches, such as page-locked memory that a GPU reads. Each slot is filled once.

use std::ops::DerefMut;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use super::spare::{Lent, Spare};
use crate::error::{Error, Result};

/// Memory of the consumer for a batch.
pub type Slot<T> = Box<dyn DerefMut<Target = [T]> + Send + Sync>;

/// Where the memory of a stream's batches comes from.
#[derive(Debug)]
pub(super) enum Source<T> {
    /// Ours, again and again.
    Spare(Spare<T>),
    /// Slots, which are waited for.
    Slots(Mutex<Receiver<Slot<T>>>),
}

/// The way of slots to a source; none where the memory is the stream's own.
#[derive(Debug)]
pub(super) struct Lender<T>(Option<Sender<Slot<T>>>);

impl<T: Copy + Default> Source<T> {
    /// A source, and the way to it.
    pub(super) fn new(lends: bool) -> (Self, Lender<T>) {
        if !lends {
            return (Self::Spare(Spare::default()), Lender(None));
        }
        let (sender, slots) = channel();
        (Self::Slots(Mutex::new(slots)), Lender(Some(sender)))
    }

    /// So many values, whatever they are.
    pub(super) fn take(&self, length: usize) -> Result<Lent<T>> {
        match self {
            Self::Spare(spare) => spare.take(length),
            Self::Slots(slots) => {
                let slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                let slot = slots.recv().map_err(|_| Error::Argument("nobody lends a slot any more".into()))?;
                Lent::slot(slot, length)
            }
        }
    }
}

impl<T> Lender<T> {
    /// Hand in a slot; where all batches are made, it is dropped.
    pub(super) fn lend(&self, slot: Slot<T>) -> Result<()> {
        let refused =
            || Error::Argument("this stream takes no such slot: it has memory of its own or other values".into());
        let _nobody_needs_it = self.0.as_ref().ok_or_else(refused)?.send(slot);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn slots_are_filled_in_the_order_in_which_they_came() {
        let (source, lender) = Source::new(true);
        for room in [5u8, 7, 3] {
            lender.lend(Box::new(vec![room; room.into()])).unwrap();
        }
        assert_eq!([4, 7].map(|length| source.take(length).unwrap().to_vec()), [vec![5; 4], vec![7; 7]]);
        assert!(source.take(4).unwrap_err().to_string().contains("a slot of 3 values cannot hold a batch of 4"));
        drop(lender);
        assert!(source.take(1).unwrap_err().to_string().contains("nobody lends"));
    }

    #[test]
    fn a_source_of_its_own_takes_no_slots() {
        let (source, lender) = Source::<u8>::new(false);
        assert_eq!(source.take(3).unwrap().len(), 3);
        assert!(lender.lend(Box::new(vec![0; 3])).unwrap_err().to_string().contains("takes no such slot"));
        let (source, lender) = Source::<u8>::new(true);
        drop(source);
        lender.lend(Box::new(vec![0; 3])).unwrap();
    }
}
