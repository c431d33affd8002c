//! Bits of an entropy-coded segment, and Huffman codes (ITU T.81, C and F.2.2).
//!
//! The stuffed zeros are taken out in bulk first, so that a refill is one eight-byte load. Reading past the end gives
//! zeros and is noticed at the end of a row of blocks.

/// Bits looked at in one step; nearly every code with its value fits.
const PEEK: u32 = 11;
/// Longest code.
const MAX_CODE: usize = 16;
/// Steps of `PEEK` bits that a refill lasts for.
const FAST_STEPS: usize = 5;
/// Run of the end of a block.
const END: usize = 128;
/// Room for a block's coefficients, and for what lies behind them.
pub(super) const BLOCK: usize = 128;
/// Zeros behind the data, so that refills never reach past the buffer.
const PADDING: usize = 64;

/// Positions of the coefficients in the order of the file.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// The same for all that a run can lead to: behind the block is one place for it all.
const PLACES: [u8; 256] = {
    let mut places = [64; 256];
    let mut at = 0;
    while at < 64 {
        places[at] = ZIGZAG[at];
        at += 1;
    }
    places
};

/// Put the entropy-coded bytes into `clean` without their stuffing; how many bytes of the file they took.
pub(super) fn unstuff(bytes: &[u8], clean: &mut Vec<u8>) -> usize {
    clean.clear();
    clean.reserve(bytes.len() + PADDING);
    let mut at = 0;
    loop {
        let (words, _) = bytes[at..].as_chunks::<8>();
        let plain = words.iter().take_while(|word| !has_ff(u64::from_ne_bytes(**word))).count() * 8;
        clean.extend_from_slice(&bytes[at..at + plain]);
        at += plain;
        let rest = &bytes[at..];
        let run = rest.iter().take(8).position(|&b| b == 0xFF).unwrap_or(rest.len().min(8));
        clean.extend_from_slice(&rest[..run]);
        at += run;
        match bytes[at..] {
            [0xFF, 0, ..] => {
                clean.push(0xFF);
                at += 2;
            }
            [0xFF, ..] | [] => break,
            _ => {}
        }
    }
    clean.resize(clean.len() + PADDING, 0);
    at
}

fn has_ff(word: u64) -> bool {
    let inverted = !word; // a byte FF is now zero
    inverted.wrapping_sub(0x0101_0101_0101_0101) & !inverted & 0x8080_8080_8080_8080 != 0
}

/// Reads bits, the highest first. Copied into registers for a block, and back.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// Over the bytes that `unstuff` gave.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, count: 0 }
    }

    /// Whether more bits were taken than there are.
    pub(super) fn is_past_end(&self) -> bool {
        self.at * 8 > (self.bytes.len() - PADDING) * 8 + self.count as usize
    }

    /// Make at least 56 bits available.
    #[inline(always)]
    fn refill(&mut self) {
        let word = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>).copied().unwrap_or_default();
        self.buffer |= u64::from_be_bytes(word) >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 0b11_1000;
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// The next 1 to 16 bits as the difference they code (T.81, table F.1 and F.2).
    #[inline(always)]
    fn extended(&mut self, size: u32) -> i32 {
        let value = (self.buffer >> 1 >> (63 - size)) as i32;
        self.skip(size);
        if value < 1 << size >> 1 { value - (1 << size) + 1 } else { value }
    }

    /// One code: its symbol, or none for a code that the table does not have.
    #[inline(always)]
    fn symbol(&mut self, table: &Table) -> Option<u8> {
        let code = table.codes[(self.buffer >> (64 - PEEK)) as usize];
        if code != 0 {
            self.skip(u32::from(code & 0xFF));
            return Some((code >> 8) as u8);
        }
        let (symbol, length) = table.long_code((self.buffer >> 48) as u32)?;
        self.skip(length);
        Some(symbol)
    }

    /// The next coefficients into `block`, in the order of the file from place `at` on, to the end of the block; the
    /// place behind the last one that was read, or none for what no encoder writes.
    #[inline(always)]
    pub(super) fn coefficients(&mut self, table: &Table, block: &mut [i16; BLOCK], mut at: usize) -> Option<usize> {
        loop {
            self.refill();
            for _ in 0..FAST_STEPS {
                let fast = table.fast[(self.buffer >> (64 - PEEK)) as usize];
                let (run, value) = if fast != 0 {
                    self.skip(fast & 0xFF);
                    ((fast >> 8 & 0xFF) as usize, (fast >> 16) as i16)
                } else {
                    self.refill();
                    let step = self.long_coefficient(table)?;
                    self.refill();
                    step
                };
                let place = at + run;
                block[usize::from(PLACES[place & 0xFF]) & (BLOCK - 1)] = value;
                if place >= 63 {
                    // 64 and more: a run leads out of the block, if this is not the end of the block
                    return (place == 63 || run == END).then_some(at);
                }
                at = place + 1;
            }
        }
    }

    /// (zeros before it, value) of a coefficient that is not in the fast table; (15, 0) for sixteen zeros.
    #[inline(always)]
    fn long_coefficient(&mut self, table: &Table) -> Option<(usize, i16)> {
        let symbol = self.symbol(table)?;
        match (usize::from(symbol >> 4), u32::from(symbol & 15)) {
            (0, 0) => Some((END, 0)),
            (15, 0) => Some((15, 0)),
            (_, 0) => None,
            (run, size) => Some((run, self.extended(size) as i16)),
        }
    }

    /// The next difference of a DC coefficient; the table's symbols are sizes.
    #[inline(always)]
    pub(super) fn difference(&mut self, table: &Table) -> Option<i32> {
        self.refill();
        let fast = table.fast[(self.buffer >> (64 - PEEK)) as usize];
        if fast != 0 {
            self.skip(fast & 0xFF);
            return Some(fast as i32 >> 16);
        }
        let size = self.symbol(table)?;
        Some(if size == 0 { 0 } else { self.extended(u32::from(size)) })
    }
}

