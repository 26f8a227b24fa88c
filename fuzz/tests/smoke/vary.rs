//! Variations of a corpus: the mutations that every fuzzer begins with.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Bytes that mean something to length prefixes, varints and choices.
const TELLING: [u8; 8] = [0, 1, 4, 0x7f, 0x80, 0xf8, 0xfe, 0xff];

/// A member of the corpus with up to four changes.
pub fn vary(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].clone();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=input.len());
        let length = random.random_range(0..=16.min(input.len() - at));
        match random.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 if at < input.len() => input[at] = TELLING[random.random_range(0..TELLING.len())],
            3 => input.insert(at, random.random()),
            4 => drop(input.drain(at..at + length)),
            5 => {
                let piece = input[at..at + length].to_vec();
                drop(input.splice(at..at, piece));
            }
            _ => {
                let other = &corpus[random.random_range(0..corpus.len())];
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input.truncate(4096);
    input
}
