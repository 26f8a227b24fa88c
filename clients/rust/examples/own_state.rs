//! Keeps the client's state in the application's own way: here as changes appended to a list that a database would hold.
//!
//! `cargo run -p postrider-client --example own_state -- 127.0.0.1:7222 postrider-data/tls/ca.pem carol`

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use postrider_client::{Change, Client, Event, Options, Saved, StateError, StateStore, Trust};

/// Stands for a table of the application's database.
#[derive(Clone, Default)]
struct Table {
    rows: Arc<Mutex<Vec<Change>>>,
}

impl StateStore for Table {
    fn load(&mut self) -> Result<Saved, StateError> {
        let mut saved = Saved::default();
        for change in self.rows.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            saved.apply(change);
        }
        Ok(saved)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StateError> {
        // A database would do this in one transaction, and return after it is durable.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(changes);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, ca, user] = arguments.as_slice() else {
        return Err("usage: own_state SERVER CA_FILE USER".into());
    };
    // The application says itself what it has taken: after its own transaction, not before.
    let options = Options::new(server, "dev", user).device("table").trust(Trust::CaFile(ca.into())).manual_confirm();
    let table = Table::default();
    let (client, mut events) = Client::connect(options, table.clone()).await?;

    while let Some(event) = events.next().await {
        if let Event::Message(message) = &event {
            println!("{}: {}", message.sender, message.text().unwrap_or("(not text)"));
        }
        if let Some(position) = event.position() {
            client.confirm(position).await?;
        }
        if matches!(event, Event::CaughtUp) {
            break;
        }
    }
    client.close().await?;
    println!("{} changes are kept", table.rows.lock().unwrap_or_else(PoisonError::into_inner).len());
    Ok(())
}
