//! What users, devices and apps may be called (NAME-1): 1 to 64 bytes of UTF-8, no control characters.

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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_64_bytes_without_control_characters() {
        assert!(check("user", "zoë 🐎").is_ok());
        assert!(check("user", &"é".repeat(32)).is_ok());
        for bad in ["", "a\nb", "\u{7f}", "\u{85}", &"é".repeat(33)] {
            assert_eq!(check("user", bad).expect_err(bad).code, ErrorCode::BadName);
        }
    }
}
