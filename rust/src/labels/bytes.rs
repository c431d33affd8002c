//! Numbers to bytes and back, little-endian, for the cache file.

/// A number of `N` bytes.
pub(super) trait Number<const N: usize>: Copy {
    /// To bytes.
    fn to(self) -> [u8; N];
    /// From bytes.
    fn from(bytes: [u8; N]) -> Self;
}

macro_rules! number {
    ($($kind:ty: $size:literal),*) => {$(
        impl Number<$size> for $kind {
            fn to(self) -> [u8; $size] {
                self.to_le_bytes()
            }
            fn from(bytes: [u8; $size]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}
number!(u32: 4, f32: 4, u64: 8, i64: 8);

/// Reads what `put` wrote; none past the end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// One number.
    pub(super) fn number<T: Number<N>, const N: usize>(&mut self) -> Option<T> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(T::from(*first))
    }

    /// So many bytes.
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    /// A list of numbers.
    pub(super) fn list<T: Number<N>, const N: usize>(&mut self) -> Option<Vec<T>> {
        let count = self.number::<u32, 4>()? as usize;
        let bytes = self.take(count.checked_mul(N)?)?;
        Some(bytes.as_chunks::<N>().0.iter().map(|&chunk| T::from(chunk)).collect())
    }

    /// A list of rows of `M` numbers.
    pub(super) fn rows<T: Number<N>, const N: usize, const M: usize>(&mut self) -> Option<Vec<[T; M]>> {
        let numbers = self.list::<T, N>()?;
        let (rows, []) = numbers.as_chunks::<M>() else { return None };
        Some(rows.to_vec())
    }

    /// A text.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.number::<u32, 4>()? as usize;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

/// One number.
pub(super) fn put<T: Number<N>, const N: usize>(out: &mut Vec<u8>, number: T) {
    out.extend_from_slice(&number.to());
}

/// A list of numbers, its length first.
pub(super) fn put_list<T: Number<N>, const N: usize>(out: &mut Vec<u8>, numbers: &[T]) {
    put(out, numbers.len() as u32);
    numbers.iter().for_each(|&number| put(out, number));
}

/// A text, its length first.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
}
