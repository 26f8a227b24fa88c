//! What befalls the world.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::error::{CodedError, ErrorCode};

use crate::judge::Excuses;
use crate::plan::{Action, Break, DiskFault, To, user_name};
use crate::runtime::{MS, Micros};
use crate::server::Node;
use crate::world::{Happening, World};

/// Rounds of telling connections that the server stops, and the time between two.
const STOP_ROUNDS: u32 = 20;
const STOP_PAUSE: Micros = 100 * MS;

impl World {
    pub(crate) fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Act(number) => {
                let action = self.act(number);
                self.acts(number, action);
            }
            Happening::StartClient(client) => self.clients[client].start(),
            Happening::EndTwin { twin, original } => {
                self.clients[twin].kill();
                self.clients[original].start();
            }
            Happening::StartNode(node) => self.start_node(node),
            Happening::RestartEverything => self.restart_everything(),
            Happening::Stopping { node, left, down } => self.stops(node, left, down),
            Happening::Storm { left, every } => {
                for client in &self.clients {
                    if let Some(link) = client.connection() {
                        link.borrow_mut().reset();
                    }
                }
                if left > 1 {
                    self.soon(every, Happening::Storm { left: left - 1, every });
                }
            }
            Happening::Hint(node, hint) => self.hint(node, hint),
            Happening::Heal => self.heal(),
        }
        self.wake_clients();
    }

    fn acts(&mut self, number: usize, action: Action) {
        match action {
            Action::Send { program, to, count, bytes } => {
                let to = match to {
                    To::User(user) => user_name(user),
                    To::Nobody => "no\nbody",
                };
                for which in 0..count {
                    let mut content = format!("#{number}.{which} ").into_bytes();
                    content.resize(content.len().max(bytes), b'.');
                    self.clients[program].send(to, Bytes::from(content));
                }
            }
            Action::Break { program, how } => {
                let Some(link) = self.clients[program].connection() else { return };
                let mut link = link.borrow_mut();
                match how {
                    Break::Reset => link.reset(),
                    Break::HalfOpen { to_server, to_client } => link.go_half_open(to_server, to_client),
                    Break::Stall(time) => link.stall(time),
                }
            }
            Action::Storm { times, every } => self.soon(0, Happening::Storm { left: times, every }),
            Action::Slow { program, time } => self.clients[program].be_slow(time),
            Action::Lazy { program, time } => self.clients[program].be_lazy(time),
            Action::KillProgram { program, down } => {
                if self.clients[program].is_running() {
                    self.clients[program].kill();
                    self.soon(down, Happening::StartClient(program));
                }
            }
            Action::Twin { program, time } => {
                self.excuse(|excuses| excuses.twins = true);
                let twin = self.add_client(program);
                self.clients[twin].start();
                self.soon(time, Happening::EndTwin { twin, original: program });
            }
            Action::KillNode { node, power, down, kept } => self.kill_node(node, power, down, kept),
            Action::StopNode { node, down } => {
                self.excuse(|excuses| excuses.stopped = true);
                if self.nodes[node].is_some() && self.accepting[node] {
                    self.accepting[node] = false;
                    self.stops(node, STOP_ROUNDS, down);
                }
            }
            Action::Disk(fault) => self.disk_fails(fault),
            Action::Clock { wrong_by_ms } => self.clock.set_wrong_by(wrong_by_ms),
            Action::Sweep { retention_ms } => {
                let before = self.wall_ms().saturating_sub(retention_ms);
                if let Some(node) = self.nodes[0].clone() {
                    self.excuse(|excuses| {
                        excuses.swept = true;
                        excuses.swept_before = before.max(excuses.swept_before);
                    });
                    for client in self.clients.iter().filter(|client| !client.is_surely_connected()) {
                        let judge = &self.judges[client.app_number];
                        judge.borrow_mut().excuses.lost_devices.insert(client.user.clone());
                    }
                    self.spawn(0, async move { node.sweep(before).await });
                }
            }
            Action::Revoke { program } => self.revoke(program),
        }
    }

    fn excuse(&self, change: impl Fn(&mut Excuses)) {
        self.judges.iter().for_each(|judge| change(&mut judge.borrow_mut().excuses));
    }

    fn kill_node(&mut self, node: usize, power: bool, down: Micros, kept: usize) {
        if self.nodes[node].is_none() {
            return;
        }
        self.excuse(|excuses| excuses.stopped = true);
        for link in self.links(node) {
            link.borrow_mut().troubled = true;
            if power {
                link.borrow_mut().go_half_open(true, true);
            }
        }
        self.end_node(node, kept);
        self.soon(down, Happening::StartNode(node));
    }

    /// As `Server::stop` does it.
    fn stops(&mut self, node: usize, left: u32, down: Micros) {
        let Some(running) = self.nodes[node].clone() else { return };
        if left > 0 && self.has_tasks(node) {
            running.hub.close_all(|| CodedError::new(ErrorCode::ShuttingDown).after_ms(100));
            return self.soon(STOP_PAUSE, Happening::Stopping { node, left: left - 1, down });
        }
        drop(running);
        for link in self.links(node) {
            link.borrow_mut().troubled = true;
        }
        // Closing the store finishes what it has taken.
        self.end_node(node, 100);
        self.soon(down, Happening::StartNode(node));
    }

    fn disk_fails(&mut self, fault: DiskFault) {
        let Some(store) = self.store.clone() else { return };
        let now = self.runtime.now();
        self.excuse(|excuses| {
            excuses.disk_failed = true;
            excuses.unreadable |= matches!(fault, DiskFault::Unreadable(_));
        });
        store.trouble(|trouble| match fault {
            DiskFault::Stall(time) => trouble.stalled_until = now + time,
            DiskFault::Full(time) => trouble.full_until = now + time,
            DiskFault::Unreadable(time) => trouble.unreadable_until = now + time,
            DiskFault::SyncFails(_) => trouble.sync_fails = true,
        });
        if let DiskFault::SyncFails(time) = fault {
            self.soon(time, Happening::RestartEverything);
        }
    }

    fn restart_everything(&mut self) {
        self.excuse(|excuses| excuses.stopped = true);
        let kept = self.dice.pick(&[0, 50, 100]);
        for node in 0..self.nodes.len() {
            for link in self.links(node) {
                link.borrow_mut().troubled = true;
            }
            self.end_node(node, kept);
        }
        self.end_store(kept);
        for node in 0..self.nodes.len() {
            self.start_node(node);
        }
    }

    fn revoke(&mut self, program: usize) {
        let (Some(node), Some(store)) = (self.nodes[0].clone(), self.store.clone()) else { return };
        let (user, device) = (self.clients[program].user.clone(), self.clients[program].name.clone());
        let app = self.clients[program].app().0;
        let judge = &self.judges[self.clients[program].app_number];
        judge.borrow_mut().excuses.lost_devices.insert(user.clone());
        let node: Rc<Node> = node;
        self.spawn(0, async move { node.revoke(&*Arc::clone(&store), app, user, device).await });
    }

    /// All faults are over: the network carries, the disk works, everybody is there.
    fn heal(&mut self) {
        if let Some(store) = &self.store {
            store.trouble(|trouble| *trouble = crate::disk::Trouble::default());
        }
        if self.store.as_ref().is_some_and(|store| store.has_failed()) {
            self.restart_everything();
        }
        for node in 0..self.nodes.len() {
            self.start_node(node);
            for link in self.links(node) {
                link.borrow_mut().heal();
            }
        }
        let programs = self.plan.shape.programs.len();
        for (number, client) in self.clients.iter_mut().enumerate() {
            if number < programs {
                client.heal();
            } else {
                client.kill();
            }
        }
        self.is_healed();
        self.pass_lost_hints();
    }
}
