//! What each message of a run carries in its content, so that every one can be accounted for.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The shortest content a message of a run can have, in bytes.
pub const MIN_BYTES: usize = 28;

/// Tells the messages of one run from those of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Whose run it belongs to.
    pub run: RunId,
    /// The pair whose sender sent it.
    pub pair: u32,
    /// The sender's own count, from 0.
    pub counter: u64,
    /// When it was meant to be sent, by the generator's clock. Later than that is a delay like any other.
    pub intended: Duration,
}

impl Label {
    /// A content of `size` bytes, at least [`MIN_BYTES`], that starts with the label.
    #[must_use]
    pub fn to_content(self, size: usize) -> Bytes {
        let mut content = BytesMut::with_capacity(size.max(MIN_BYTES));
        content.put_u64(self.run.0);
        content.put_u32(self.pair);
        content.put_u64(self.counter);
        content.put_u64(u64::try_from(self.intended.as_nanos()).unwrap_or(u64::MAX));
        content.resize(size.max(MIN_BYTES), b'.');
        content.freeze()
    }

    /// The label of a content, unless it is too short for one.
    #[must_use]
    pub fn of_content(content: &[u8]) -> Option<Self> {
        let (run, rest) = content.split_first_chunk()?;
        let (pair, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let (intended, _) = rest.split_first_chunk()?;
        Some(Self {
            run: RunId(u64::from_be_bytes(*run)),
            pair: u32::from_be_bytes(*pair),
            counter: u64::from_be_bytes(*counter),
            intended: Duration::from_nanos(u64::from_be_bytes(*intended)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_comes_back_from_a_content_of_any_size() {
        let label = Label { run: RunId(u64::MAX), pair: 7, counter: 1 << 40, intended: Duration::from_nanos(123) };
        for size in [0, MIN_BYTES, 100, 60_000] {
            let content = label.to_content(size);
            assert_eq!((content.len(), Label::of_content(&content)), (size.max(MIN_BYTES), Some(label)));
        }
        assert_eq!(Label::of_content(&label.to_content(100)[..MIN_BYTES - 1]), None);
    }
}
