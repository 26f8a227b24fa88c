//! Journal records: one group's changes as bytes, and how a record is told from anything else.
//!
//! A record is `[payload length u32][payload CRC32C u32][kind u32][header CRC32C u32]`, then the payload, filled up to a
//! multiple of 8 bytes; integers are little-endian. The header's checksum begins with the number and the salt of the
//! segment and the offset of the record: bytes that lay there in an earlier life of the file, or were copied there,
//! are no record. The salt is random, so that nobody can send a message whose content imitates one.

use super::super::rows::Reach;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 16;

/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

/// Bytes of the record that ends a segment.
pub(super) const END_BYTES: usize = HEADER_BYTES + 16;

/// Bytes of a record without changes.
pub(super) const MARK_BYTES: usize = HEADER_BYTES;

/// On disk: never renumbered.
const GROUP: u32 = 1;
const END: u32 = 2;

/// What a segment's checksums begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed {
    /// The number of the segment.
    pub number: u64,
    /// Random.
    pub salt: u64,
}

impl Seed {
    /// The place of a byte of this segment.
    pub(super) fn at(self, offset: usize) -> Reach {
        Reach { segment: self.number, byte: offset as u64 }
    }

    fn checksum(self, offset: usize, header: &[u8]) -> u32 {
        let mut seeded = [0; 24];
        seeded[..8].copy_from_slice(&self.number.to_le_bytes());
        seeded[8..16].copy_from_slice(&self.salt.to_le_bytes());
        seeded[16..].copy_from_slice(&(offset as u64).to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&seeded), header)
    }
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// The changes of a group; without any it only marks that what lies before it was on stable storage.
    Group(&'a [u8]),
    /// The segment goes no further.
    End(Next),
}

/// Where it goes on after a segment has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The number of the slot.
    pub slot: u32,
    /// The salt of the segment.
    pub salt: u64,
}

impl Next {
    /// The seed of the segment that follows one.
    pub(super) fn seed_after(self, ended: Seed) -> Seed {
        Seed { number: ended.number + 1, salt: self.salt }
    }
}

/// Begins a record in `out`: its payload is to be appended.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; HEADER_BYTES]);
}

/// How many bytes a record takes whose payload has so many.
pub(super) fn length(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

/// Makes `out` the record of a group, which is to lie at `offset`. Its payload is below 4 GiB.
pub(super) fn finish_group(out: &mut Vec<u8>, seed: Seed, offset: usize) {
    finish(out, GROUP, seed, offset);
}

/// Writes the record that ends a segment into `out`.
pub(super) fn write_end(out: &mut Vec<u8>, seed: Seed, offset: usize, next: Next) {
    begin(out);
    out.extend_from_slice(&u64::from(next.slot).to_le_bytes());
    out.extend_from_slice(&next.salt.to_le_bytes());
    finish(out, END, seed, offset);
}

fn finish(out: &mut Vec<u8>, kind: u32, seed: Seed, offset: usize) {
    let payload = &out[HEADER_BYTES..];
    let (length, crc) = (payload.len() as u32, crc32c::crc32c(payload));
    out[0..4].copy_from_slice(&length.to_le_bytes());
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out[8..12].copy_from_slice(&kind.to_le_bytes());
    let crc = seed.checksum(offset, &out[..12]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// The record at `offset` of a segment and where the next one begins; `None` when there is no whole, sound record.
pub(super) fn read(segment: &[u8], seed: Seed, offset: usize) -> Option<(Record<'_>, usize)> {
    let header = segment.get(offset..)?.first_chunk::<HEADER_BYTES>()?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if word(12) != seed.checksum(offset, &header[..12]) {
        return None;
    }
    let start = offset + HEADER_BYTES;
    let end = start.checked_add(word(0) as usize)?;
    let payload = segment.get(start..end)?;
    if word(4) != crc32c::crc32c(payload) {
        return None;
    }
    let record = match word(8) {
        GROUP => Record::Group(payload),
        END => {
            let (slot, salt) = payload.split_first_chunk()?;
            let slot = u64::from_le_bytes(*slot).try_into().ok()?;
            Record::End(Next { slot, salt: u64::from_le_bytes(salt.try_into().ok()?) })
        }
        _ => return None,
    };
    Some((record, end.next_multiple_of(ALIGNMENT)))
}

/// Whether there is a sound record anywhere from `offset` on.
pub(super) fn any_from(segment: &[u8], seed: Seed, offset: usize) -> bool {
    (offset..segment.len()).step_by(ALIGNMENT).any(|offset| read(segment, seed, offset).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed { number: 7, salt: 99 };

    const PAYLOAD: [u8; 53] = [0xA5; 53];

    fn written(offset: usize) -> Vec<u8> {
        let mut bytes = vec![0; offset];
        let mut record = Vec::new();
        begin(&mut record);
        record.extend_from_slice(&PAYLOAD);
        finish_group(&mut record, SEED, offset);
        assert_eq!(record.len(), length(PAYLOAD.len()));
        bytes.extend(record);
        bytes
    }

    #[test]
    fn a_group_comes_back_as_it_was_written() {
        let bytes = written(24);
        let Some((Record::Group(payload), next)) = read(&bytes, SEED, 24) else { panic!("a group") };
        assert_eq!(next, bytes.len());
        assert_eq!(payload, PAYLOAD);
        let mut end = Vec::new();
        write_end(&mut end, SEED, 0, Next { slot: 3, salt: 5 });
        assert_eq!(read(&end, SEED, 0), Some((Record::End(Next { slot: 3, salt: 5 }), END_BYTES)));
    }

    #[test]
    fn a_record_of_another_segment_salt_or_offset_is_none() {
        let bytes = written(24);
        assert!(read(&bytes, Seed { number: 8, ..SEED }, 24).is_none());
        assert!(read(&bytes, Seed { salt: 98, ..SEED }, 24).is_none());
        assert!(read(&bytes[8..], SEED, 16).is_none());
        assert!(read(&[0; 64], SEED, 0).is_none(), "zeros are no record");
    }

    #[test]
    fn any_flipped_bit_that_matters_and_any_missing_byte_makes_it_none() {
        let bytes = written(24);
        for bit in 24 * 8..(24 + HEADER_BYTES + PAYLOAD.len()) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, SEED, 24).is_none(), "bit {bit}");
        }
        for length in 0..24 + HEADER_BYTES + PAYLOAD.len() {
            assert!(read(&bytes[..length], SEED, 24).is_none(), "{length} bytes");
        }
    }
}
