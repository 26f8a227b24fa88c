//! Memory is bounded: what sled has all of is forgotten when there is too much, oldest first.

use super::{Changed, State, hash_of_pair};

/// What an object takes in memory, in bytes, roughly.
const USER_BYTES: usize = 700;
const CONVERSATION_BYTES: usize = 250;

/// Objects looked at in one go, beside as many as were loaded since: whoever commits waits for it, and leaves no more behind
/// than there was.
const LOOKED_AT: usize = 64;

impl State {
    /// Forgets some of what can be read again, if there is too much. Nothing that was found before is where it was.
    pub(in super::super) fn evict(&mut self) {
        for _ in 0..LOOKED_AT + std::mem::take(&mut self.loaded) {
            if self.users.len() * USER_BYTES + self.conversations.len() * CONVERSATION_BYTES <= self.limit {
                return;
            }
            let Some(oldest) = self.evictable.pop_front() else { return };
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
