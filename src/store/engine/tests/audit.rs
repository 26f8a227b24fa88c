//! Whether the rows fit together after what the tests did to them.

use super::super::{Engine, verify};

/// Checks every row of a store that nobody writes to meanwhile.
pub fn audit(engine: &Engine) {
    let rows = engine.rows.read().unwrap().clone().expect("open");
    let found = verify::verify(&*rows, &mut |_| {}).expect("readable");
    assert_eq!(found.problems, Vec::<String>::new());
}
