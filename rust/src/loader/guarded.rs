//! A panic in a thread is an error that names the file, and not the end of the program.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, Result};

/// What `make` returns for a file; a panic becomes an error with the file's name.
pub(super) fn guarded<T>(file: &Path, make: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|panic| {
        let reason = format!("internal error in a loader thread: {}", words(&*panic));
        Err(Error::Image { path: file.display().to_string(), reason })
    })
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::guarded;
    use crate::error::Result;

    #[test]
    fn a_panic_in_a_thread_is_an_error_that_names_the_file() {
        for text in ["no such row", "row 7"] {
            let error = guarded(Path::new("a/b.jpg"), || -> Result<()> { panic!("{text}") }).unwrap_err().to_string();
            assert!(error.contains("a/b.jpg") && error.contains("internal error in a loader thread"), "{error}");
            assert!(error.contains(text), "{error}");
        }
        let error = guarded(Path::new("b.jpg"), || -> Result<()> { std::panic::panic_any(7) }).unwrap_err();
        assert!(error.to_string().contains("no message"), "{error}");
        assert_eq!(guarded(Path::new("c.jpg"), || Ok(3)).unwrap(), 3);
    }
}
