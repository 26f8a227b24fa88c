//! What `Welcome` promises, and the bounds it names.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits;
use postrider_protocol::wire::{self, client_frame};

use super::peer::user;
use super::world::{DEVICE, World};
use super::{Verdict, checks, must};

checks! { "Limits":
    welcome => "Welcome is filled, and its limits are within the table" ["LOGIN-17", "LIMIT-1"];
    longest_content => "Content of the longest length is taken, and one byte more is refused" ["LIMIT-4", "SEND-3"];
    window_of_sends => "Too many unanswered sends are answered in order as far as they go, then TOO_MANY_REQUESTS" ["SEND-6", "SEND-2"];
}

async fn welcome(world: &World) -> Verdict {
    let peer = world.login(&world.user("welcome"), DEVICE).await?;
    let welcome = &peer.welcome;
    let within = |what: &str, value: u32, least: usize, most: usize| {
        let fits = usize::try_from(value).is_ok_and(|value| (least..=most).contains(&value));
        must(fits, &format!("{what} from {least} to {most}"), || value.to_string())
    };
    must(welcome.device_id != 0, "a device_id", || "0".into())?;
    must(welcome.head >= welcome.cursor, "a head that is not below the cursor", || format!("{}", welcome.head))?;
    must(welcome.time != 0, "the server's time", || "0".into())?;
    must(!welcome.server.is_empty(), "the server's name", || "an empty one".into())?;
    within("max_frame_bytes", welcome.max_frame_bytes, limits::MAX_LOGIN_FRAME_BYTES, limits::MAX_FRAME_BYTES)?;
    let frame = welcome.max_frame_bytes as usize;
    within("max_content_bytes", welcome.max_content_bytes, 1, frame - limits::FRAME_OVERHEAD_BYTES)?;
    within("send_window", welcome.send_window, 1, limits::SEND_WINDOW)?;
    within("idle_timeout_ms", welcome.idle_timeout_ms, limits::MIN_IDLE_TIMEOUT_MS as usize, u32::MAX as usize)
}

async fn longest_content(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let longest = "x".repeat(pair.alice.welcome.max_content_bytes as usize);
    let send_id = pair.alice.send(&pair.names.1, &longest).await;
    pair.alice.ack(send_id).await?;
    let (_, message) = pair.bob.message(&longest).await?;
    must(message.content.len() == longest.len(), "all of it", || format!("{} bytes", message.content.len()))?;
    let send_id = pair.alice.send(&pair.names.1, &(longest + "x")).await;
    pair.alice.refused(send_id, ErrorCode::ContentTooLarge).await?;
    pair.alice.send_acked(&pair.names.1, "the next id goes on").await.map(drop)
}

async fn window_of_sends(world: &World) -> Verdict {
    let name = world.user("bob");
    let mut peer = world.login(&world.user("alice"), DEVICE).await?;
    // A fast server may have answered the first of them while it still reads the others, so that few are enough for
    // none; therefore both ends are right, and only what is in between is looked at.
    let sends: Vec<_> = (0..4 * limits::SEND_WINDOW).map(|_| peer.next_send(user(&name), "x")).collect();
    let count = sends.len() as u64;
    let frame = |send| wire::ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) };
    peer.say_all(sends.into_iter().map(frame)).await;
    for send_id in 1..=count {
        let acked = peer.ack(send_id).await;
        if let Err(super::NotKept::Broken(fault)) = &acked
            && fault.came.starts_with("Error TOO_MANY_REQUESTS")
        {
            let enough = send_id > limits::SEND_WINDOW as u64;
            must(enough, "at least 256 answers before it", || format!("{} answers", send_id - 1))?;
            return peer.end("the end").await;
        }
        acked?;
    }
    Ok(())
}
