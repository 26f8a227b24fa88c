//! Enrolment codes as people type them, and the proofs of device keys.

use std::sync::OnceLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use postrider::tenant::code;
use postrider::tenant::proof::{Binding, holds};
use postrider_protocol::limits::{EXPORTER_BYTES, NONCE_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES};
use postrider_protocol::proof::signed_bytes;
use postrider_protocol::session::server::{Hello, Method};

use crate::dice::Dice;

/// What must hold: a code is the same however it is typed and never another (LOGIN-8); a proof holds for its own key,
/// connection and names only (LOGIN-6).
pub fn enrolment(data: &[u8]) {
    let mut dice = Dice::new(data);
    match dice.byte() {
        Some(kind) if kind % 8 == 0 => drop(proofs(&mut dice)),
        Some(kind) if kind % 2 == 0 => drop(made_code(&mut dice)),
        Some(_) => typed_code(&String::from_utf8_lossy(dice.rest())),
        None => {}
    }
}

fn typed_code(typed: &str) {
    let hash = code::hash(typed);
    for retyped in [typed.to_ascii_lowercase(), typed.to_ascii_uppercase(), typed.replace(['-', ' '], "")] {
        assert_eq!(code::hash(&retyped), hash, "{typed:?} as {retyped:?}");
    }
    if hash.is_some() {
        let letters: Vec<char> = typed.chars().filter(|letter| !matches!(letter, '-' | ' ')).collect();
        assert!(matches!(letters.len(), 20 | 22) && letters.iter().all(char::is_ascii_alphanumeric), "{typed:?}");
    }
}

fn made_code(dice: &mut Dice<'_>) -> Option<()> {
    let first: [u8; 20] = *dice.take(20).first_chunk()?;
    let mut second = first;
    second[usize::from(dice.byte()?) % 20] = dice.byte()?;
    let (one, other) = (code::from_random(first), code::from_random(second));
    let (hash, other_hash) = (code::hash(&one).expect("a code"), code::hash(&other).expect("a code"));
    assert_eq!(hash == other_hash, one == other);
    typed_code(&one);
    // As somebody may write it down: no prefix, digits as the letters that look like them, and separators anywhere.
    let mut sloppy = one.trim_start_matches("PR-").replace('0', "o").replace('1', "L");
    sloppy.insert(usize::from(dice.byte()?) % sloppy.len(), ' ');
    assert_eq!(code::hash(&sloppy), Some(hash), "{sloppy}");
    Some(())
}

fn proofs(dice: &mut Dice<'_>) -> Option<()> {
    static PAIR: OnceLock<Ed25519KeyPair> = OnceLock::new();
    let pair = PAIR.get_or_init(|| Ed25519KeyPair::from_seed_unchecked(&[3; 32]).expect("a seed"));
    let mut key: [u8; PUBLIC_KEY_BYTES] = *pair.public_key().as_ref().first_chunk()?;
    let binding = Binding { exporter: [dice.byte()?; EXPORTER_BYTES], nonce: [dice.byte()?; NONCE_BYTES] };
    let hello = hello(dice)?;
    let bytes = |binding: &Binding, hello: &Hello| {
        signed_bytes(&binding.exporter, &binding.nonce, &hello.app, &hello.user, &hello.device)
    };
    let signed = bytes(&binding, &hello);
    let mut signature: [u8; SIGNATURE_BYTES] = *pair.sign(&signed).as_ref().first_chunk()?;
    let (mut checked_binding, mut checked) = (Binding { ..binding }, hello.clone());
    let (place, by) = (dice.byte()?, dice.byte()?);
    match dice.byte()? % 5 {
        0 => signature[usize::from(place) % SIGNATURE_BYTES] ^= by,
        1 => key[usize::from(place) % PUBLIC_KEY_BYTES] ^= by,
        2 => checked_binding.exporter[usize::from(place) % EXPORTER_BYTES] ^= by,
        3 => checked_binding.nonce[usize::from(place) % NONCE_BYTES] ^= by,
        _ => checked = self::hello(dice)?,
    }
    let same_names = (&checked.app, &checked.user, &checked.device) == (&hello.app, &hello.user, &hello.device);
    assert_eq!(bytes(&binding, &checked) == signed, same_names, "names cannot trade letters");
    let same_key = key[..] == *pair.public_key().as_ref() && signature[..] == *pair.sign(&signed).as_ref();
    let genuine = same_key && bytes(&checked_binding, &checked) == signed;
    assert_eq!(holds(&key, &checked_binding, &checked, &signature), genuine);
    Some(())
}

fn hello(dice: &mut Dice<'_>) -> Option<Hello> {
    Some(Hello {
        app: dice.text()?,
        user: dice.text()?,
        device: dice.text()?,
        device_id: 0,
        cursor: 0,
        window: 1,
        agent: String::new(),
        method: Method::DeviceKey,
    })
}
