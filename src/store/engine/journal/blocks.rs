//! Whole blocks around what is written: only such go to the disk past the system's cache, which takes less processor time
//! and comes back sooner. The block that a write ends in is written again by the next one, with the same bytes in front.

use super::super::files::{BLOCK_BYTES, block_start};

/// The block that the next write goes on in.
pub(super) struct Blocks {
    /// What is written of it.
    begun: Vec<u8>,
    /// Room for a write, behind what it takes to get to where a block may begin in memory.
    buffer: Vec<u8>,
}

impl Blocks {
    /// Goes on in a block of which this is written.
    pub(super) fn behind(begun: Vec<u8>) -> Blocks {
        Blocks { begun, buffer: Vec::new() }
    }

    /// Whole blocks in which `bytes` follow what was written, up to `offset`, of a file of `length`; where they go, and they.
    /// What follows in the last one is zeros. A file that ends within a block ends them, too, but never `bytes`.
    pub(super) fn around(&mut self, offset: usize, bytes: &[u8], length: usize) -> (usize, &[u8]) {
        debug_assert_eq!(self.begun.len(), offset % BLOCK_BYTES, "writes follow each other");
        let start = offset - self.begun.len();
        let wanted = offset + bytes.len();
        let end = wanted.next_multiple_of(BLOCK_BYTES).min(length).max(wanted);
        let needed = end - start + BLOCK_BYTES;
        if self.buffer.len() < needed {
            self.buffer = vec![0; needed.next_power_of_two()];
        }
        let before = block_start(&self.buffer);
        let blocks = &mut self.buffer[before..before + end - start];
        let (written, rest) = blocks.split_at_mut(wanted - start);
        let (begun, new) = written.split_at_mut(self.begun.len());
        begun.copy_from_slice(&self.begun);
        new.copy_from_slice(bytes);
        rest.fill(0);
        self.begun.clear();
        self.begun.extend_from_slice(&written[written.len() - wanted % BLOCK_BYTES..]);
        (start, blocks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_the_lengths_the_file_is_what_was_written_one_after_the_other(
            written in 0usize..10_000,
            writes in proptest::collection::vec(1usize..20_000, 1..12),
            room in 0usize..50_000,
        ) {
            let mut wanted: Vec<u8> = (0..written).map(|at| at as u8).collect();
            let mut file = wanted.clone();
            file.resize(written + room, 0xff);
            let length = file.len();
            let mut blocks = Blocks::behind(wanted[written - written % BLOCK_BYTES..].to_vec());
            for (number, count) in writes.into_iter().enumerate() {
                let bytes = vec![number as u8 + 1; count];
                let (at, whole) = blocks.around(wanted.len(), &bytes, length);
                prop_assert_eq!(at % BLOCK_BYTES, 0);
                prop_assert_eq!(whole.as_ptr().addr() % BLOCK_BYTES, 0);
                wanted.extend(bytes);
                let end = at + whole.len();
                prop_assert!(end % BLOCK_BYTES == 0 && end <= length || end == length.max(wanted.len()));
                file.resize(file.len().max(end), 0xff);
                file[at..end].copy_from_slice(whole);
                prop_assert!(file[..wanted.len()] == wanted);
                prop_assert!(file[wanted.len()..end].iter().all(|byte| *byte == 0));
            }
        }
    }
}
