//! The requirements of the specification: their own words, and a choice of them.

use postrider_protocol::SPEC;

/// Some of the requirements.
#[derive(Clone, Debug, Default)]
pub struct Only(Vec<String>);

impl Only {
    /// Those with an id, such as `SEND-4`, or in a section, such as `SEND`, of these; all if there are none.
    #[must_use]
    pub fn of(words: impl IntoIterator<Item = String>) -> Self {
        Self(words.into_iter().collect())
    }

    /// Whether any of these is among them.
    #[must_use]
    pub fn covers(&self, requirements: &[&str]) -> bool {
        let named = |id: &str| self.0.iter().any(|word| id == word || id.split('-').next() == Some(word));
        self.0.is_empty() || requirements.iter().any(|id| named(id))
    }
}

/// Whether this is an id, such as `SEND-4`, or a section, such as `SEND`, of the specification.
#[must_use]
pub fn is_known(word: &str) -> bool {
    sentence(word).is_some() || sentence(&format!("{word}-1")).is_some()
}

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
        assert_eq!(sentence("NOTHING-1"), None);
        assert!(is_known("SEND") && is_known("SEND-4") && !is_known("NOTHING") && !is_known(""));
    }

    #[test]
    fn checks_are_chosen_by_id_or_by_section() {
        let only = |words: &[&str]| Only::of(words.iter().map(|word| (*word).to_owned()));
        assert!(only(&[]).covers(&["SEND-4"]));
        assert!(only(&["SEND"]).covers(&["TLS-1", "SEND-4"]));
        assert!(only(&["SEND-4"]).covers(&["SEND-4"]));
        assert!(!only(&["SEND-1"]).covers(&["SEND-12"]));
    }
}
