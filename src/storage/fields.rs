//! Takes fixed-width little-endian numbers off the front of bytes that may be too short.

/// What is left of the bytes. Every method returns `None`, and takes nothing, when there are not enough.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// So many numbers, if that many are there: nothing is allocated for a count that cannot be true.
    pub(super) fn u64s(&mut self, count: u32) -> Option<impl Iterator<Item = u64> + use<'a>> {
        let (numbers, rest) = self.0.split_at_checked((count as usize).checked_mul(8)?)?;
        self.0 = rest;
        Some(numbers.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)))
    }
}
