//! Acts about connections that break, and how the client returns.

use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::limits;
use postrider_protocol::wire;
use postrider_protocol::wire::server_frame::Body;
use rustls::ServerConfig;

use super::acts::acts;
use super::stage::{Gone, Stage};
use super::watch::IDLE_TIMEOUT_MS;
use crate::conformance::link::{Link, NoFrame};

acts! {
    empty_frame => "send a frame of length 0" ["FRAME-2"];
    huge_frame => "send a frame of more than 1 MiB" ["FRAME-3"];
    garbage => "send bytes that are no protobuf" ["FRAME-5"];
    later => "say an error of a later version, with retry and a delay" ["ERR-3", "CONN-8"];
    silence => "say nothing for a while" ["CONN-1"];
    dead_line => "answer nothing at all, as a dead line" ["CONN-5"];
    no_alpn => "agree to no protocol name" ["TLS-2"];
    stranger => "show a certificate of another authority" ["TLS-3"];
    replaced => "say REPLACED" ["CONN-4"];
}

/// How long the client must wait at least in `later`.
const DELAY: Duration = Duration::from_millis(1_500);

/// A code that version 1 does not have.
const LATER_CODE: u32 = 999;

/// A client that has not hung up by then does not.
const HANG_UP_TIME: Duration = Duration::from_secs(5);

/// A client that is not to come back and has not come by then does not.
const STAYS_AWAY_TIME: Duration = Duration::from_secs(4);

/// Writes what no server may, and waits for the client to hang up and to come back.
async fn malformed(stage: &mut Stage<'_>, id: &'static str, bytes: &[u8]) -> Result<(), Gone> {
    stage.stand().await?;
    stage.write(bytes).await;
    stage.listen(HANG_UP_TIME, |_, _| false).await;
    let hung_up = !stage.is_connected();
    stage.referee.judge(id, hung_up, "the connection to be closed", || "it stays open".into());
    stage.cut();
    stage.ready().await
}

async fn empty_frame(stage: &mut Stage<'_>) -> Result<(), Gone> {
    malformed(stage, "FRAME-2", &[0; 4]).await
}

async fn huge_frame(stage: &mut Stage<'_>) -> Result<(), Gone> {
    let length = u32::try_from(limits::MAX_FRAME_BYTES).unwrap_or(u32::MAX) + 1;
    malformed(stage, "FRAME-3", &length.to_be_bytes()).await
}

async fn garbage(stage: &mut Stage<'_>) -> Result<(), Gone> {
    malformed(stage, "FRAME-5", b"\0\0\0\x05hello").await
}

async fn later(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.stand().await?;
    let error = wire::Error {
        code: LATER_CODE,
        name: "SOMETHING_NEW".into(),
        detail: "an error that version 1 does not have; come back in a moment".into(),
        retry: true,
        closes: true,
        retry_after_ms: u32::try_from(DELAY.as_millis()).unwrap_or(0),
    };
    stage.say(Body::Error(error)).await;
    stage.hang_up().await;
    let closed = stage.clock.elapsed();
    let back = stage.arrival().await;
    let waited = stage.clock.elapsed().saturating_sub(closed);
    stage.referee.judge("ERR-3", back.is_ok(), "the client back, as the error's flags say", || "nobody".into());
    let (line, hello) = back?;
    stage.referee.judge("CONN-8", waited >= DELAY, "at least retry_after_ms (1500) before the next connection", || {
        format!("{} ms", waited.as_millis())
    });
    stage.enter(line, hello, 0, Vec::new()).await
}

/// The gap between two frames of the client is judged all the time; here nothing else makes it speak.
async fn silence(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.ready().await?;
    let time = Duration::from_millis(u64::from(IDLE_TIMEOUT_MS) * 2);
    stage.listen(time, |_, _| false).await;
    let is_there = stage.is_connected();
    stage.heard_last();
    stage.referee.judge("CONN-1", is_there, "an idle connection kept open by pings", || "the end".into());
    Ok(())
}

async fn dead_line(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.stand().await?;
    stage.is_mute = true;
    // A ping after a third or so of the time, and then the whole of it without anything.
    let time = Duration::from_millis(u64::from(IDLE_TIMEOUT_MS) * 3);
    stage.listen(time, |_, _| false).await;
    stage.is_mute = false;
    let gave_up = !stage.is_connected();
    stage.referee.judge("CONN-5", gave_up, "the dead connection to be given up", || {
        format!("it is still held {} ms later", time.as_millis())
    });
    stage.cut();
    stage.ready().await
}

/// TLS with this configuration; whether the client went on to say anything.
async fn says_something(stage: &mut Stage<'_>, config: Arc<ServerConfig>) -> Result<bool, Gone> {
    stage.stand().await?;
    stage.cut();
    let tcp = stage.tcp().await?;
    stage.was_started_again = true;
    let Ok(stream) = stage.tls(config, tcp).await else { return Ok(false) };
    let mut line = Link::new(stream);
    match line.next(limits::MAX_FRAME_BYTES, HANG_UP_TIME).await {
        Ok(_) | Err(NoFrame::Malformed(_)) => Ok(true),
        Err(NoFrame::Silence) => Ok(false),
        Err(NoFrame::End | NoFrame::Broken(_)) => Ok(line.leftover() > 0),
    }
}

async fn no_alpn(stage: &mut Stage<'_>) -> Result<(), Gone> {
    let mut config = ServerConfig::clone(&stage.config);
    config.alpn_protocols.clear();
    let spoke = says_something(stage, Arc::new(config)).await?;
    stage.referee.judge("TLS-2", !spoke, "no frame to a server that did not agree to postrider/1", || "a frame".into());
    (stage.news)("start the client again if it has ended: it was right to");
    stage.ready().await
}

async fn stranger(stage: &mut Stage<'_>) -> Result<(), Gone> {
    let config = Arc::clone(&stage.stranger);
    let spoke = says_something(stage, config).await?;
    stage.referee.judge("TLS-3", !spoke, "no frame to a server that could not be verified", || "a frame".into());
    (stage.news)("start the client again if it has ended: it was right to");
    stage.ready().await
}

async fn replaced(stage: &mut Stage<'_>) -> Result<(), Gone> {
    stage.stand().await?;
    (stage.news)("do not start the client again any more: it must stay away now");
    stage.say(Body::Error(CodedError::new(ErrorCode::Replaced).to_wire())).await;
    stage.hang_up().await;
    let patience = std::mem::replace(&mut stage.patience, STAYS_AWAY_TIME);
    let back = stage.arrival().await.is_ok();
    stage.patience = patience;
    stage.referee.judge("CONN-4", !back, "no connection after REPLACED", || "another connection".into());
    Ok(())
}
