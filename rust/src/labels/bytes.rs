//! Numbers to bytes and back, little-endian, for the cache file.

/// Reads what `put` wrote; none past the end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A list of values of four bytes each.
    pub(super) fn list<const N: usize>(&mut self) -> Option<Vec<[f32; N]>> {
        let count = self.u32()? as usize;
        if count.checked_mul(4 * N)? > self.0.len() {
            return None;
        }
        (0..count)
            .map(|_| {
                let mut row = [0.0; N];
                for value in &mut row {
                    *value = f32::from_le_bytes(self.bytes()?);
                }
                Some(row)
            })
            .collect()
    }

    /// A text.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&(value as u32).to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_list<const N: usize>(out: &mut Vec<u8>, rows: &[[f32; N]]) {
    put_u32(out, rows.len());
    rows.iter().flatten().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len());
    out.extend_from_slice(text.as_bytes());
}
