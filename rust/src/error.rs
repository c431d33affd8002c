//! The one error type of the crate; every message carries the value that was wrong.

/// What can go wrong below Python.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument outside its domain: which one, what was expected, what came.
    #[error("{0}")]
    Argument(String),
    /// An image that cannot be decoded: file (or "bytes") and reason.
    #[error("{path}: {reason}")]
    Image {
        /// The file, or `<bytes>`.
        path: String,
        /// Why it could not be decoded.
        reason: String,
    },
    /// The operating system refused: which file, and its word.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors unless an input has the length its shape asks for.
pub(crate) fn expect_len(name: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::Argument(format!("{name} must have {expected} elements, got {len}")))
}
