//! Nodes of the server that start and end, their connections, and the hints between them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use postrider::bus::InboxMoved;
use postrider::store::Store;

use crate::disk::SimStore;
use crate::network::Link;
use crate::runtime::{MS, TaskId};
use crate::server::Node;
use crate::world::{DISK, Happening, Phase, World};

impl World {
    /// The connections of a node that are there.
    pub(crate) fn links(&self, node: usize) -> Vec<Rc<RefCell<Link>>> {
        self.links.iter().filter(|(of, _)| *of == node).filter_map(|(_, link)| link.upgrade()).collect()
    }

    pub(crate) fn has_tasks(&self, node: usize) -> bool {
        self.tasks.values().any(|task| task.node == node)
    }

    /// A node's process is gone, and its store if that was its own.
    pub(crate) fn end_node(&mut self, node: usize, kept: usize) {
        self.nodes[node] = None;
        let gone: Vec<TaskId> = self.tasks.iter().filter(|(_, task)| task.node == node).map(|(id, _)| *id).collect();
        for id in gone {
            self.tasks.remove(&id);
        }
        if self.nodes.len() == 1 {
            self.end_store(kept);
        }
    }

    pub(crate) fn end_store(&mut self, kept: usize) {
        if let Some(store) = self.store.take() {
            let (remains, lost) = store.crash(kept);
            self.remains = remains;
            let what = if lost > 0 { "crash that loses what was not synced" } else { "crash that loses nothing" };
            self.judges[0].borrow_mut().see(what);
        }
    }

    pub(crate) fn start_node(&mut self, number: usize) {
        if self.nodes[number].is_some() {
            return;
        }
        self.starts += 1;
        let store = match &self.store {
            Some(store) => Arc::clone(store),
            None => {
                let remains = std::mem::take(&mut self.remains);
                let seed = self.plan.luck ^ (self.starts << 32);
                let waker = self.runtime.waker(DISK);
                SimStore::open(
                    remains,
                    self.plan.shape.speed,
                    seed,
                    &self.runtime,
                    waker,
                    (self.setup.truth, self.setup.bug),
                )
            }
        };
        self.store = Some(Arc::clone(&store));
        let store: Arc<dyn Store> = store;
        let limits = (self.plan.shape.bounds, self.setup.bug);
        let node = Node::start(number, store, self.clock.handle(), &self.runtime, limits, &self.hints);
        self.nodes[number] = Some(Rc::new(node));
        self.accepting[number] = true;
        // A machine that is back knows nothing of its old connections.
        for link in self.links(number) {
            if self.dice.chance(50) {
                link.borrow_mut().heal();
            }
        }
    }

    /// A hint reaches a node, if it is there.
    pub(crate) fn hint(&self, node: usize, hint: InboxMoved) {
        if let Some(node) = &self.nodes[node] {
            node.hub.moved(hint.app, hint.user, hint.newest);
        }
    }

    /// Hints are lost, late and repeated; those that were lost come when the faults are over.
    pub(crate) fn pass_hints(&mut self) {
        for (from, hint) in self.hints.take() {
            for node in (0..self.nodes.len()).filter(|node| *node != from) {
                if self.phase == Phase::Trouble && self.dice.chance(20) {
                    self.lost_hints.insert((node, hint.app.0, hint.user.0), hint);
                    continue;
                }
                for _ in 0..if self.dice.chance(10) { 2 } else { 1 } {
                    let time = self.dice.below(5 * MS);
                    self.soon(time, Happening::Hint(node, hint));
                }
            }
        }
    }

    pub(crate) fn pass_lost_hints(&mut self) {
        for ((node, ..), hint) in std::mem::take(&mut self.lost_hints) {
            self.soon(0, Happening::Hint(node, hint));
        }
    }
}
