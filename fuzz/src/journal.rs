//! A store's journal as a crash, a bad disk or a stranger leaves it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use postrider::store::StoreError;
use postrider::store::memory::Memory;

use crate::dice::Dice;
use crate::history::{Known, beginning};
use crate::scratch::{self, Snapshot};
use crate::world;

/// Arbitrary bytes in place of the journal's files.
///
/// What must hold: the store opens or says why not; what it then serves is what it had at some moment, never anything else.
pub fn journal_replay(data: &[u8]) {
    templates().iter().for_each(|template| replace(template, data));
}

fn replace(template: &Template, data: &[u8]) {
    let mut dice = Dice::new(data);
    let directory = template.files.lay_out();
    for file in &template.journal {
        let Some(kind) = dice.byte() else { break };
        let path = directory.path().join(file);
        match kind % 5 {
            0 => std::fs::write(path, dice.rest()),
            1 => std::fs::remove_file(path),
            2 => overwrite(&path, &mut dice),
            3 => {
                // A good beginning, for what follows to be read at all.
                let mut bytes = std::fs::read(&path).expect("it was laid out");
                bytes.truncate(16 * usize::from(dice.byte().unwrap_or(0)));
                bytes.extend_from_slice(dice.rest());
                std::fs::write(path, bytes)
            }
            _ => Ok(()),
        }
        .expect("in memory");
    }
    template.opens_or_says_why_not(directory.path());
}

/// The journal's files with tears, flips, holes, and pieces in the wrong place. What must hold is the same.
pub fn journal_damage(data: &[u8]) {
    for template in templates() {
        let mut dice = Dice::new(data);
        let directory = template.files.lay_out();
        while template.damage(&mut dice, directory.path()).is_some() {}
        template.opens_or_says_why_not(directory.path());
    }
}

/// What some batches left, and everything that was true in between.
struct Template {
    files: Snapshot,
    journal: Vec<PathBuf>,
    moments: HashSet<String>,
}

/// One whose newest segments are in the journal alone, and one that has everything in sled, too.
fn templates() -> &'static [Template; 2] {
    static TEMPLATES: OnceLock<[Template; 2]> = OnceLock::new();
    TEMPLATES.get_or_init(|| [false, true].map(Template::make))
}

impl Template {
    fn make(all_in_sled: bool) -> Self {
        let directory = scratch::directory();
        let engine = world::open(directory.path()).expect("a new store");
        let model = Memory::new();
        let contents = || world::contents(&model).expect("a model can be read");
        let mut moments = HashSet::from([contents()]);
        let mut known = Known::default();
        // Bytes without a plan, the same every time: about a hundred operations of all kinds.
        let noise: Vec<u8> = (0u32..900).map(|step| (step.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let mut dice = Dice::new(&noise);
        let mut batch = beginning();
        loop {
            let committed = world::commit(&model, batch.clone());
            assert_eq!(world::commit(&engine, batch.clone()), committed);
            known.learn(&batch, &committed);
            moments.insert(contents());
            batch = Vec::new();
            while batch.len() < 3 {
                let Some(operation) = known.operation(&mut dice, &batch) else { break };
                batch.push(operation);
            }
            if batch.is_empty() {
                break;
            }
        }
        if all_in_sled {
            engine.verify(&mut |_| {}).expect("it moves everything there first");
        }
        world::close(&engine);
        drop(engine);
        let files = Snapshot::of(directory.path());
        let journal: Vec<_> = files.names().filter(|name| name.starts_with("journal")).map(Path::to_owned).collect();
        assert!(!journal.is_empty(), "there is a journal to damage");
        Self { files, journal, moments }
    }

    fn opens_or_says_why_not(&self, directory: &Path) {
        let engine = match world::open(directory) {
            Ok(engine) => engine,
            Err(StoreError::Corrupt(_) | StoreError::Format { .. } | StoreError::Io(_)) => return,
            Err(other) => panic!("{other} is not what is wrong"),
        };
        let served = world::contents(&engine).expect("what opened can be read");
        assert!(self.moments.contains(&served), "this was never so: {served}");
        let found = engine.verify(&mut |_| {}).expect("readable");
        assert_eq!(found.problems, Vec::<String>::new());
        // It goes on from there, and keeps what it takes.
        world::commit(&engine, beginning());
        let before = world::contents(&engine).expect("readable");
        world::close(&engine);
        drop(engine);
        let engine = world::open(directory).expect("what was closed opens");
        assert_eq!(world::contents(&engine).expect("readable"), before);
        world::close(&engine);
    }

    /// One damage to one file of the journal; `None` when the input is at its end.
    fn damage(&self, dice: &mut Dice<'_>, directory: &Path) -> Option<()> {
        let journal = &self.journal;
        let kind = dice.byte()?;
        let path = directory.join(&journal[usize::from(dice.byte()?) % journal.len()]);
        let mut bytes = std::fs::read(&path).unwrap_or_default();
        let place = |dice: &mut Dice<'_>, length: usize| {
            Some(usize::from(u16::from_be_bytes([dice.byte()?, dice.byte()?])) % length.max(1))
        };
        let at = place(dice, bytes.len())?;
        let to = (at + usize::from(dice.byte()?)).min(bytes.len());
        let read = |file: u8| std::fs::read(directory.join(&journal[usize::from(file) % journal.len()]));
        match kind % 6 {
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(0),
            2 => bytes[at..to].fill(0),
            3 => bytes[at..to].iter_mut().for_each(|byte| *byte ^= kind | 1),
            4 => {
                // Bytes of another place, as a write that went astray.
                let other = read(kind).unwrap_or_default();
                let from = place(dice, other.len())?;
                let length = (to - at).min(other.len() - from);
                bytes[at..at + length].copy_from_slice(&other[from..from + length]);
            }
            _ => bytes = read(kind).unwrap_or_default(),
        }
        std::fs::write(path, bytes).expect("in memory");
        Some(())
    }
}

/// Puts some bytes into the middle.
fn overwrite(path: &Path, dice: &mut Dice<'_>) -> std::io::Result<()> {
    let mut bytes = std::fs::read(path)?;
    let at = usize::from(dice.byte().unwrap_or(0)) * 16;
    for (byte, new) in bytes.iter_mut().skip(at).zip(dice.bytes().unwrap_or_default()) {
        *byte = *new;
    }
    std::fs::write(path, bytes)
}
