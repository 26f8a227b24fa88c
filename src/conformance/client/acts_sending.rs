//! Acts about what the client sends.

use std::time::Duration;

use postrider_protocol::wire;

use super::account::Account;
use super::acts::{acts, deliver_last, text};
use super::stage::{Answers, Gone, Stage};
use super::watch::SEND_WINDOW;

acts! {
    talk => "write to the client and take what it sends" ["SEND-1", "RCPT-6", "FRAME-7", "VER-5", "LIMIT-2"];
    refuse => "refuse a message" ["SEND-3"];
    window => "leave messages unanswered" ["SEND-6"];
    unheard => "cut the connection before we have heard a message" ["SEND-9", "CONN-10", "RCPT-10", "LOGIN-12", "LOGIN-16"];
    lost => "lose the answers to messages we have taken" ["SEND-9", "CONN-10"];
    again => "deliver again what was confirmed" ["DLVR-3"];
    unanswered => "end a connection before Hello is answered" ["CONN-10"];
}

/// How long a client may take to answer a message of the robot's.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What comes late, or twice, has come by then.
const SETTLE_TIME: Duration = Duration::from_millis(700);

/// Writes `count` messages, and waits for as many in return. How many came.
async fn ask(stage: &mut Stage<'_>, count: usize) -> usize {
    let before = stage.account.sent.len();
    for _ in 0..count {
        let number = stage.account.newest + 1;
        stage.account.message(text(&format!("[{number}] Please answer with the same text.")));
    }
    let from = stage.account.inbox.len() - count;
    stage.stream(from).await;
    stage.listen(ANSWER_TIME, |account, _| account.sent.len() >= before + count).await;
    stage.account.sent.len() - before
}

async fn talk(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.ready().await?;
    stage.was_asked = true;
    if ask(stage, 3).await == 0 {
        (stage.news)("the client sends nothing; let it answer each message with the same text, and more is tried");
    }
    stage.listen(SETTLE_TIME, |_, _| false).await;
    Ok(())
}

/// Whether there is anything to learn from asking.
async fn talks(stage: &mut Stage<'_>) -> Result<bool, Gone> {
    if !stage.was_asked {
        talk(stage).await?;
    }
    Ok(!stage.account.sent.is_empty())
}

async fn refuse(stage: &mut Stage<'_>) -> Result<(), Gone> {
    if !talks(stage).await? {
        return Ok(());
    }
    stage.ready().await?;
    stage.answers = Answers::RefuseOne;
    let before = stage.account.highest_used();
    let came = ask(stage, 3).await;
    stage.answers = Answers::AtOnce;
    stage.listen(SETTLE_TIME, |_, _| false).await;
    if came > 1 {
        // That the refused id comes no more is judged with every message; that others follow is seen here.
        let highest = stage.account.highest_used();
        stage.referee.judge("SEND-3", highest > before + 1, "the next message under the next send_id", || {
            format!("nothing above send_id {highest}")
        });
    }
    Ok(())
}

async fn window(stage: &mut Stage<'_>) -> Result<(), Gone> {
    if !talks(stage).await? {
        return Ok(());
    }
    stage.ready().await?;
    stage.answers = Answers::Unheard;
    let count = SEND_WINDOW + 4;
    ask(stage, SEND_WINDOW).await;
    let more = stage.account.inbox.len();
    for _ in 0..4 {
        let number = stage.account.newest + 1;
        stage.account.message(text(&format!("[{number}] Please answer, when there is room.")));
    }
    stage.stream(more).await;
    stage.listen(SETTLE_TIME, |_, _| false).await;
    stage.answer_all().await;
    stage.listen(ANSWER_TIME, |account, watch| account.sent.len() >= count && watch.unanswered.is_empty()).await;
    Ok(())
}

/// The messages of this connection are as if they had never come; they must come again.
async fn unheard(stage: &mut Stage<'_>) -> Result<(), Gone> {
    if !talks(stage).await? {
        return Ok(());
    }
    stage.stand().await?;
    stage.answers = Answers::Unheard;
    let came = ask(stage, 3).await;
    stage.cut();
    stage.answers = Answers::AtOnce;
    stage.come_back(0, Vec::new()).await?;
    all_came_again(stage, came, "CONN-10").await;
    Ok(())
}

/// The messages were taken, and the client does not know.
async fn lost(stage: &mut Stage<'_>) -> Result<(), Gone> {
    if !talks(stage).await? {
        return Ok(());
    }
    stage.stand().await?;
    let before = stage.account.highest_used();
    stage.answers = Answers::Lost;
    let came = ask(stage, 3).await;
    stage.cut();
    stage.answers = Answers::AtOnce;
    let lost: Vec<u64> = (before + 1..=stage.account.highest_used()).collect();
    stage.come_back(0, lost).await?;
    all_came_again(stage, came, "CONN-10").await;
    Ok(())
}

async fn all_came_again(stage: &mut Stage<'_>, came: usize, id: &'static str) {
    if came == 0 {
        return;
    }
    let all = stage.listen(ANSWER_TIME, |_, watch| watch.due_again.is_empty()).await;
    for id in ["SEND-9", id] {
        stage.referee.judge(id, all, "every message without an answer again", || "not all of them".into());
    }
    stage.listen(SETTLE_TIME, |_, _| false).await;
}

/// Streams from before the cursor: the client has taken it all, and must neither show it again nor choke.
async fn again(stage: &mut Stage<'_>) -> Result<(), Gone> {
    const REPEATED: usize = 5;
    talks(stage).await?;
    stage.stand().await?;
    stage.account.message(text("[again] This message comes twice; answer it once."));
    deliver_last(stage, 1).await;
    stage.listen(SETTLE_TIME, |_, _| false).await;
    let answers = answers_to(&stage.account, b"[again]");
    stage.cut();
    stage.come_back(REPEATED, Vec::new()).await?;
    let head = stage.account.head();
    stage.account.confirmed = 0;
    let confirmed = stage.listen(ANSWER_TIME, |account, _| account.confirmed >= head).await;
    stage.listen(SETTLE_TIME, |_, _| false).await;
    stage.account.confirmed = head;
    stage.referee.judge("DLVR-3", confirmed, "repeated entries to be confirmed again", || "no confirmation".into());
    let now = answers_to(&stage.account, b"[again]");
    if answers > 0 {
        stage.referee.judge("DLVR-3", now == answers, "no second answer to a repeated message", || {
            format!("{now} answers to one message")
        });
    }
    Ok(())
}

/// How many messages of the client have these bytes in them.
fn answers_to(account: &Account, token: &[u8]) -> usize {
    let has = |send: &wire::Send| send.content.windows(token.len()).any(|part| part == token);
    account.sent.values().filter(|sent| has(&sent.send)).count()
}

/// The connection ends before `Hello` is answered: that tells the client nothing, and it tries again.
async fn unanswered(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.stand().await?;
    stage.cut();
    let (line, _) = stage.arrival().await?;
    drop(line);
    let back = stage.come_back(0, Vec::new()).await;
    stage.referee.judge("CONN-10", back.is_ok(), "another try", || "none".into());
    back
}
