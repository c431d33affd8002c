//! Threads that fill batches ahead of the consumer: one leads, the others share the slots of the batch in hand.
//!
//! The batch in hand is split into slots that the pool fills in any order; the leader passes whole batches on in
//! order through a bounded queue. In training it goes on from epoch to epoch, so that the first batches of the next one
//! wait while the last of this one are in use. Dropping or stopping the stream stops all threads within one picture.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::guarded::guarded;
use super::planner::{Course, Epoch};
use super::sample::{Made, Maker};
use super::slots::{Lender, Slot, Source};
use super::spare::{Lent, Spare};
use super::{Settings, Target, Ticket};
use crate::augment::{MASK_STRIDE, draw_mask};
use crate::error::{Error, Result};

/// Finished batches that wait for the consumer.
const PREFETCH: usize = 2;

/// Planar RGB of a batch.
#[derive(Debug)]
pub enum Pixels {
    /// 0..=255.
    Bytes(Lent<u8>),
    /// 0..=1: the bytes divided by 255.
    Floats(Lent<f32>),
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
    /// One mask per box, (height / 4, width / 4) pixels of 0 and 1, where asked for.
    pub masks: Option<Lent<u8>>,
}

/// What a bounded wait found.
#[derive(Debug)]
pub enum Running {
    /// The next batch, or why it could not be made.
    Batch(Box<Result<Batch>>),
    /// Nothing yet.
    Waiting,
    /// Nothing comes any more: the end of validation, or the stream was stopped.
    Done,
}

type Batches = Receiver<Option<Result<Batch>>>;

/// The batches of one epoch after the other, in order; of one epoch alone for validation.
#[derive(Debug)]
pub struct BatchStream {
    receiver: Mutex<Option<Batches>>,
    lenders: Mutex<Option<(Lender<u8>, Lender<f32>)>>,
    stop: Arc<AtomicBool>,
    process: u32,
    most_values: usize,
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

    /// Hand in memory for one batch of bytes; batches take them in this order.
    ///
    /// # Errors
    /// [`Error::Argument`] when the stream has its own memory, makes other values, or was stopped.
    pub fn lend_bytes(&self, slot: Slot<u8>) -> Result<()> {
        self.lenders().as_ref().map_or_else(|| Err(stopped()), |(bytes, _)| bytes.lend(slot))
    }

    /// The same for a batch of numbers.
    ///
    /// # Errors
    /// As [`Self::lend_bytes`].
    pub fn lend_floats(&self, slot: Slot<f32>) -> Result<()> {
        self.lenders().as_ref().map_or_else(|| Err(stopped()), |(_, floats)| floats.lend(slot))
    }

    /// What the largest batch holds.
    pub fn most_values(&self) -> usize {
        self.most_values
    }

    /// Tell the threads to stop; a leader that waits for room in the queue or for a slot is released.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let receiver = self.lock().take();
        let lenders = self.lenders().take();
        if self.process != std::process::id() {
            // The threads live in the parent, and one of them may have held a queue's lock when we were forked.
            std::mem::forget((receiver, lenders));
        }
    }

    fn lenders(&self) -> MutexGuard<'_, Option<(Lender<u8>, Lender<f32>)>> {
        self.lenders.lock().unwrap_or_else(PoisonError::into_inner)
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

fn stopped() -> Error {
    Error::Argument("the stream was stopped".into())
}

/// Start the threads at an epoch and a position in it; where the consumer lends, batches wait for its slots.
pub(super) fn start(
    maker: Maker,
    course: Course,
    settings: Settings,
    (number, first): (u32, usize),
    threads: usize,
    lends: bool,
) -> Result<BatchStream> {
    let refused = |e: String| Error::Argument(format!("cannot start {threads} loader threads: {e}"));
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|i| format!("mamba-yolo-loader-{i}"))
        .build()
        .map_err(|e| refused(e.to_string()))?;
    let (sender, receiver) = sync_channel(PREFETCH);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let most_values = settings.batch_size * 3 * course.most_pixels(settings);
    // of the two kinds of values only one is ever asked for
    let ((bytes, lend_bytes), (floats, lend_floats)) =
        (Source::new(lends && !settings.as_floats), Source::new(lends && settings.as_floats));
    let filler = Filler { maker, course, settings, stop: stopped, pool, bytes, floats, masks: Spare::default() };
    std::thread::Builder::new()
        .name("mamba-yolo-loader".into())
        .spawn(move || filler.run(number, first, &sender))
        .map_err(|e| refused(e.to_string()))?;
    let lenders = Mutex::new(Some((lend_bytes, lend_floats)));
    let receiver = Mutex::new(Some(receiver));
    Ok(BatchStream { receiver, lenders, stop, process: std::process::id(), most_values })
}

