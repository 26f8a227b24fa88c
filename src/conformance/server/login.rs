//! Logins that are refused.

use std::time::Duration;

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, client_frame};

use super::peer::describe;
use super::world::{DEVICE, World};
use super::{NotKept, Verdict, broken, checks, must};

checks! { "Login":
    hello_first => "The first frame is Hello, or LOGIN_REQUIRED" ["LOGIN-1"];
    version => "Another version is UNSUPPORTED_VERSION, and those that are spoken are listed" ["VER-1"];
    unknown_app => "An unknown app is UNKNOWN_APP" ["LOGIN-2"];
    no_method => "A missing or unknown method is METHOD_NOT_ALLOWED" ["LOGIN-3"];
    bad_names => "Names that are empty, too long or with control characters are BAD_NAME" ["NAME-1"];
    good_names => "Names of 64 bytes, of any script and without words are names" ["NAME-1"];
    first_mistake => "Of several mistakes in a Hello the first is told" ["VER-1", "NAME-1", "LOGIN-2", "LOGIN-3"];
    twice => "A second Hello or a late Proof is ALREADY_LOGGED_IN" ["LOGIN-7"];
    too_slow => "A login that is not finished in time is LOGIN_TIMEOUT" ["LOGIN-19"];
}

/// Says this `Hello` on a new connection, which must be closed with this code.
async fn refused(world: &World, hello: wire::Hello, code: ErrorCode) -> Verdict {
    let mut peer = world.connect().await?;
    peer.say(client_frame::Body::Hello(hello)).await;
    peer.closed_with(code).await
}

async fn hello_first(world: &World) -> Verdict {
    let proof = wire::Proof { signature: vec![1; 64].into() };
    for body in [
        client_frame::Body::Ping(wire::Ping { token: 1 }),
        client_frame::Body::Proof(proof),
        client_frame::Body::Goodbye(wire::Goodbye {}),
    ] {
        let mut peer = world.connect().await?;
        peer.say(body).await;
        peer.closed_with(ErrorCode::LoginRequired).await?;
    }
    Ok(())
}

async fn version(world: &World) -> Verdict {
    for version in [0, 2, u32::MAX] {
        let mut peer = world.connect().await?;
        let hello = world.hello(&world.user("version"), DEVICE);
        peer.say(client_frame::Body::Hello(wire::Hello { version, ..hello })).await;
        let expected = "Error UNSUPPORTED_VERSION (103) with the versions in detail";
        match peer.next(expected).await? {
            Body::Error(error) if error.code == ErrorCode::UnsupportedVersion.number() => {
                must(error.detail.contains('1'), expected, || format!("detail {:?}", error.detail))?;
            }
            other => return Err(broken(expected, describe(&other))),
        }
    }
    Ok(())
}

async fn unknown_app(world: &World) -> Verdict {
    let hello = world.hello(&world.user("app"), DEVICE);
    refused(world, wire::Hello { app: world.user("no-such-app"), ..hello }, ErrorCode::UnknownApp).await
}

async fn no_method(world: &World) -> Verdict {
    let hello = world.hello(&world.user("method"), DEVICE);
    refused(world, wire::Hello { method: None, ..hello }, ErrorCode::MethodNotAllowed).await
}

async fn bad_names(world: &World) -> Verdict {
    let good = world.user("name");
    for bad in ["", &"x".repeat(65), "a\nb", "a\u{7f}", "a\u{85}b", "\0"] {
        refused(world, world.hello(bad, DEVICE), ErrorCode::BadName).await?;
        refused(world, world.hello(&good, bad), ErrorCode::BadName).await?;
    }
    Ok(())
}

async fn good_names(world: &World) -> Verdict {
    let mut longest = world.user("long");
    longest.push_str(&"x".repeat(64 - longest.len()));
    for good in [longest, world.user("zoë 🐎"), world.user(" ' \" / \\ %00 ")] {
        let peer = world.login(&good, &"d".repeat(64)).await?;
        peer.close().await;
    }
    Ok(())
}

async fn first_mistake(world: &World) -> Verdict {
    let bad = wire::Hello { version: 9, app: world.user("none"), method: None, ..world.hello("", DEVICE) };
    refused(world, bad.clone(), ErrorCode::UnsupportedVersion).await?;
    let bad = wire::Hello { version: 1, ..bad };
    refused(world, bad.clone(), ErrorCode::BadName).await?;
    let bad = wire::Hello { user: world.user("order"), ..bad };
    refused(world, bad.clone(), ErrorCode::UnknownApp).await?;
    let bad = wire::Hello { app: world.options.app.clone(), ..bad };
    refused(world, bad, ErrorCode::MethodNotAllowed).await
}

async fn twice(world: &World) -> Verdict {
    let name = world.user("twice");
    let mut peer = world.login(&name, DEVICE).await?;
    peer.say(client_frame::Body::Hello(world.hello(&name, DEVICE))).await;
    peer.closed_with(ErrorCode::AlreadyLoggedIn).await?;
    let mut peer = world.login(&name, DEVICE).await?;
    peer.say(client_frame::Body::Proof(wire::Proof { signature: vec![1; 64].into() })).await;
    peer.closed_with(ErrorCode::AlreadyLoggedIn).await
}

async fn too_slow(world: &World) -> Verdict {
    let mut silent = world.connect().await?;
    let longest = world.options.longest_wait;
    silent.wait_up_to(longest + Duration::from_millis(500));
    match silent.closed_with(ErrorCode::LoginTimeout).await {
        Err(NotKept::Broken(fault)) if fault.came.starts_with("nothing within") => Err(NotKept::Skipped(format!(
            "the server waits longer than {} s for a login; wait longer with --longest-wait",
            longest.as_secs()
        ))),
        verdict => verdict,
    }
}
