//! The sessions of both sides against each other.

#[path = "../../protocol/tests/pair/world.rs"]
mod world;

use world::{Step, World};

use crate::dice::Dice;

/// The steps of an application, a clock and a link that splits, delays and breaks; then the link behaves.
///
/// What must hold: both sides keep the rules as the other checks them; every send is answered once and every message is
/// taken once, in order, after any breaks and restarts of the client.
pub fn session_pair(data: &[u8]) {
    let mut dice = Dice::new(data);
    let mut world = World::new();
    while let Some(step) = step(&mut dice) {
        world.step(step);
    }
    world.settle();
}

fn step(dice: &mut Dice<'_>) -> Option<Step> {
    Some(match dice.byte()? {
        0..0x40 => Step::Send,
        0x40..0x60 => Step::ToServer(dice.byte()?.into()),
        0x60..0x80 => Step::ToServer(usize::MAX),
        0x80..0x90 => Step::ToClient(dice.byte()?.into()),
        0x90..0xb0 => Step::ToClient(usize::MAX),
        0xb0..0xd0 => Step::Take,
        0xd0..0xe0 => Step::Wait(17 * u64::from(dice.byte()?)),
        0xe0..0xf0 => Step::Read,
        0xf0..0xf8 => Step::Break,
        _ => Step::Restart,
    })
}
