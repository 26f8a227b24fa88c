//! Memory is bounded: what sled has all of is forgotten when there is too much, oldest first.

use std::mem;

use super::{Changed, State, hash_of_pair};

/// What an object takes in memory, in bytes, roughly.
const USER_BYTES: usize = 700;
const CONVERSATION_BYTES: usize = 250;

/// Objects looked at in one go, beside as many as were loaded since: whoever commits waits for it, and leaves no more behind
/// than there was.
const LOOKED_AT: usize = 64;

impl State {
    /// Something was read from sled, and can be again.
    pub(super) fn note_loaded(&mut self, what: Changed) {
        self.let_go(what);
        self.loaded += 1;
    }

    /// Something may be forgotten if there is too much. It stands in line once, and there are never many more in line than
    /// there are in memory.
    pub(super) fn let_go(&mut self, what: Changed) {
        if mem::replace(self.in_line(what).unwrap_or(&mut true), true) {
            return;
        }
        self.evictable.push_back(what);
        if self.evictable.len() > 2 * (self.users.len() + self.conversations.len()) + LOOKED_AT {
            let mut line = mem::take(&mut self.evictable);
            line.retain(|what| self.in_line(*what).is_some());
            self.evictable = line;
        }
    }

    /// Whether something is in line; `None` when it is not in memory.
    fn in_line(&mut self, what: Changed) -> Option<&mut bool> {
        match what {
            Changed::App(_) => None,
            Changed::User(app, user) => {
                let at = self.users.find((app, user))?;
                Some(&mut self.users[at].in_line)
            }
            Changed::Conversation(app, conversation) => {
                let at = self.conversations.find((app, conversation))?;
                Some(&mut self.conversations[at].in_line)
            }
        }
    }

    /// Forgets some of what can be read again, if there is too much. Nothing that was found before is where it was.
    pub(in super::super) fn evict(&mut self) {
        for _ in 0..LOOKED_AT + mem::take(&mut self.loaded) {
            if self.users.len() * USER_BYTES + self.conversations.len() * CONVERSATION_BYTES <= self.limit {
                return;
            }
            let Some(oldest) = self.evictable.pop_front() else { return };
            if let Some(in_line) = self.in_line(oldest) {
                *in_line = false;
            }
            match oldest {
                Changed::User(app, user) => self.evict_user(app, user),
                Changed::Conversation(app, conversation) => self.evict_conversation((app, conversation)),
                Changed::App(_) => {}
            }
        }
    }

    /// What has changed since comes back here when sled has it.
    fn evict_user(&mut self, app: crate::ids::AppId, id: crate::ids::UserId) {
        let Some(at) = self.users.find((app, id)) else { return };
        let object = &self.users[at];
        if object.segment != 0 || object.group == self.group.number || !object.value.is_cool() {
            return;
        }
        if let Some(user) = self.users.remove((app, id)) {
            self.unname(app, at, &user.row.name);
        }
    }

    fn evict_conversation(&mut self, key: super::ConversationKey) {
        let Some(at) = self.conversations.find(key) else { return };
        let object = &self.conversations[at];
        if object.segment != 0 || object.group == self.group.number || object.value.fresh {
            return;
        }
        if let Some(conversation) = self.conversations.remove(key) {
            self.directs.remove(hash_of_pair(key.0, conversation.row.members), at);
        }
    }
}
