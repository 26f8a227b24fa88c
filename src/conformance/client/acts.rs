//! What happens to the client, one act after the other, and what must come of it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider_protocol::limits;
use postrider_protocol::wire::{self, deliver, hello};
use prost::Message as _;

use super::account::{CONVERSATION, ROBOT};
use super::odd;
use super::stage::{Gone, Stage};
use super::{acts_broken, acts_sending};

/// One act.
pub struct Act {
    /// The requirements it is there for; others are judged by the way.
    pub requirements: &'static [&'static str],
    /// What happens, as in "while we …".
    pub doing: &'static str,
    /// Plays it; fails when the client is gone for good.
    pub play: for<'s, 'a> fn(&'s mut Stage<'a>) -> BoxFuture<'s, Result<(), Gone>>,
}

/// A table of acts: the function, what happens, and the requirements.
macro_rules! acts {
    ($($function:ident => $doing:literal [$($id:literal),+];)+) => {
        pub(super) const ACTS: &[$crate::conformance::client::acts::Act] =
            &[$($crate::conformance::client::acts::Act {
                doing: $doing,
                requirements: &[$($id),+],
                play: |stage| Box::pin($function(stage)),
            }),+];
    };
}
pub(super) use acts;

acts! {
    first_login => "wait for the first login" ["LOGIN-1", "LOGIN-5", "LOGIN-6", "LOGIN-10", "LOGIN-18", "VER-1"];
    pieces => "write frames byte by byte, and many at once" ["FRAME-1", "DLVR-10", "DLVR-5"];
    unknown => "speak of things of a later version" ["VER-2", "VER-3", "VER-4", "DLVR-7", "CONTENT-3"];
    large => "deliver a message of nearly 1 MiB" ["LIMIT-3"];
    receipts => "repeat receipts, and let them go back" ["RCPT-2"];
}

/// All acts, in the order in which they are played.
pub fn all() -> impl Iterator<Item = &'static Act> {
    [ACTS, acts_sending::ACTS, acts_broken::ACTS].into_iter().flatten()
}

/// How soon a client should have confirmed (DLVR-10).
const SOON: Duration = Duration::from_secs(5);

/// Waits until everything in the inbox is confirmed.
pub async fn all_confirmed(stage: &mut Stage<'_>) -> bool {
    let head = stage.account.head();
    let mut confirmed = stage.listen(SOON, |account, _| account.confirmed >= head).await;
    stage.referee.judge("DLVR-10", confirmed, "a confirmation within 5 s", || "none".into());
    if !confirmed && stage.is_connected() {
        confirmed = stage.listen(stage.patience, |account, _| account.confirmed >= head).await;
    }
    confirmed
}

/// A message of the robot's, as it goes over the wire.
pub fn text(words: &str) -> Vec<u8> {
    wire::Content { kind: Some(wire::content::Kind::Text(words.to_owned())) }.encode_to_vec()
}

/// The first login is cut off if it enrols, so that it must come again (LOGIN-10).
async fn first_login(stage: &mut Stage<'_>) -> Result<(), Gone> {
    let (mut line, hello) = stage.arrival().await?;
    if !matches!(hello.method, Some(hello::Method::Enroll(_))) {
        return stage.enter(line, hello, 0, Vec::new()).await;
    }
    let proved = stage.prove(&mut line, &hello).await.is_ok();
    drop(line);
    if proved {
        stage.was_started_again = true;
        let (mut line, again) = stage.arrival().await?;
        let same = again.method == hello.method && stage.prove(&mut line, &again).await.is_ok();
        stage
            .referee
            .judge("LOGIN-10", same, "the same enrolment again, until Welcome comes", || "another login".into());
    }
    stage.was_started_again = true;
    stage.come_back(0, Vec::new()).await
}