/// A Huffman table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// By the next bits, where a code and its value lie within them: value << 16 | run << 8 | bits; else 0. The run of
    /// the end of a block is `END`.
    fast: Box<[u32; 1 << PEEK]>,
    /// By the next bits, where a code lies within them: symbol << 8 | bits; else 0.
    codes: Box<[u16; 1 << PEEK]>,
    /// Per length: the first code that is too large for it.
    ends: [u32; MAX_CODE + 1],
    /// Per length: from a code to its index in `symbols`.
    shifts: [i32; MAX_CODE + 1],
    symbols: Vec<u8>,
}

impl Table {
    /// From the counts per length and the symbols of a DHT segment; none where they do not form a code.
    pub(super) fn new(counts: &[u8; MAX_CODE], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: Box::new([0; 1 << PEEK]),
            codes: Box::new([0; 1 << PEEK]),
            ends: [0; MAX_CODE + 1],
            shifts: [0; MAX_CODE + 1],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=MAX_CODE {
            table.shifts[length] = index as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                table.note(code, length as u32, *symbols.get(index)?);
                code += 1;
                index += 1;
            }
            if code >= 1 << length {
                return None; // more codes than bits allow, or the all-ones code
            }
            table.ends[length] = code;
            code <<= 1;
        }
        Some(table)
    }

    /// (symbol, bits) of a code that is longer than the peek, by the next 16 bits.
    #[cold]
    fn long_code(&self, peeked: u32) -> Option<(u8, u32)> {
        let length = (PEEK as usize + 1..=MAX_CODE).find(|&l| peeked >> (MAX_CODE - l) < self.ends[l])?;
        let index = (peeked >> (MAX_CODE - length)) as i32 + self.shifts[length];
        Some((*self.symbols.get(index as usize)?, length as u32))
    }

    /// Fill the entries of all peeks that begin with a code.
    fn note(&mut self, code: u32, length: u32, symbol: u8) {
        if length > PEEK || code >= 1 << length {
            return;
        }
        let free = PEEK - length;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        for rest in 0..1u32 << free {
            let at = (code << free | rest) as usize;
            self.codes[at] = u16::from(symbol) << 8 | length as u16;
            if symbol == 0 {
                self.fast[at] = (END as u32) << 8 | length;
            } else if size > 0 && size <= free {
                let bits = (rest >> (free - size)) as i32;
                let value = if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits };
                self.fast[at] = (value as u32) << 16 | run << 8 | (length + size);
            }
        }
    }
}
