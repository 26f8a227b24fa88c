//! The numbers that name things, one type each, so that none is taken for another.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A tenant. In every key of the store: nothing crosses apps. Given by the store when the app's name is first seen.
    AppId(u32)
}
id! {
    /// A user's interned name, unique within the app and never reused.
    UserId(u64)
}
id! {
    /// One installation of a user, unique within the app and never reused: a device that comes back after it was
    /// expired or revoked carries a number that no longer exists. 0 is no device.
    DeviceId(u64)
}
id! {
    /// A conversation, unique within the app and never reused.
    ConversationId(u64)
}
id! {
    /// A place in a user's inbox: strictly increasing, not contiguous. 0 is before the first entry.
    Position(u64)
}
id! {
    /// A message's number in its conversation: 1, 2, 3 … without gaps. 0 is before the first message.
    Seq(u64)
}
id! {
    /// A device's own counter of what it sends: 1, 2, 3 … without gaps. 0 is before the first.
    SendId(u64)
}
