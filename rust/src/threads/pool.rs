//! Our own threads: one pool per requested size, made on first use, rebuilt after a fork.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Pools by (process id, size): a forked child finds none of its parent's and builds its own.
type Pools = Mutex<HashMap<(u32, usize), Arc<ThreadPool>>>;

/// The pool of `num_threads` workers (0 counts as 1), shared by every kernel of this process.
///
/// # Errors
/// [`Error::Argument`] when the operating system refuses to start the threads.
pub fn pool(num_threads: usize) -> Result<Arc<ThreadPool>> {
    static POOLS: OnceLock<Pools> = OnceLock::new();
    let key = (std::process::id(), num_threads.max(1));
    let mut pools = POOLS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = pools.get(&key) {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(key.1)
        .thread_name(|i| format!("mamba-yolo-{i}"))
        .build()
        .map_err(|e| Error::Argument(format!("cannot start {} threads: {e}", key.1)))?;
    let pool = Arc::new(pool);
    pools.insert(key, Arc::clone(&pool));
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::pool;

    #[test]
    fn the_same_size_gives_the_same_pool() {
        let a = pool(2).unwrap();
        assert!(std::sync::Arc::ptr_eq(&a, &pool(2).unwrap()));
        assert_eq!(a.current_num_threads(), 2);
        assert_eq!(pool(0).unwrap().current_num_threads(), 1);
    }
}
