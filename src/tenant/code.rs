//! One-time enrolment codes: 100 random bits that a person can type (LOGIN-8).
//!
//! `PR-` and four groups of five characters of Crockford's base 32. Case, spaces and hyphens do not matter, and the
//! letters that look like digits count as those. The server keeps only a hash.

/// How long a code is good, in seconds.
pub const LIFETIME_S: u32 = 24 * 60 * 60;

const PREFIX: &str = "PR";
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SYMBOLS: usize = 20;

/// The code that these random bytes make; 20 of their 5-bit ends are used.
#[must_use]
pub fn from_random(random: [u8; SYMBOLS]) -> String {
    let mut code = String::from(PREFIX);
    for (index, byte) in random.iter().enumerate() {
        if index % 5 == 0 {
            code.push('-');
        }
        code.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    code
}

/// SHA-256 of a code as somebody typed it, or `None` if it cannot be a code.
#[must_use]
pub fn hash(typed: &str) -> Option<[u8; 32]> {
    let symbols = normalize(typed)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &symbols);
    digest.as_ref().try_into().ok()
}

fn normalize(typed: &str) -> Option<[u8; SYMBOLS]> {
    let letters: String = typed.chars().filter(|letter| !matches!(letter, '-' | ' ')).collect();
    let letters = letters.to_ascii_uppercase();
    // The prefix is recognized by length: a code may itself begin with P and R.
    let body = if letters.len() == PREFIX.len() + SYMBOLS { letters.strip_prefix(PREFIX)? } else { &letters };
    let mut symbols = [0; SYMBOLS];
    if body.len() != SYMBOLS {
        return None;
    }
    for (symbol, letter) in symbols.iter_mut().zip(body.bytes()) {
        *symbol = match letter {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            letter if ALPHABET.contains(&letter) => letter,
            _ => return None,
        };
    }
    Some(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_typed() {
        let code = from_random(std::array::from_fn(|index| u8::try_from(index + 10).unwrap_or(0)));
        assert_eq!(code, "PR-ABCDE-FGHJK-MNPQR-STVWX");
        let wanted = hash(&code).expect("a good code");
        for typed in ["pr-abcde-fghjk-mnpqr-stvwx", "ABCDE FGHJK MNPQR STVWX", "prabcdefghjkmnpqrstvwx"] {
            assert_eq!(hash(typed), Some(wanted), "{typed}");
        }
        assert_eq!(hash("PR-O0000-I1111-L1111-00000"), hash("PR-00000-11111-11111-00000"));
        assert_ne!(hash("PR-ABCDE-FGHJK-MNPQR-STVWY"), Some(wanted));
    }

    #[test]
    fn what_cannot_be_a_code_has_no_hash() {
        for typed in ["", "PR", "PR-ABCDE", "PR-ABCDE-FGHJK-MNPQR-STVW!", "XX-ABCDE-FGHJK-MNPQR-STVWX", "ééééééééééé"]
        {
            assert_eq!(hash(typed), None, "{typed}");
        }
    }
}
