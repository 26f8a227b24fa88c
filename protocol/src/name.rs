//! What users, devices and apps may be called (NAME-1): 1 to 64 bytes of UTF-8, and nothing in them that is obeyed rather
//! than shown.

use crate::error::{CodedError, ErrorCode};
use crate::limits;

/// Checks a user's or device's name (NAME-1). Names are compared byte by byte: no case folding, no normalization.
///
/// # Errors
/// `BAD_NAME`, naming `field` and what is wrong with it.
pub fn check(field: &str, name: &str) -> Result<(), CodedError> {
    let bad = |why: &str| Err(CodedError::with(ErrorCode::BadName, format!("{field} {why}")));
    if name.is_empty() {
        return bad("is empty");
    }
    if name.len() > limits::MAX_NAME_BYTES {
        return bad("is longer than 64 bytes");
    }
    if name.chars().any(char::is_control) {
        return bad("has control characters");
    }
    if name.chars().any(is_layout) {
        return bad("has characters that break lines or steer the direction of text");
    }
    Ok(())
}

/// Whether a letter is no letter: a control character, a separator of lines, or one with Unicode's property `Bidi_Control`.
/// With these a text shows as another one, or turns around what stands beside it.
pub(crate) fn is_obeyed(letter: char) -> bool {
    letter.is_control() || is_layout(letter)
}

fn is_layout(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_64_bytes_without_control_characters_and_turns_no_text_around() {
        assert!(check("user", "zoë 🐎").is_ok());
        assert!(check("user", &"é".repeat(32)).is_ok());
        assert!(check("user", "שלום").is_ok() && check("user", "می\u{200c}خواهم").is_ok(), "right to left is no fault");
        for bad in
            ["", "a\nb", "\u{7f}", "\u{85}", &"é".repeat(33), "bob\u{202e}ecila", "\u{2067}x", "x\u{200f}", "x\u{2028}"]
        {
            assert_eq!(check("user", bad).expect_err(bad).code, ErrorCode::BadName);
        }
    }
}
