//! Threads that fill batches ahead of the consumer: one leads, the others share the slots of the batch in hand.
//!
//! The batch in hand is split into slots that the pool fills in any order; the leader passes whole batches on in
//! order through a bounded queue. Dropping or stopping the stream stops all threads within one picture.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::planner::Epoch;
use super::sample::{Made, Maker};
use super::{Settings, Target};
use crate::error::{Error, Result};

/// Finished batches that wait for the consumer.
const PREFETCH: usize = 2;

/// Planar RGB of a batch.
#[derive(Debug)]
pub enum Pixels {
    /// 0..=255.
    Bytes(Vec<u8>),
    /// 0..=1: the bytes divided by 255.
    Floats(Vec<f32>),
}

/// Pictures and targets, ready for the network.
#[derive(Debug)]
pub struct Batch {
    /// B * 3 * height * width values.
    pub images: Pixels,
    /// (height, width).
    pub size: (usize, usize),
    /// Boxes of all pictures.
    pub targets: Vec<Target>,
    /// Which picture of the batch each box belongs to.
    pub batch_index: Vec<i64>,
    /// Which sample each picture is.
    pub sample_index: Vec<i64>,
    /// [gain, left, top] per picture.
    pub letterbox: Vec<[f32; 3]>,
}

/// What a bounded wait found.
#[derive(Debug)]
pub enum Running {
    /// The next batch, or why it could not be made.
    Batch(Box<Result<Batch>>),
    /// Nothing yet.
    Waiting,
    /// The epoch is over, or the stream was stopped.
    Done,
}

type Batches = Receiver<Option<Result<Batch>>>;

/// The batches of one epoch, in order.
#[derive(Debug)]
pub struct BatchStream {
    receiver: Mutex<Option<Batches>>,
    stop: Arc<AtomicBool>,
    process: u32,
}

impl BatchStream {
    /// Wait at most this long for the next batch.
    pub fn wait(&self, at_most: Duration) -> Running {
        let mut receiver = self.lock();
        let Some(batches) = receiver.as_ref() else { return Running::Done };
        match batches.recv_timeout(at_most) {
            Ok(Some(batch)) => Running::Batch(Box::new(batch)),
            Ok(None) => {
                *receiver = None;
                Running::Done
            }
            Err(RecvTimeoutError::Timeout) => Running::Waiting,
            Err(RecvTimeoutError::Disconnected) => {
                *receiver = None;
                Running::Batch(Box::new(Err(Error::Argument("the loader's threads ended too early".into()))))
            }
        }
    }

    /// Tell the threads to stop; a leader that waits for room in the queue is released.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let receiver = self.lock().take();
        if self.process != std::process::id() {
            // The threads live in the parent, and one of them may have held the queue's lock when we were forked.
            std::mem::forget(receiver);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Batches>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BatchStream {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Start the threads of an epoch at a position.
pub(super) fn start(
    maker: Maker,
    epoch: Epoch,
    settings: Settings,
    (first, threads): (usize, usize),
) -> Result<BatchStream> {
    let refused = |e: String| Error::Argument(format!("cannot start {threads} loader threads: {e}"));
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|i| format!("mamba-yolo-loader-{i}"))
        .build()
        .map_err(|e| refused(e.to_string()))?;
    let (sender, receiver) = sync_channel(PREFETCH);
    let stop = Arc::new(AtomicBool::new(false));
    let filler = Filler { maker, epoch, settings, stop: Arc::clone(&stop), pool };
    std::thread::Builder::new()
        .name("mamba-yolo-loader".into())
        .spawn(move || filler.run(first, &sender))
        .map_err(|e| refused(e.to_string()))?;
    Ok(BatchStream { receiver: Mutex::new(Some(receiver)), stop, process: std::process::id() })
}

struct Filler {
    maker: Maker,
    epoch: Epoch,
    settings: Settings,
    stop: Arc<AtomicBool>,
    pool: ThreadPool,
}

impl Filler {
    /// Send this rank's batches, then None.
    fn run(&self, first: usize, sender: &SyncSender<Option<Result<Batch>>>) {
        let starts = (first..self.epoch.len()).step_by(self.settings.batch_size);
        for at in starts.skip(self.settings.rank).step_by(self.settings.world) {
            let end = (at + self.settings.batch_size).min(self.epoch.len());
            let Some(batch) = self.fill(at..end).transpose() else {
                return;
            };
            let failed = batch.is_err();
            if sender.send(Some(batch)).is_err() || failed {
                return;
            }
        }
        let _nobody_listens = sender.send(None);
    }

    /// The batch of these positions, or none when told to stop.
    fn fill(&self, positions: Range<usize>) -> Result<Option<Batch>> {
        let size = self.epoch.batch_size_px(self.maker.index(), self.settings, positions.clone());
        let slot = 3 * size.0 * size.1;
        let at = positions.start;
        let count = positions.len();
        let (images, made) = if self.settings.as_floats {
            let mut images = allocate(count * slot, 0.0f32)?;
            let make = |bytes: &mut Vec<u8>, (k, out): (usize, &mut [f32])| {
                let made = self.make(at + k, size, bytes);
                out.iter_mut().zip(bytes).for_each(|(out, &mut byte)| *out = f32::from(byte) / 255.0);
                made
            };
            let slots = images.par_chunks_mut(slot).enumerate();
            let made: Vec<_> = self.pool.install(|| slots.map_init(|| vec![0; slot], make).collect());
            (Pixels::Floats(images), made)
        } else {
            let mut images = allocate(count * slot, 0u8)?;
            let slots = images.par_chunks_mut(slot).enumerate();
            let made = self.pool.install(|| slots.map(|(k, out)| self.make(at + k, size, out)).collect());
            (Pixels::Bytes(images), made)
        };
        let Some(made) = made.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        made.into_iter().collect::<Result<Vec<_>>>().map(|made| Some(assemble(images, size, made)))
    }

    /// Fill the slot of a position, or none when told to stop; a panic becomes an error with the file's name.
    fn make(&self, position: usize, size: (usize, usize), slot: &mut [u8]) -> Option<Result<Made>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let ticket = self.epoch.ticket(position);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.maker.make(&ticket, size, slot)));
        Some(outcome.unwrap_or_else(|panic| {
            let path = self.maker.index().paths[ticket.sample].display().to_string();
            Err(Error::Image { path, reason: format!("internal error in a loader thread: {}", words(&*panic)) })
        }))
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn allocate<T: Clone>(length: usize, value: T) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(length)
        .map_err(|_| Error::Argument(format!("no memory for a batch of {length} values")))?;
    values.resize(length, value);
    Ok(values)
}

fn assemble(images: Pixels, size: (usize, usize), made: Vec<Made>) -> Batch {
    let sample_index = made.iter().map(|made| made.sample as i64).collect();
    let letterbox = made.iter().map(|made| made.letterbox).collect();
    let counted = made.iter().enumerate();
    let batch_index = counted.flat_map(|(k, made)| std::iter::repeat_n(k as i64, made.targets.len())).collect();
    let targets = made.into_iter().flat_map(|made| made.targets).collect();
    Batch { images, size, targets, batch_index, sample_index, letterbox }
}
