//! What the fuzzer checks, on the golden vectors and on random bytes: no fuzzer is needed to know that it holds today.

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use serde_json::Value;

/// Every `hex` of the vector files, good and bad frames alike.
fn vectors() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for file in ["frames.json", "session.json"] {
        let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        let json = std::fs::read_to_string(path).expect("the vector file is readable");
        collect(&serde_json::from_str(&json).expect("the vector file is JSON"), &mut found);
    }
    found
}

fn collect(value: &Value, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            if let Some(Value::String(hex)) = fields.get("hex") {
                found.push(HEXLOWER.decode(hex.as_bytes()).expect("lower-case hex"));
            }
            fields.values().for_each(|field| collect(field, found));
        }
        _ => {}
    }
}

#[test]
fn the_frame_decoder_holds_on_every_vector_at_every_cut() {
    let vectors = vectors();
    assert!(vectors.len() > 40, "{}", vectors.len());
    for cut in 1..40 {
        for vector in &vectors {
            postrider_fuzz::frame_decoder(&[&[cut], &vector[..]].concat());
        }
        postrider_fuzz::frame_decoder(&[vec![cut], vectors.concat()].concat());
    }
}

proptest! {
    #[test]
    fn the_frame_decoder_holds_on_damaged_streams(
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..8),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<u8>(),
    ) {
        let vectors = vectors();
        let mut stream = vec![cut];
        for index in order {
            stream.extend_from_slice(&vectors[index.index(vectors.len())]);
        }
        for (index, byte) in damage {
            let at = index.index(stream.len());
            stream[at] ^= byte;
        }
        postrider_fuzz::frame_decoder(&stream);
    }
}
