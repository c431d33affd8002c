//! torch's OpenMP runtime, through the one entry point that GNU's and LLVM's share.
//!
//! torch puts its runtime into the process's global scope, so its symbol is found by name; without torch there is none.
#![expect(unsafe_code, reason = "calls a C library that is there or not at run time")]

use std::any::Any;
use std::ffi::{c_char, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

/// `GOMP_parallel(member, argument, number of threads, flags)`.
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The runtime of the process that found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Team {
    parallel: Parallel,
    process: u32,
}

impl Team {
    /// None before torch is loaded, and in a forked child, where its threads are gone.
    pub(super) fn of_this_process() -> Option<Self> {
        static TEAM: OnceLock<Team> = OnceLock::new();
        let team = match TEAM.get() {
            Some(team) => *team,
            None => *TEAM.get_or_init(find()?),
        };
        (team.process == std::process::id()).then_some(team)
    }

    /// Runs `member` on up to `num_threads` threads at once; panics with the first panic of a member.
    pub(super) fn run<F: Fn() + Sync>(self, num_threads: usize, member: &F) {
        let call = Call { member, panic: Mutex::new(None) };
        let argument = (&raw const call).cast_mut().cast();
        // SAFETY: the signature is that of the symbol's documentation; `call` outlives the region, which ends before
        // this returns, and members only share it.
        unsafe { (self.parallel)(enter::<F>, argument, num_threads as c_uint, 0) };
        if let Some(payload) = call.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }
}

struct Call<'a, F> {
    member: &'a F,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Entry of one thread; nothing may unwind into C.
extern "C" fn enter<F: Fn() + Sync>(argument: *mut c_void) {
    // SAFETY: `run` passes a Call of this very F.
    let call = unsafe { &*argument.cast::<Call<'_, F>>() };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(call.member)) {
        call.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
    }
}

/// Looks the symbol up in the global scope.
fn find() -> Option<impl FnOnce() -> Team> {
    // SAFETY: the null handle stands for the global scope; the name ends in a zero.
    let symbol = unsafe { dlsym(std::ptr::null_mut(), c"GOMP_parallel".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: every OpenMP runtime that exports this name gives it this signature.
    let parallel = unsafe { std::mem::transmute::<*mut c_void, Parallel>(symbol) };
    Some(move || Team { parallel, process: std::process::id() })
}
