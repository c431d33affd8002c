//! Work on several threads: torch's own OpenMP team where its runtime is to be had, else a pool of ours.
//!
//! OpenMP's idle threads spin for milliseconds after each operation of torch; a second pool has to share its cores with
//! them, which makes a scan after a convolution up to five times slower. In torch's team there is nobody to share with.

#[cfg(target_os = "linux")]
mod openmp;
mod pool;

use std::sync::{Mutex, PoisonError};

use crate::error::Result;
pub use pool::pool;

/// Calls `work` on every item on up to `num_threads` threads, this one included, in any order.
///
/// Panics of `work` reach the caller once all threads are done.
///
/// # Errors
/// [`crate::error::Error::Argument`] when the operating system refuses to start the threads.
pub fn for_each<I: Send>(
    num_threads: usize,
    items: impl ExactSizeIterator<Item = I> + Send,
    work: impl Fn(I) + Sync,
) -> Result<()> {
    let num_threads = num_threads.min(items.len());
    if num_threads < 2 {
        items.for_each(work);
        return Ok(());
    }
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    team(num_threads, &|| {
        while let Some(item) = next() {
            work(item);
        }
    })
}

/// Runs `member` on up to `num_threads` threads at once, at least on one.
fn team(num_threads: usize, member: &(impl Fn() + Sync)) -> Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(openmp) = openmp::Team::of_this_process() {
        openmp.run(num_threads, member);
        return Ok(());
    }
    pool(num_threads)?.broadcast(|_| member());
    Ok(())
}

/// Whose threads [`for_each`] uses in this process.
pub fn owner() -> &'static str {
    #[cfg(target_os = "linux")]
    if openmp::Team::of_this_process().is_some() {
        return "torch";
    }
    "own pool"
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn every_item_is_worked_on_once_by_any_number_of_threads() {
        for num_threads in [0, 1, 2, 3, 7] {
            let mut values = vec![0; 1000];
            for_each(num_threads, values.iter_mut().enumerate(), |(i, value)| *value += i).unwrap();
            assert!(values.into_iter().eq(0..1000));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_next_call_works() {
        for num_threads in [1, 3] {
            let call = || for_each(num_threads, 0..50, |i| assert!(i != 20, "item {i}"));
            let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            assert_eq!(payload.downcast_ref::<String>().unwrap(), "item 20");
            for_each(num_threads, 0..50, |_| {}).unwrap();
        }
    }
}