struct Filler {
    maker: Maker,
    course: Course,
    settings: Settings,
    stop: Arc<AtomicBool>,
    pool: ThreadPool,
    bytes: Source<u8>,
    floats: Source<f32>,
    masks: Spare<u8>,
}

impl Filler {
    /// Send this rank's batches of every epoch, or of one for validation; then None.
    fn run(&self, number: u32, mut first: usize, sender: &SyncSender<Option<Result<Batch>>>) {
        let own = self.settings.rank * self.settings.batch_size;
        let has_batches = own < self.maker.index().paths.len();
        let last = if self.course.ranges.is_some() && has_batches { u32::MAX } else { number };
        for number in number..=last {
            let epoch = Epoch::new(&self.course, number, self.maker.index(), self.settings);
            for at in (first + own..epoch.len()).step_by(self.settings.batch_size * self.settings.world) {
                let end = (at + self.settings.batch_size).min(epoch.len());
                let Some(batch) = self.fill(&epoch, at..end).transpose() else {
                    return;
                };
                let failed = batch.is_err();
                if sender.send(Some(batch)).is_err() || failed {
                    return;
                }
            }
            first = 0;
        }
        let _nobody_listens = sender.send(None);
    }

    /// The batch of these positions, or none when told to stop.
    fn fill(&self, epoch: &Epoch, positions: Range<usize>) -> Result<Option<Batch>> {
        let size = epoch.batch_size_px(self.maker.index(), self.settings, positions.clone());
        let slot = 3 * size.0 * size.1;
        let at = positions.start;
        let count = positions.len();
        let (images, made) = if self.settings.as_floats {
            let mut images = self.floats.take(count * slot)?;
            let make = |bytes: &mut Vec<u8>, (k, out): (usize, &mut [f32])| {
                let made = self.make(&epoch.ticket(at + k), size, bytes);
                out.iter_mut().zip(bytes).for_each(|(out, &mut byte)| *out = f32::from(byte) / 255.0);
                made
            };
            let slots = images.par_chunks_mut(slot).enumerate();
            let made: Vec<_> = self.pool.install(|| slots.map_init(|| vec![0; slot], make).collect());
            (Pixels::Floats(images), made)
        } else {
            let mut images = self.bytes.take(count * slot)?;
            let slots = images.par_chunks_mut(slot).enumerate();
            let made =
                self.pool.install(|| slots.map(|(k, out)| self.make(&epoch.ticket(at + k), size, out)).collect());
            (Pixels::Bytes(images), made)
        };
        let Some(made) = made.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let mut batch = assemble(images, size, made.into_iter().collect::<Result<Vec<_>>>()?);
        if self.settings.masks {
            batch.masks = Some(self.draw(&batch.targets, size)?);
        }
        Ok(Some(batch))
    }

    /// Masks of all objects of a batch whose pictures have (height, width) pixels.
    fn draw(&self, targets: &[Target], size: (usize, usize)) -> Result<Lent<u8>> {
        let size = (size.0 / MASK_STRIDE, size.1 / MASK_STRIDE);
        let mut masks = self.masks.take(targets.len() * size.0 * size.1)?;
        let drawn = masks.par_chunks_mut(size.0 * size.1).zip(targets);
        self.pool.install(|| drawn.for_each(|(mask, target)| draw_mask(&target.rings, &target.above, size, mask)));
        Ok(masks)
    }

    /// Fill the slot of a ticket, or none when told to stop.
    fn make(&self, ticket: &Ticket, size: (usize, usize), slot: &mut [u8]) -> Option<Result<Made>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        Some(guarded(&self.maker.index().paths[ticket.sample], || self.maker.make(ticket, size, slot)))
    }
}

fn assemble(images: Pixels, size: (usize, usize), made: Vec<Made>) -> Batch {
    let sample_index = made.iter().map(|made| made.sample as i64).collect();
    let letterbox = made.iter().map(|made| made.letterbox).collect();
    let counted = made.iter().enumerate();
    let batch_index = counted.flat_map(|(k, made)| std::iter::repeat_n(k as i64, made.targets.len())).collect();
    let targets = made.into_iter().flat_map(|made| made.targets).collect();
    Batch { images, size, targets, batch_index, sample_index, letterbox, masks: None }
}
