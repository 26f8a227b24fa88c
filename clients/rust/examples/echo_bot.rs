//! Answers every text message with the same text. Stop it and start it as you like: no message goes unanswered. (Killed
//! between queueing an answer and asking for the next event, it answers that one message again.)
//!
//! `cargo run -p postrider-client --example echo_bot -- 127.0.0.1:7222 postrider-data/tls/ca.pem echo`

#![allow(clippy::print_stdout)]

use std::error::Error;

use postrider_client::{Client, Event, FileState, Options, To, Trust, content};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, ca, user] = arguments.as_slice() else {
        return Err("usage: echo_bot SERVER CA_FILE USER".into());
    };
    let options = Options::new(server, "dev", user).device("bot").trust(Trust::CaFile(ca.into())).retry_first(true);
    let (client, mut events) = Client::connect(options, FileState::open("echo-bot-state")?).await?;

    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) if message.sender != *user => {
                client.read(message.conversation, message.seq).await?;
                if let Some(text) = message.text() {
                    // Queued durably before the next event is asked for, which is what confirms this one.
                    client.send(To::conversation(message.conversation), content::text(text)).await?;
                }
            }
            Event::Stopped(error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
