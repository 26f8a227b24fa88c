//! The store on disk against the model.

use postrider::store::engine::Engine;
use postrider::store::memory::Memory;
use postrider::store::{Batch, Committed};

use crate::dice::Dice;
use crate::history::{Known, beginning};
use crate::world;

/// A history of batches, with restarts between them. Some come together, and go to the disk in one group.
///
/// What must hold: the engine agrees with the model on every outcome, every publication and everything that can be read,
/// also after it was closed and opened; and its rows fit together.
pub fn store_history(data: &[u8]) {
    let mut dice = Dice::new(data);
    let directory = world::new_store();
    let open = if dice.byte().is_some_and(|byte| byte % 2 == 1) { world::open_gathering } else { world::open };
    let engine = open(directory.path()).expect("a new store");
    let mut stores = Stores { model: Memory::new(), engine, ahead: Vec::new() };
    let mut known = Known::default();
    stores.decide(&mut known, beginning());
    let mut batch = Batch::new();
    while let Some(step) = dice.byte() {
        match step {
            0..0xb0 => match known.operation(&mut dice, &batch) {
                Some(operation) => batch.push(operation),
                None => break,
            },
            0xb0..0xe0 => stores.decide(&mut known, std::mem::take(&mut batch)),
            0xe0..0xfc => {
                stores.decide(&mut known, std::mem::take(&mut batch));
                stores.agree();
            }
            _ => {
                stores.agree();
                world::close(&stores.engine);
                stores.engine = open(directory.path()).expect("what was closed opens");
                stores.compare();
            }
        }
    }
    stores.decide(&mut known, batch);
    stores.agree();
    stores.compare();
    world::close(&stores.engine);
}

struct Stores {
    model: Memory,
    engine: Engine,
    /// What the model has decided, and the engine is to.
    ahead: Vec<(Batch, Committed)>,
}

impl Stores {
    fn decide(&mut self, known: &mut Known, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let wanted = world::commit(&self.model, batch.clone());
        known.learn(&batch, &wanted);
        self.ahead.push((batch, wanted));
    }

    fn agree(&mut self) {
        let waits: Vec<_> = self.ahead.iter().map(|(batch, _)| world::submit(&self.engine, batch.clone())).collect();
        for ((batch, wanted), wait) in self.ahead.drain(..).zip(waits) {
            assert_eq!(wait(), wanted, "after {batch:?}");
        }
    }

    fn compare(&self) {
        assert_eq!(world::contents(&self.engine).expect("readable"), world::contents(&self.model).expect("readable"));
        let found = self.engine.verify(&mut |_| {}).expect("readable");
        assert_eq!(found.problems, Vec::<String>::new());
    }
}
