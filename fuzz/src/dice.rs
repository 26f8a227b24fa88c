//! A fuzzer's bytes read as numbers and choices. The format is plain on purpose, so that seeds can be written by hand.

/// What is left of the input.
pub struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// One byte; `None` ends the run.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte % 2 == 1)
    }

    /// A number from one byte if it is small, as most numbers of interest are; 0xff is followed by eight bytes, and what
    /// is just below it stands for the end of the range.
    pub fn number(&mut self) -> Option<u64> {
        Some(match self.byte()? {
            0xff => u64::from_be_bytes(*self.take(8).first_chunk()?),
            byte @ 0xf8.. => u64::MAX - u64::from(0xfe - byte),
            byte => byte.into(),
        })
    }

    /// Up to `length` bytes.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind a one-byte length.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        Some(self.take(length.into()))
    }

    /// Text behind a one-byte length; what is not UTF-8 is replaced.
    pub fn text(&mut self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
