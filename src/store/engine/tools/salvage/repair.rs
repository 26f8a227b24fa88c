//! Makes what was saved fit together: every app has its users and conversations, every name its user, every number is
//! within its bounds.

use std::collections::{BTreeMap, BTreeSet};

use super::expired::LostExpiries;
use super::{Loss, Salvaged};
use crate::ids::{AppId, ConversationId, Seq, UserId};
use crate::store::StoreError;
use crate::store::engine::disk::Disk;
use crate::store::engine::keys;
use crate::store::engine::rows::{Answers, AppRow, ConversationRow, Number, Record, UserRow, seal};
use crate::store::{Answer, engine::rows::AnswerRow};

/// Numbers that are passed over where the last one given is lost: none is given twice.
const LOST_NUMBERS: u64 = 1_000_000;

/// Repairs every app.
///
/// `journal_is_whole`: whether all its groups were replayed.
pub(super) fn repair(disk: &Disk, journal_is_whole: bool, salvaged: &mut Salvaged) -> Result<(), StoreError> {
    let mut names = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for row in disk.scan_all() {
        let (key, _) = row?;
        ids.extend(keys::app_of(&key));
    }
    for row in disk.rows::<Number>(&keys::app_names()) {
        let (key, Number(id)) = row?;
        let name = String::from_utf8_lossy(&key[keys::app_name("").len()..]).into_owned();
        names.extend(u32::try_from(id).ok().map(|id| (AppId(id), name)));
    }
    ids.extend(names.keys().copied());
    ids.remove(&AppId(0));
    for app in ids {
        let found: Option<AppRow> = disk.get(&keys::app(app))?;
        let row = found.clone().unwrap_or_else(|| AppRow {
            name: names.get(&app).cloned().unwrap_or_else(|| format!("app-{app}")),
            ..AppRow::default()
        });
        let repair = Repair {
            disk,
            salvaged,
            app,
            users: BTreeMap::new(),
            lost_users: BTreeSet::new(),
            conversations: BTreeMap::new(),
            lacking: Vec::new(),
            lost_expiries: BTreeSet::new(),
            lost_sends: BTreeMap::new(),
            lost_conversations: BTreeSet::new(),
            journal_is_whole,
            row,
        };
        repair.app(found.is_none())?;
    }
    Ok(())
}

/// One app.
pub(super) struct Repair<'a> {
    pub disk: &'a Disk,
    pub salvaged: &'a mut Salvaged,
    pub app: AppId,
    pub row: AppRow,
    pub users: BTreeMap<UserId, UserRow>,
    /// Of these only the name is left.
    pub lost_users: BTreeSet<UserId>,
    pub conversations: BTreeMap<ConversationId, ConversationRow>,
    /// Inboxes in which something is lost.
    pub lacking: Vec<Lacking>,
    /// What users were told of expiry, and is lost before their devices took it.
    pub lost_expiries: LostExpiries,
    /// Of each user, the sends of which not even the answer is left, if they may have been lost with it.
    pub lost_sends: BTreeMap<UserId, u64>,
    /// Of these only the members are known.
    pub lost_conversations: BTreeSet<ConversationId>,
    pub journal_is_whole: bool,
}

/// An inbox in which something is lost.
pub(super) struct Lacking {
    pub user: UserId,
    pub loss: Loss,
    /// Messages of which it is known that they are not lost: those in the inbox, and the user's own.
    pub known: BTreeSet<(ConversationId, Seq)>,
    /// Whether messages are lost, or may be; else it is receipts alone.
    pub of_messages: bool,
    /// Whether something is lost, and not only may be.
    pub is_certain: bool,
}

