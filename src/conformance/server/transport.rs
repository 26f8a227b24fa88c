//! TLS.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::wire::{ClientFrame, client_frame};
use postrider_protocol::{frame, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::peer::Peer;
use super::world::{DEVICE, World};
use super::{Verdict, broken, checks, must};
use crate::conformance::link::{Link, NoFrame};

checks! { "TLS":
    tls13 => "A connection is TLS 1.3 with the ALPN name postrider/1 and a certificate that is right" ["TLS-1", "TLS-2", "TLS-3"];
    old_tls => "TLS 1.2 is refused" ["TLS-1"];
    no_alpn => "A connection without the ALPN name is closed" ["TLS-2"];
    early_data => "Session tickets allow no early data" ["TLS-4"];
    plaintext => "Frames outside TLS are not answered" ["TLS-5"];
}

/// The first bytes of a TLS record that carries a handshake message, such as a `ServerHello`.
const HANDSHAKE: u8 = 22;

/// A `ClientHello` of TLS 1.2 that every server of that version takes: ECDHE with AES-GCM, X25519 and P-256.
const CLIENT_HELLO_12: &[u8] = b"\x16\x03\x01\x00\x57\x01\x00\x00\x53\x03\x03\
    0123456789abcdef0123456789abcdef\x00\
    \x00\x0a\xc0\x2b\xc0\x2f\xc0\x2c\xc0\x30\xcc\xa9\x01\x00\
    \x00\x20\x00\x0a\x00\x06\x00\x04\x00\x1d\x00\x17\x00\x0b\x00\x02\x01\x00\
    \x00\x0d\x00\x0c\x00\x0a\x04\x03\x08\x04\x04\x01\x05\x03\x08\x05";

async fn tls13(world: &World) -> Verdict {
    let peer = world.connect().await?;
    let version = peer.tls().protocol_version();
    must(version == Some(rustls::ProtocolVersion::TLSv1_3), "TLS 1.3", || format!("{version:?}"))?;
    let alpn = peer.tls().alpn_protocol();
    must(alpn == Some(limits::ALPN), "ALPN postrider/1", || alpn.map_or("none".into(), |name| format!("{name:?}")))
}

async fn old_tls(world: &World) -> Verdict {
    let answer = answer_to(world, CLIENT_HELLO_12).await?;
    let refused = "a TLS alert, or the end";
    must(answer.first() != Some(&HANDSHAKE), refused, || "a ServerHello to a ClientHello of TLS 1.2".into())
}

async fn no_alpn(world: &World) -> Verdict {
    for name in [None, Some(&b"http/1.1"[..])] {
        let Ok(stream) = world.dialer.tls(name).await else { continue };
        let mut link = Link::new(stream);
        match link.next(limits::MAX_FRAME_BYTES, world.options.patience).await {
            Err(NoFrame::End | NoFrame::Broken(_)) => {}
            Err(NoFrame::Silence) => return Err(broken("the end", "an open connection")),
            Ok(_) | Err(NoFrame::Malformed(_)) => return Err(broken("the end", "bytes")),
        }
    }
    Ok(())
}

async fn early_data(world: &World) -> Verdict {
    let dialer = world.dialer.early();
    for attempt in 1..=2 {
        let (stream, offered) = dialer.tls().await.map_err(|error| broken("TLS", error.to_string()))?;
        must(!offered, "a ticket without early data", || format!("one that allows it, at connection {attempt}"))?;
        // The ticket comes behind the handshake, so it is there when the server has answered something.
        let mut peer = Peer::new(stream, world.options.patience);
        peer.say(client_frame::Body::Hello(world.hello(&world.user("early"), DEVICE))).await;
        peer.next("an answer to Hello").await?;
        peer.close().await;
    }
    Ok(())
}

async fn plaintext(world: &World) -> Verdict {
    let mut hello = BytesMut::new();
    let body = client_frame::Body::Hello(world.hello(&world.user("plain"), DEVICE));
    frame::put(&ClientFrame { received: 0, body: Some(body) }, &mut hello);
    let answer = answer_to(world, &hello).await?;
    // The first byte of a frame of less than 16 MiB is zero, that of a TLS alert is not.
    must(answer.first() != Some(&0), "a TLS alert, or the end", || "a frame in plain text".into())
}

/// What the server says on a bare socket to these bytes: the beginning, and the end if it closes.
async fn answer_to(world: &World, bytes: &[u8]) -> Result<Vec<u8>, super::NotKept> {
    let tcp = world.dialer.tcp().await;
    let mut tcp: TcpStream = tcp.map_err(|error| broken("a TCP connection", error.to_string()))?;
    drop(tcp.write_all(bytes).await);
    let mut answer = vec![0; 1024];
    let patience = world.options.patience.max(Duration::from_secs(1));
    match tokio::time::timeout(patience, tcp.read(&mut answer)).await {
        Ok(Ok(length)) => answer.truncate(length),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => answer.clear(),
        Ok(Err(error)) => return Err(broken("a TLS alert, or the end", error.to_string())),
        Err(_) => return Err(broken("a TLS alert, or the end", "nothing")),
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_client_hello_is_as_long_as_it_says() {
        let record = usize::from(u16::from_be_bytes([CLIENT_HELLO_12[3], CLIENT_HELLO_12[4]]));
        assert_eq!(CLIENT_HELLO_12.len(), 5 + record);
        let message = usize::from(u16::from_be_bytes([CLIENT_HELLO_12[7], CLIENT_HELLO_12[8]]));
        assert_eq!(record, 4 + message);
        let extensions = CLIENT_HELLO_12.len() - 34;
        let said = u16::from_be_bytes([CLIENT_HELLO_12[extensions], CLIENT_HELLO_12[extensions + 1]]);
        assert_eq!(usize::from(said), 32);
    }
}
