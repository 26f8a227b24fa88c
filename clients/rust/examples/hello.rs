//! Sends one message and waits until it has reached a device of the recipient.
//!
//! `cargo run -p postrider-client --example hello -- 127.0.0.1:7222 postrider-data/tls/ca.pem alice bob "hello"`

#![allow(clippy::print_stdout)]

use std::error::Error;

use postrider_client::{Client, Event, FileState, Options, To, Trust, content};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, ca, user, recipient, text] = arguments.as_slice() else {
        return Err("usage: hello SERVER CA_FILE USER RECIPIENT TEXT".into());
    };
    let options = Options::new(server, "dev", user).device("hello").trust(Trust::CaFile(ca.into()));
    let state = FileState::open(format!("hello-state/{user}"))?;
    let (client, mut events) = Client::connect(options, state).await?;

    let sending = client.send(To::user(recipient), content::text(text)).await?;
    let ack = sending.await?;
    println!("on stable storage: conversation {}, message {}", ack.conversation, ack.seq);

    while let Some(event) = events.next().await {
        match event {
            Event::Delivered(receipt) if receipt.conversation == ack.conversation && receipt.seq >= ack.seq => {
                println!("delivered to {}", receipt.user);
                break;
            }
            Event::Disconnected { reason, retry_in } => println!("{reason}; trying again in {retry_in:?}"),
            Event::Stopped(error) => return Err(error.into()),
            _ => {}
        }
    }
    client.close().await?;
    Ok(())
}