async fn pieces(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.ready().await?;
    let first = stage.account.inbox.len();
    stage.account.message(text("This message comes byte by byte."));
    stage.streamed_all();
    let bytes = stage.account.inbox[first].frame.clone();
    for byte in &bytes {
        stage.write(&[*byte]).await;
    }
    let alone = all_confirmed(stage).await;
    stage.ready().await?;
    let first = stage.account.inbox.len();
    for number in 1..=20 {
        stage.account.message(text(&format!("Message {number} of 20 that come at once.")));
    }
    stage.stream(first).await;
    let together = all_confirmed(stage).await;
    let came = || format!("one by one {}, together {}", said(alone), said(together));
    stage.referee.judge("FRAME-1", alone && together, "both confirmed", came);
    Ok(())
}

fn said(confirmed: bool) -> &'static str {
    if confirmed { "confirmed" } else { "not confirmed" }
}

async fn unknown(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.ready().await?;
    stage.write(&odd::unknown_body()).await;
    stage.account.message(text("A frame of an unknown kind came before this message."));
    let survives = deliver_last(stage, 1).await;
    stage
        .referee
        .judge("VER-3", survives, "the frame to be ignored", || "no confirmation of what came after it".into());

    stage.ready().await?;
    stage.account.raw_entry(odd::unknown_entry);
    let confirmed = deliver_last(stage, 1).await;
    for id in ["VER-4", "DLVR-7"] {
        stage.referee.judge(id, confirmed, "an entry of an unknown kind to be confirmed", || "no confirmation".into());
    }

    stage.ready().await?;
    let message = wire::Message {
        conversation: CONVERSATION,
        seq: stage.account.newest,
        sender: ROBOT.into(),
        recipient: String::new(),
        time: 1,
        content: text("This message has fields of a later version.").into(),
    };
    stage.account.raw_entry(|position| odd::with_unknown_fields(position, &message.encode_to_vec()));
    let confirmed = deliver_last(stage, 1).await;
    stage.referee.judge("VER-2", confirmed, "unknown fields to be ignored", || "no confirmation".into());

    for content in [&b""[..], b"\xff\xfe\x00 no Content", odd::NEW_CONTENT, b"\x0a\x02\xff\xfe"] {
        stage.ready().await?;
        stage.account.message(content.to_vec());
        let confirmed = deliver_last(stage, 1).await;
        stage.referee.judge("CONTENT-3", confirmed, "any content to be taken and confirmed", || {
            format!("no confirmation of {content:x?}")
        });
    }
    Ok(())
}

/// Streams the newest entries and waits for their confirmation.
pub async fn deliver_last(stage: &mut Stage<'_>, count: usize) -> bool {
    let from = stage.account.inbox.len() - count;
    stage.stream(from).await;
    all_confirmed(stage).await
}

async fn large(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.ready().await?;
    let words = "x".repeat(limits::MAX_FRAME_BYTES - limits::FRAME_OVERHEAD_BYTES);
    stage.account.message(text(&words));
    let confirmed = deliver_last(stage, 1).await;
    stage.referee.judge("LIMIT-3", confirmed, "a frame of up to 1 MiB to be taken", || "no confirmation".into());
    Ok(())
}

async fn receipts(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.ready().await?;
    let newest = stage.account.newest;
    let receipt = |seq| wire::Receipt { conversation: CONVERSATION, user: ROBOT.into(), seq };
    let entries = [
        deliver::Entry::Delivered(receipt(newest)),
        deliver::Entry::Delivered(receipt(newest)),
        deliver::Entry::Delivered(receipt(1)),
        deliver::Entry::Read(receipt(newest)),
        deliver::Entry::Read(receipt(1)),
        deliver::Entry::Expired(receipt(1)),
    ];
    let count = entries.len();
    for entry in entries {
        stage.account.entry(entry, None);
    }
    let confirmed = deliver_last(stage, count).await;
    stage
        .referee
        .judge("RCPT-2", confirmed, "repeated receipts to be taken and confirmed", || "no confirmation".into());
    Ok(())
}
