//! The store on disk against the model.

use postrider::store::Batch;
use postrider::store::engine::Engine;
use postrider::store::memory::Memory;

use crate::dice::Dice;
use crate::history::{Known, beginning};
use crate::world;

/// A history of batches, with restarts between them.
///
/// What must hold: the engine agrees with the model on every outcome, every publication and everything that can be read,
/// also after it was closed and opened; and its rows fit together.
pub fn store_history(data: &[u8]) {
    let mut dice = Dice::new(data);
    let directory = world::new_store();
    let mut stores = Stores { model: Memory::new(), engine: world::open(directory.path()).expect("a new store") };
    let mut known = Known::default();
    stores.commit(&mut known, beginning());
    let mut batch = Batch::new();
    while let Some(step) = dice.byte() {
        match step {
            0..0xb0 => match known.operation(&mut dice, &batch) {
                Some(operation) => batch.push(operation),
                None => break,
            },
            0xb0..0xfc => stores.commit(&mut known, std::mem::take(&mut batch)),
            _ => {
                world::close(&stores.engine);
                stores.engine = world::open(directory.path()).expect("what was closed opens");
                stores.compare();
            }
        }
    }
    stores.commit(&mut known, batch);
    stores.compare();
    world::close(&stores.engine);
}

struct Stores {
    model: Memory,
    engine: Engine,
}

impl Stores {
    fn commit(&self, known: &mut Known, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let wanted = world::commit(&self.model, batch.clone());
        assert_eq!(world::commit(&self.engine, batch.clone()), wanted, "after {batch:?}");
        known.learn(&batch, &wanted);
    }

    fn compare(&self) {
        assert_eq!(world::contents(&self.engine).expect("readable"), world::contents(&self.model).expect("readable"));
        let found = self.engine.verify(&mut |_| {}).expect("readable");
        assert_eq!(found.problems, Vec::<String>::new());
    }
}
