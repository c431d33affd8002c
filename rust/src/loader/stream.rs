//! Threads that fill batches ahead of the consumer: one leads, the others share the slots of the batch in hand.
//!
//! The batch in hand is split into slots that the pool fills in any order; the leader passes whole batches on in
//! order through a bounded queue. Dropping the stream stops all threads within one picture.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::planner::Epoch;
use super::sample::{Made, Maker};
use super::{Shape, Target};
use crate::error::{Error, Result};

/// Finished batches that wait for the consumer.
const PREFETCH: usize = 2;

/// Pictures and targets, ready for the network.
#[derive(Debug)]
pub struct Batch {
    /// B * 3 * side * side bytes, planar RGB.
    pub images: Vec<u8>,
    /// Side of the pictures in pixels.
    pub side: usize,
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
    /// The epoch is over.
    Done,
}

/// The batches of one epoch, in order.
#[derive(Debug)]
pub struct BatchStream {
    receiver: Mutex<Receiver<Result<Batch>>>,
    stop: Arc<AtomicBool>,
}

impl BatchStream {
    /// Wait at most this long for the next batch.
    pub fn wait(&self, at_most: Duration) -> Running {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        match receiver.recv_timeout(at_most) {
            Ok(batch) => Running::Batch(Box::new(batch)),
            Err(RecvTimeoutError::Timeout) => Running::Waiting,
            Err(RecvTimeoutError::Disconnected) => Running::Done,
        }
    }

    /// Tell the threads to stop; batches that are ready can still be taken.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for BatchStream {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Start the threads of an epoch.
pub(super) fn start(
    maker: Arc<Maker>,
    epoch: Epoch,
    shape: Shape,
    first: usize,
    threads: usize,
) -> Result<BatchStream> {
    let refused = |e: String| Error::Argument(format!("cannot start {threads} loader threads: {e}"));
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|i| format!("mamba-yolo-loader-{i}"))
        .build()
        .map_err(|e| refused(e.to_string()))?;
    let (sender, receiver) = sync_channel(PREFETCH);
    let stop = Arc::new(AtomicBool::new(false));
    let filler = Filler { maker, epoch, shape, stop: Arc::clone(&stop), pool };
    std::thread::Builder::new()
        .name("mamba-yolo-loader".into())
        .spawn(move || filler.run(first, &sender))
        .map_err(|e| refused(e.to_string()))?;
    Ok(BatchStream { receiver: Mutex::new(receiver), stop })
}

struct Filler {
    maker: Arc<Maker>,
    epoch: Epoch,
    shape: Shape,
    stop: Arc<AtomicBool>,
    pool: ThreadPool,
}

impl Filler {
    fn run(&self, first: usize, sender: &SyncSender<Result<Batch>>) {
        let mut at = first;
        while at < self.epoch.len() && !self.stop.load(Ordering::Relaxed) {
            let end = (at + self.shape.batch_size).min(self.epoch.len());
            let Some(batch) = self.fill(at, end).transpose() else {
                return;
            };
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
            at = end;
        }
    }

    /// The batch of positions `at..end`, or none when told to stop.
    fn fill(&self, at: usize, end: usize) -> Result<Option<Batch>> {
        let side = self.epoch.side(at / self.shape.batch_size, self.shape.side);
        let slot_bytes = 3 * side * side;
        let mut images = Vec::new();
        images
            .try_reserve_exact((end - at) * slot_bytes)
            .map_err(|_| Error::Argument(format!("no memory for a batch of {} pictures", end - at)))?;
        images.resize((end - at) * slot_bytes, 0);
        let make = |(k, slot): (usize, &mut [u8])| {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let ticket = self.epoch.ticket(at + k);
            Some(self.maker.make(&ticket, side, slot).map(|made| (ticket.sample, made)))
        };
        let made: Vec<_> = self.pool.install(|| images.par_chunks_mut(slot_bytes).enumerate().map(make).collect());
        let Some(made) = made.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        made.into_iter().collect::<Result<Vec<_>>>().map(|made| Some(assemble(images, side, made)))
    }
}

fn assemble(images: Vec<u8>, side: usize, made: Vec<(usize, Made)>) -> Batch {
    let sample_index = made.iter().map(|(sample, _)| *sample as i64).collect();
    let letterbox = made.iter().map(|(_, made)| made.letterbox).collect();
    let counted = made.iter().enumerate();
    let batch_index = counted.flat_map(|(k, (_, made))| std::iter::repeat_n(k as i64, made.targets.len())).collect();
    let targets = made.into_iter().flat_map(|(_, made)| made.targets).collect();
    Batch { images, side, targets, batch_index, sample_index, letterbox }
}
