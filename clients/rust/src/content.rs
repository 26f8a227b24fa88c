//! What messages say: the protocol's own [`Content`](postrider_protocol::wire::Content), for applications that have no
//! format of their own. The server never looks into it.

use bytes::Bytes;
use postrider_protocol::wire;
use prost::Message as _;

/// A text message.
#[must_use]
pub fn text(text: impl Into<String>) -> Bytes {
    wire::Content { kind: Some(wire::content::Kind::Text(text.into())) }.encode_to_vec().into()
}

/// The text of a text message; `None` for content of another kind or format.
pub(crate) fn as_text(content: &[u8]) -> Option<&str> {
    // Field 1, length-delimited: read in place, so that the text is lent and not copied.
    let (&key, rest) = content.split_first()?;
    let mut rest = rest;
    let length = prost::encoding::decode_varint(&mut rest).ok()?;
    let is_text = key == 0x0a && usize::try_from(length) == Ok(rest.len());
    if is_text { std::str::from_utf8(rest).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONTENT-2, CONTENT-3.
    #[test]
    fn a_text_comes_back_and_other_bytes_are_no_text() {
        for words in ["", "hi", &"é".repeat(500)] {
            assert_eq!(as_text(&text(words)), Some(words));
        }
        for bytes in [&b""[..], b"hi", b"\x0a\x05hi", b"\x0a\x01\xff", b"\x12\x02hi"] {
            assert_eq!(as_text(bytes), None);
        }
    }
}
