//! Whether the rows fit together after what the tests did to them.

use super::super::Engine;

/// Checks every row of a store that nobody writes to meanwhile.
pub fn audit(engine: &Engine) {
    let found = engine.verify(&mut |_| {}).expect("readable");
    assert_eq!(found.problems, Vec::<String>::new());
}
