// Made from errors.toml; change that file.

/// Every error the protocol can speak; SPEC.md has the same table (ERR-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// The bytes are not a valid frame: not protobuf, no known body, or a field out of its bounds.
    BadFrame = 100,
    /// A length prefix is above the limit in force: 8 KiB before login, `max_frame_bytes` after it.
    FrameTooLarge = 101,
    /// A length prefix is zero.
    FrameEmpty = 102,
    /// The server does not speak the version in `Hello`.
    UnsupportedVersion = 103,
    /// A frame other than the expected login frame arrived before `Welcome`.
    LoginRequired = 104,
    /// A second `Hello` or a late `Proof` arrived on a connection that is logged in.
    AlreadyLoggedIn = 105,
    /// The connection sent nothing for `idle_timeout_ms`.
    IdleTimeout = 106,
    /// The login was not finished in time.
    LoginTimeout = 107,
    /// A newer connection of the same device has taken over.
    Replaced = 108,
    /// The server is stopping or restarting.
    ShuttingDown = 109,
    /// The server has no room for another connection or request.
    Overloaded = 110,
    /// The client has more requests waiting for answers than the limits allow.
    TooManyRequests = 111,
    /// The user, device, key or code is not right, or the device was revoked or expired; which one is not told.
    LoginFailed = 200,
    /// The server has no app of this name.
    UnknownApp = 201,
    /// The app does not allow this login method, or `Hello` names none that the server knows.
    MethodNotAllowed = 202,
    /// A user or device name is empty, longer than 64 bytes, or has control characters or some that steer the direction of text.
    BadName = 203,
    /// The device was unseen for longer than the retention, or revoked; what waited for it alone is gone.
    DeviceExpired = 204,
    /// The user has as many devices as the limit allows.
    TooManyDevices = 205,
    /// `Hello.cursor` is above every position the server ever gave to this inbox.
    CursorAhead = 206,
    /// Too many logins from this address have failed of late; this one was not looked at.
    TooManyAttempts = 207,
    /// The recipient is unknown or does not accept messages from this user; which one is not told.
    NotAccepted = 300,
    /// The content is longer than the limit.
    ContentTooLarge = 301,
    /// `Send` names no recipient, or a name that no user can have.
    BadRecipient = 302,
    /// The recipient's inbox holds as many undelivered entries as the limit allows.
    InboxFull = 303,
    /// This `send_id` was used before, for another message.
    SendIdReused = 304,
    /// This `send_id` is not the one after the highest that was answered.
    SendIdGap = 305,
    /// This `send_id` is so old that its answer is no longer kept.
    SendIdTooOld = 306,
    /// `received` confirms a position that was never delivered to this device.
    PositionNotDelivered = 400,
    /// `Read` names a conversation that this user is not in.
    UnknownConversation = 401,
    /// `Read` names a `seq` above the newest message of the conversation.
    SeqNotSent = 402,
    /// The app's login methods have no use for a link code.
    LinkNotAllowed = 403,
    /// The server failed; the operator's log says how.
    Internal = 500,
    /// The server cannot write to its storage, so it acknowledges nothing.
    StoreUnavailable = 501,
}

