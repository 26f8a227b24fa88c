//! As much of XML as an XMPP stream needs: cutting it into stanzas, and finding an attribute or a text in one. What
//! XMPP forbids (comments, processing instructions, other documents' entities) is not handled.

use super::WireError;

/// The next thing in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The XML declaration, the stream's own start tag, or white space: nothing to act on.
    Framing,
    /// A whole child of the stream.
    Stanza(&'a [u8]),
    /// The stream's end tag.
    End,
}

/// The first whole item, and its length.
///
/// # Errors
/// When it is no XML that a stream can hold.
pub fn item_at(bytes: &[u8]) -> Result<Option<(Item<'_>, usize)>, WireError> {
    let Some(first) = bytes.first() else { return Ok(None) };
    if first.is_ascii_whitespace() {
        return Ok(Some((Item::Framing, 1)));
    }
    if *first != b'<' {
        return Err(WireError::unknown(bytes));
    }
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        let Some(length) = tag_length(&bytes[at..]) else { return Ok(None) };
        let tag = &bytes[at..at + length];
        at += length;
        if depth == 0 && (tag.starts_with(b"<?") || name(tag) == b"stream:stream") {
            return Ok(Some((Item::Framing, at)));
        }
        if tag.starts_with(b"</") {
            if depth == 0 {
                return Ok(Some((Item::End, at)));
            }
            depth -= 1;
        } else if !tag.ends_with(b"/>") {
            depth += 1;
        }
        if depth == 0 {
            return Ok(Some((Item::Stanza(&bytes[..at]), at)));
        }
        match bytes[at..].iter().position(|byte| *byte == b'<') {
            Some(text) => at += text,
            None => return Ok(None),
        }
    }
}

/// How long the tag is that these bytes start with: a `>` within quotes does not end it.
fn tag_length(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (index, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(index + 1),
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), _) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// The name of the element that starts here; empty for an end tag.
#[must_use]
pub fn name(element: &[u8]) -> &[u8] {
    let rest = element.strip_prefix(b"<").unwrap_or_default();
    let end = rest.iter().position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'));
    &rest[..end.unwrap_or(rest.len())]
}

/// An attribute of the element that starts here, as it is written.
#[must_use]
pub fn attribute<'a>(element: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let tag = &element[..tag_length(element)?];
    let mut rest = tag;
    while let Some(equals) = rest.iter().position(|byte| *byte == b'=') {
        let (before, after) = (rest[..equals].trim_ascii_end(), rest[equals + 1..].trim_ascii_start());
        let quote = *after.first()?;
        let value = after.get(1..)?;
        let end = value.iter().position(|byte| *byte == quote)?;
        let start = before.iter().rposition(u8::is_ascii_whitespace).map_or(0, |space| space + 1);
        if &before[start..] == name.as_bytes() {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
    None
}

/// The first element of this name in an element, at any depth.
#[must_use]
pub fn child<'a>(element: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut rest = element;
    while let Some(next) = rest.iter().skip(1).position(|byte| *byte == b'<') {
        rest = &rest[next + 1..];
        if name(rest) == wanted.as_bytes() {
            return Some(rest);
        }
    }
    None
}

/// The text that the element that starts here begins with, as it is written.
#[must_use]
pub fn text(element: &[u8]) -> &[u8] {
    let Some(start) = tag_length(element).filter(|end| !element[..*end].ends_with(b"/>")) else { return b"" };
    let text = &element[start..];
    &text[..text.iter().position(|byte| *byte == b'<').unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_its_stanzas_wherever_it_is_torn() {
        let stream = b"<?xml version='1.0'?><stream:stream id='1' to=\"a>b\">\n\
            <a><a/><b c='/>'>t</b></a><r xmlns='x'/><message><body>hi</body></message></stream:stream>";
        let (mut stanzas, mut ended, mut start) = (Vec::new(), false, 0);
        for end in 0..=stream.len() {
            while let Some((item, length)) = item_at(&stream[start..end]).unwrap() {
                match item {
                    Item::Framing => {}
                    Item::Stanza(stanza) => stanzas.push(stanza.escape_ascii().to_string()),
                    Item::End => ended = true,
                }
                start += length;
            }
        }
        let expected = [r"<a><a/><b c=\'/>\'>t</b></a>", r"<r xmlns=\'x\'/>", "<message><body>hi</body></message>"];
        assert_eq!((stanzas, ended, start), (expected.map(String::from).to_vec(), true, stream.len()));
        assert!(item_at(b"no xml").is_err());
    }

    #[test]
    fn names_attributes_and_texts_are_found() {
        let stanza =
            b"<message from='a@b/c' xml:id = \"x'y\" id='7'><delay id='8'/><body>hi</body><received id='9'/></message>";
        assert_eq!((name(stanza), name(b"<r/>"), name(b"</r>")), (&b"message"[..], &b"r"[..], &b""[..]));
        assert_eq!(attribute(stanza, "from"), Some(&b"a@b/c"[..]));
        assert_eq!(attribute(stanza, "xml:id"), Some(&b"x'y"[..]));
        assert_eq!(attribute(stanza, "id"), Some(&b"7"[..]));
        assert_eq!(attribute(stanza, "d"), None);
        let received = child(stanza, "received").unwrap();
        assert_eq!(attribute(received, "id"), Some(&b"9"[..]));
        assert_eq!(child(stanza, "body").map(text), Some(&b"hi"[..]));
        assert_eq!((child(stanza, "bod"), text(b"<body/>")), (None, &b""[..]));
    }
}