impl Repair<'_> {
    fn app(mut self, is_lost: bool) -> Result<(), StoreError> {
        if is_lost {
            let what = "its row is lost: if its name is another, name it in the configuration as it is called here";
            self.lost(None, None, what);
        }
        self.users()?;
        self.conversations()?;
        for user in self.users.keys().copied().collect::<Vec<_>>() {
            self.inbox(user)?;
        }
        self.tell_missing();
        self.tell_lost()?;
        self.write_conversations()?;
        self.write_app(is_lost)
    }

    pub(super) fn lost(&mut self, user: Option<String>, conversation: Option<ConversationId>, what: &str) {
        let app = self.row.name.clone();
        let conversation = conversation.map(|id| id.0);
        self.salvaged.lost(Loss { app, user, conversation, what: what.to_owned(), ..Loss::default() });
    }

    /// Users with a row, and those of whom there is a name. What belongs to nobody goes.
    fn users(&mut self) -> Result<(), StoreError> {
        let app = self.app;
        for row in self.disk.rows::<UserRow>(&keys::users(app)) {
            let (key, row) = row?;
            self.users.extend(keys::user_of(&key).map(|user| (user, row)));
        }
        let prefix = keys::user_names(app);
        let mut names = Vec::new();
        for row in self.disk.rows::<Number>(&prefix) {
            let (key, Number(user)) = row?;
            names.push((String::from_utf8_lossy(&key[prefix.len()..]).into_owned(), UserId(user)));
        }
        let mut taken: BTreeMap<String, UserId> = BTreeMap::new();
        // The newer of two users of one name: the older one was removed.
        for (user, row) in &self.users {
            taken.insert(row.name.to_string(), *user);
        }
        for (name, user) in names {
            let is_lost = !self.users.contains_key(&user) && !taken.contains_key(&name);
            if is_lost {
                let row = UserRow { name: name.as_str().into(), ..UserRow::default() };
                taken.insert(name.clone(), user);
                self.users.insert(user, row);
                self.lost_users.insert(user);
                self.lost(Some(name), None, "the user's row is lost, with its devices: they must be enrolled again");
            } else if taken.get(&name) != Some(&user) {
                self.disk.write(&keys::user_name(app, &name), None)?;
            }
        }
        let older: Vec<UserId> =
            self.users.keys().copied().filter(|id| !taken.values().any(|kept| kept == id)).collect();
        for user in older {
            self.users.remove(&user);
            self.disk.write(&keys::user(app, user), None)?;
        }
        for (name, user) in &taken {
            self.put(&keys::user_name(app, name), &Number(user.0))?;
        }
        self.remove_strays()
    }

    fn remove_strays(&mut self) -> Result<(), StoreError> {
        let app = self.app;
        let mut nobody = BTreeSet::new();
        let owned = [keys::chunks, keys::ends, keys::pieces, keys::all_newest, keys::all_answers];
        for prefix in owned.map(|prefix| prefix(app)) {
            for row in self.disk.scan(&prefix, &keys::after_prefix(prefix.clone())) {
                let (key, _) = row?;
                let owner = keys::user_of(&key);
                if owner.is_none_or(|owner| !self.users.contains_key(&owner)) {
                    nobody.extend(owner);
                    self.disk.write(&key, None)?;
                }
            }
        }
        for user in nobody {
            let what =
                format!("user {user}, whose row and name are lost: the inbox, and what its devices were answered");
            self.lost(None, None, &what);
        }
        Ok(())
    }

    /// Conversations with a row, and those that two users lead to.
    fn conversations(&mut self) -> Result<(), StoreError> {
        let app = self.app;
        for row in self.disk.rows::<ConversationRow>(&keys::conversations(app)) {
            let (key, row) = row?;
            self.conversations.extend(keys::number(&key, 0).map(|id| (ConversationId(id), row)));
        }
        let mut directs = Vec::new();
        for row in self.disk.rows::<Number>(&keys::directs(app)) {
            let (key, Number(id)) = row?;
            directs
                .extend(keys::number(&key, 0).zip(keys::number(&key, 1)).map(|members| (ConversationId(id), members)));
        }
        for (id, (a, b)) in directs {
            let (a, b) = (UserId(a), UserId(b));
            match self.conversations.get(&id) {
                None => self.found_conversation(id, [a, b]),
                Some(row) if row.index(a).is_some() && row.other(a) == Some(b) => {}
                Some(_) => self.disk.write(&keys::direct(app, a, b), None)?,
            }
        }
        Ok(())
    }

    /// Members of conversations who are nobody. They were removed, or are lost with all that was theirs.
    fn tell_missing(&mut self) {
        if self.salvaged.damage_count == 0 {
            return;
        }
        let mut missing: BTreeMap<UserId, Vec<_>> = BTreeMap::new();
        for (id, row) in &self.conversations {
            for (member, marks) in row.members.iter().zip(row.marks) {
                if !self.users.contains_key(member) {
                    let undelivered =
                        (marks.delivered < row.head).then(|| (id.0, vec![(marks.delivered.0 + 1, row.head.0)]));
                    missing.entry(*member).or_default().extend(undelivered);
                }
            }
        }
        for (user, conversations) in missing {
            let what = format!(
                "user {user}, who has conversations and neither row nor name: removed, or lost with the inbox; of what was sent \
                 to the user and not delivered nobody is told"
            );
            let app = self.row.name.clone();
            self.salvaged.lost(Loss { app, what, conversations, ..Loss::default() });
        }
    }

    /// A conversation whose row is lost and whose members are known.
    pub(super) fn found_conversation(&mut self, id: ConversationId, members: [UserId; 2]) {
        let what =
            "its row is lost: it goes on 1,000,000 numbers after the highest that is left, and all receipts begin anew";
        self.lost(None, Some(id), what);
        self.lost_conversations.insert(id);
        self.conversations.insert(id, ConversationRow { members, ..ConversationRow::default() });
    }

    /// A message of this number was there.
    pub(super) fn seen(&mut self, id: ConversationId, seq: Seq) {
        if let Some(row) = self.conversations.get_mut(&id) {
            row.head = row.head.max(seq);
        }
    }

    fn write_conversations(&mut self) -> Result<(), StoreError> {
        for (id, row) in &mut self.conversations {
            if self.lost_conversations.contains(id) {
                // A number that is given again would be taken for delivered by whoever knows that of the first.
                row.head.0 += LOST_NUMBERS;
            }
            for marks in &mut row.marks {
                marks.delivered = marks.delivered.min(row.head);
                marks.wanted = marks.wanted.min(row.head);
                marks.read = marks.read.min(marks.delivered);
            }
            let [a, b] = row.members;
            for (key, value) in [
                (keys::conversation(self.app, *id), seal(&keys::conversation(self.app, *id), row)),
                (keys::direct(self.app, a, b), seal(&keys::direct(self.app, a, b), &Number(id.0))),
            ] {
                self.disk.write(&key, Some(&value))?;
            }
        }
        Ok(())
    }

    fn write_app(&mut self, is_lost: bool) -> Result<(), StoreError> {
        let app = self.app;
        let mut last_device = 0;
        for row in self.disk.scan(&keys::all_answers(app), &keys::after_prefix(keys::all_answers(app))) {
            last_device = last_device.max(keys::number(&row?.0, 1).unwrap_or(0));
        }
        for user in self.users.values() {
            last_device = user.devices.iter().map(|device| device.id.0).max().unwrap_or(0).max(last_device);
        }
        let passed = if is_lost { LOST_NUMBERS } else { 0 };
        let row = &mut self.row;
        row.users = self.users.len() as u64;
        let last_user = self.users.keys().next_back().map_or(0, |id| id.0);
        let last_conversation = self.conversations.keys().next_back().map_or(0, |id| id.0);
        row.last_user = row.last_user.max(last_user + passed);
        row.last_device = row.last_device.max(last_device + passed);
        row.last_conversation = row.last_conversation.max(last_conversation + passed);
        let row = row.clone();
        self.put(&keys::app(app), &row)?;
        self.put(&keys::app_name(&row.name), &Number(u64::from(app.0)))
    }

    pub(super) fn put(&self, key: &[u8], record: &impl Record) -> Result<(), StoreError> {
        self.disk.write(key, Some(&seal(key, record)))
    }
}

/// What lies between ascending numbers: above `after` and up to `up_to`, from and to, both of them included.
pub(super) fn gaps(after: u64, numbers: impl Iterator<Item = u64>, up_to: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut next = after + 1;
    for number in numbers.chain([up_to.saturating_add(1)]) {
        if number > next {
            gaps.push((next, number - 1));
        }
        next = next.max(number.saturating_add(1));
    }
    gaps
}

/// Answers that are there, and how far they say that conversations have got.
pub(super) fn acked(Answers(answers): &Answers) -> impl Iterator<Item = (ConversationId, Seq)> {
    answers.iter().filter_map(|AnswerRow { answer, .. }| match answer {
        Answer::Ack { conversation, seq, .. } => Some((*conversation, *seq)),
        Answer::Refused { .. } => None,
    })
}