impl ErrorCode {
    /// Every code, in the order of their numbers.
    pub const ALL: &[ErrorCode] = &[
        ErrorCode::BadFrame,
        ErrorCode::FrameTooLarge,
        ErrorCode::FrameEmpty,
        ErrorCode::UnsupportedVersion,
        ErrorCode::LoginRequired,
        ErrorCode::AlreadyLoggedIn,
        ErrorCode::IdleTimeout,
        ErrorCode::LoginTimeout,
        ErrorCode::Replaced,
        ErrorCode::ShuttingDown,
        ErrorCode::Overloaded,
        ErrorCode::TooManyRequests,
        ErrorCode::LoginFailed,
        ErrorCode::UnknownApp,
        ErrorCode::MethodNotAllowed,
        ErrorCode::BadName,
        ErrorCode::DeviceExpired,
        ErrorCode::TooManyDevices,
        ErrorCode::CursorAhead,
        ErrorCode::TooManyAttempts,
        ErrorCode::NotAccepted,
        ErrorCode::ContentTooLarge,
        ErrorCode::BadRecipient,
        ErrorCode::InboxFull,
        ErrorCode::SendIdReused,
        ErrorCode::SendIdGap,
        ErrorCode::SendIdTooOld,
        ErrorCode::PositionNotDelivered,
        ErrorCode::UnknownConversation,
        ErrorCode::SeqNotSent,
        ErrorCode::LinkNotAllowed,
        ErrorCode::Internal,
        ErrorCode::StoreUnavailable,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ErrorCode::BadFrame => "BAD_FRAME",
            ErrorCode::FrameTooLarge => "FRAME_TOO_LARGE",
            ErrorCode::FrameEmpty => "FRAME_EMPTY",
            ErrorCode::UnsupportedVersion => "UNSUPPORTED_VERSION",
            ErrorCode::LoginRequired => "LOGIN_REQUIRED",
            ErrorCode::AlreadyLoggedIn => "ALREADY_LOGGED_IN",
            ErrorCode::IdleTimeout => "IDLE_TIMEOUT",
            ErrorCode::LoginTimeout => "LOGIN_TIMEOUT",
            ErrorCode::Replaced => "REPLACED",
            ErrorCode::ShuttingDown => "SHUTTING_DOWN",
            ErrorCode::Overloaded => "OVERLOADED",
            ErrorCode::TooManyRequests => "TOO_MANY_REQUESTS",
            ErrorCode::LoginFailed => "LOGIN_FAILED",
            ErrorCode::UnknownApp => "UNKNOWN_APP",
            ErrorCode::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            ErrorCode::BadName => "BAD_NAME",
            ErrorCode::DeviceExpired => "DEVICE_EXPIRED",
            ErrorCode::TooManyDevices => "TOO_MANY_DEVICES",
            ErrorCode::CursorAhead => "CURSOR_AHEAD",
            ErrorCode::TooManyAttempts => "TOO_MANY_ATTEMPTS",
            ErrorCode::NotAccepted => "NOT_ACCEPTED",
            ErrorCode::ContentTooLarge => "CONTENT_TOO_LARGE",
            ErrorCode::BadRecipient => "BAD_RECIPIENT",
            ErrorCode::InboxFull => "INBOX_FULL",
            ErrorCode::SendIdReused => "SEND_ID_REUSED",
            ErrorCode::SendIdGap => "SEND_ID_GAP",
            ErrorCode::SendIdTooOld => "SEND_ID_TOO_OLD",
            ErrorCode::PositionNotDelivered => "POSITION_NOT_DELIVERED",
            ErrorCode::UnknownConversation => "UNKNOWN_CONVERSATION",
            ErrorCode::SeqNotSent => "SEQ_NOT_SENT",
            ErrorCode::LinkNotAllowed => "LINK_NOT_ALLOWED",
            ErrorCode::Internal => "INTERNAL",
            ErrorCode::StoreUnavailable => "STORE_UNAVAILABLE",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retry(self) -> bool {
        match self {
            ErrorCode::BadFrame => false,
            ErrorCode::FrameTooLarge => false,
            ErrorCode::FrameEmpty => false,
            ErrorCode::UnsupportedVersion => false,
            ErrorCode::LoginRequired => false,
            ErrorCode::AlreadyLoggedIn => false,
            ErrorCode::IdleTimeout => true,
            ErrorCode::LoginTimeout => true,
            ErrorCode::Replaced => false,
            ErrorCode::ShuttingDown => true,
            ErrorCode::Overloaded => true,
            ErrorCode::TooManyRequests => true,
            ErrorCode::LoginFailed => false,
            ErrorCode::UnknownApp => false,
            ErrorCode::MethodNotAllowed => false,
            ErrorCode::BadName => false,
            ErrorCode::DeviceExpired => false,
            ErrorCode::TooManyDevices => false,
            ErrorCode::CursorAhead => false,
            ErrorCode::TooManyAttempts => true,
            ErrorCode::NotAccepted => false,
            ErrorCode::ContentTooLarge => false,
            ErrorCode::BadRecipient => false,
            ErrorCode::InboxFull => true,
            ErrorCode::SendIdReused => false,
            ErrorCode::SendIdGap => false,
            ErrorCode::SendIdTooOld => false,
            ErrorCode::PositionNotDelivered => false,
            ErrorCode::UnknownConversation => false,
            ErrorCode::SeqNotSent => false,
            ErrorCode::LinkNotAllowed => false,
            ErrorCode::Internal => true,
            ErrorCode::StoreUnavailable => true,
        }
    }

    /// Whether the server closes the connection.
    #[must_use]
    pub const fn closes(self) -> bool {
        match self {
            ErrorCode::BadFrame => true,
            ErrorCode::FrameTooLarge => true,
            ErrorCode::FrameEmpty => true,
            ErrorCode::UnsupportedVersion => true,
            ErrorCode::LoginRequired => true,
            ErrorCode::AlreadyLoggedIn => true,
            ErrorCode::IdleTimeout => true,
            ErrorCode::LoginTimeout => true,
            ErrorCode::Replaced => true,
            ErrorCode::ShuttingDown => true,
            ErrorCode::Overloaded => true,
            ErrorCode::TooManyRequests => true,
            ErrorCode::LoginFailed => true,
            ErrorCode::UnknownApp => true,
            ErrorCode::MethodNotAllowed => true,
            ErrorCode::BadName => true,
            ErrorCode::DeviceExpired => true,
            ErrorCode::TooManyDevices => true,
            ErrorCode::CursorAhead => true,
            ErrorCode::TooManyAttempts => true,
            ErrorCode::NotAccepted => false,
            ErrorCode::ContentTooLarge => false,
            ErrorCode::BadRecipient => false,
            ErrorCode::InboxFull => false,
            ErrorCode::SendIdReused => true,
            ErrorCode::SendIdGap => true,
            ErrorCode::SendIdTooOld => true,
            ErrorCode::PositionNotDelivered => true,
            ErrorCode::UnknownConversation => true,
            ErrorCode::SeqNotSent => true,
            ErrorCode::LinkNotAllowed => false,
            ErrorCode::Internal => true,
            ErrorCode::StoreUnavailable => true,
        }
    }

    /// What happened, in a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            ErrorCode::BadFrame => "The bytes are not a valid frame: not protobuf, no known body, or a field out of its bounds.",
            ErrorCode::FrameTooLarge => "A length prefix is above the limit in force: 8 KiB before login, `max_frame_bytes` after it.",
            ErrorCode::FrameEmpty => "A length prefix is zero.",
            ErrorCode::UnsupportedVersion => "The server does not speak the version in `Hello`.",
            ErrorCode::LoginRequired => "A frame other than the expected login frame arrived before `Welcome`.",
            ErrorCode::AlreadyLoggedIn => "A second `Hello` or a late `Proof` arrived on a connection that is logged in.",
            ErrorCode::IdleTimeout => "The connection sent nothing for `idle_timeout_ms`.",
            ErrorCode::LoginTimeout => "The login was not finished in time.",
            ErrorCode::Replaced => "A newer connection of the same device has taken over.",
            ErrorCode::ShuttingDown => "The server is stopping or restarting.",
            ErrorCode::Overloaded => "The server has no room for another connection or request.",
            ErrorCode::TooManyRequests => "The client has more requests waiting for answers than the limits allow.",
            ErrorCode::LoginFailed => "The user, device, key or code is not right, or the device was revoked or expired; which one is not told.",
            ErrorCode::UnknownApp => "The server has no app of this name.",
            ErrorCode::MethodNotAllowed => "The app does not allow this login method, or `Hello` names none that the server knows.",
            ErrorCode::BadName => "A user or device name is empty, longer than 64 bytes, or has control characters or some that steer the direction of text.",
            ErrorCode::DeviceExpired => "The device was unseen for longer than the retention, or revoked; what waited for it alone is gone.",
            ErrorCode::TooManyDevices => "The user has as many devices as the limit allows.",
            ErrorCode::CursorAhead => "`Hello.cursor` is above every position the server ever gave to this inbox.",
            ErrorCode::TooManyAttempts => "Too many logins from this address have failed of late; this one was not looked at.",
            ErrorCode::NotAccepted => "The recipient is unknown or does not accept messages from this user; which one is not told.",
            ErrorCode::ContentTooLarge => "The content is longer than the limit.",
            ErrorCode::BadRecipient => "`Send` names no recipient, or a name that no user can have.",
            ErrorCode::InboxFull => "The recipient's inbox holds as many undelivered entries as the limit allows.",
            ErrorCode::SendIdReused => "This `send_id` was used before, for another message.",
            ErrorCode::SendIdGap => "This `send_id` is not the one after the highest that was answered.",
            ErrorCode::SendIdTooOld => "This `send_id` is so old that its answer is no longer kept.",
            ErrorCode::PositionNotDelivered => "`received` confirms a position that was never delivered to this device.",
            ErrorCode::UnknownConversation => "`Read` names a conversation that this user is not in.",
            ErrorCode::SeqNotSent => "`Read` names a `seq` above the newest message of the conversation.",
            ErrorCode::LinkNotAllowed => "The app's login methods have no use for a link code.",
            ErrorCode::Internal => "The server failed; the operator's log says how.",
            ErrorCode::StoreUnavailable => "The server cannot write to its storage, so it acknowledges nothing.",
        }
    }

    /// What the client does, in a sentence.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            ErrorCode::BadFrame => "Fix the client; `detail` names the field.",
            ErrorCode::FrameTooLarge => "Send smaller frames.",
            ErrorCode::FrameEmpty => "Fix the client; every frame has at least one byte.",
            ErrorCode::UnsupportedVersion => "Log in with a version that `detail` lists.",
            ErrorCode::LoginRequired => "Send `Hello` first, and `Proof` only after `Challenge`.",
            ErrorCode::AlreadyLoggedIn => "Open another connection for another login.",
            ErrorCode::IdleTimeout => "Reconnect, and ping in time.",
            ErrorCode::LoginTimeout => "Reconnect.",
            ErrorCode::Replaced => "Do nothing: the newer connection has everything.",
            ErrorCode::ShuttingDown => "Reconnect after `retry_after_ms`.",
            ErrorCode::Overloaded => "Reconnect after `retry_after_ms`, with backoff.",
            ErrorCode::TooManyRequests => "Keep within `send_window` and wait for answers.",
            ErrorCode::LoginFailed => "Check the names and the credential. A code works once and expires; a device that is gone enrols anew.",
            ErrorCode::UnknownApp => "Check the app's name with the operator.",
            ErrorCode::MethodNotAllowed => "Use one of the methods that `detail` lists.",
            ErrorCode::BadName => "Use 1 to 64 bytes of UTF-8 as NAME-1 allows.",
            ErrorCode::DeviceExpired => "Forget the device's state and log in as a new device: with `device_id` 0 by open login, or with a new code.",
            ErrorCode::TooManyDevices => "Revoke a device that is no longer used.",
            ErrorCode::CursorAhead => "The client's state belongs to another server or data directory: forget it and log in as a new device.",
            ErrorCode::TooManyAttempts => "Log in again after `retry_after_ms`, with a credential that is right.",
            ErrorCode::NotAccepted => "Check the recipient's name.",
            ErrorCode::ContentTooLarge => "Send less, or send a reference.",
            ErrorCode::BadRecipient => "Fix the client.",
            ErrorCode::InboxFull => "Send again later, under a new `send_id`.",
            ErrorCode::SendIdReused => "Fix the client: each message takes the next id, and keeps it.",
            ErrorCode::SendIdGap => "Continue from `highest_send_id` plus one; send in order.",
            ErrorCode::SendIdTooOld => "Fix the client: never keep more than `send_window` messages unanswered.",
            ErrorCode::PositionNotDelivered => "Fix the client: confirm only positions that `Deliver` carried.",
            ErrorCode::UnknownConversation => "Fix the client.",
            ErrorCode::SeqNotSent => "Fix the client.",
            ErrorCode::LinkNotAllowed => "Log in on the other device directly.",
            ErrorCode::Internal => "Reconnect with backoff.",
            ErrorCode::StoreUnavailable => "Reconnect with backoff; what was not acked was not taken.",
        }
    }
}
