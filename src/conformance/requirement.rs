//! The rules' own words, out of the specification.

use postrider_protocol::SPEC;

/// The first sentence of a requirement, as plain text; `None` if the specification has no such id.
#[must_use]
pub fn sentence(id: &str) -> Option<String> {
    let marker = format!("\n**{id}** ");
    let start = SPEC.find(&marker)? + marker.len();
    let paragraph = SPEC[start..].split("\n\n").next()?;
    let text = paragraph.replace('\n', " ").replace("**", "").replace('`', "");
    let text = without_links(&text);
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    Some(text[..end].to_owned())
}

/// `[words](target)` becomes `words`.
fn without_links(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        match after.split_once("](").and_then(|(words, target)| Some((words, target.split_once(')')?.1))) {
            Some((words, after)) => {
                plain.push_str(words);
                rest = after;
            }
            None => {
                plain.push('[');
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_quoted_without_its_markup() {
        assert_eq!(sentence("FRAME-2").unwrap(), "A length of 0 MUST be refused with FRAME_EMPTY.");
        assert!(sentence("ERR-1").unwrap().starts_with("An error MUST be one of appendix A: nothing"));
        assert_eq!(sentence("FRAME-99"), None);
    }
}
