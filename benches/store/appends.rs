//! Durable appends a second, what one costs, and how long a producer waits; beside sled alone, and beside the disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postrider::bench::meter::Percentiles;
use postrider::store::Store;
use postrider::store::engine::{Engine, EngineConfig};
use serde::Serialize;

use crate::arguments::Appends;
use crate::load::{Load, Manner, Run, Until};
use crate::meter::{Cpu, mib, on_disk};
use crate::people::{pairs, wait};
use crate::rivals::{self, Rival};

/// Of ten recipients, one is offline: its messages stay.
const ONE_OFFLINE_IN: usize = 10;

/// This part of the time a store works before it is measured.
const WARM_UP: u32 = 3;

#[derive(Serialize)]
pub struct Row {
    producers: usize,
    what: &'static str,
    appends_per_s: f64,
    latency_ms: Percentiles,
    /// Of the whole process, load and store.
    cpu_us_per_append: f64,
    /// Without what the same load costs when nothing is stored. Above the load's own noise only.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_cpu_us_per_append: Option<f64>,
    /// Of the appends a second that the bare disk takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
}

pub fn run(what: &Appends, parent: &Path, print: bool) -> Vec<Row> {
    if print {
        println!("durable appends, 100 bytes; of ten recipients nine confirm at once, one is away");
        println!(
            "{:>9} {:<11} {:>11} {:>8} {:>8} {:>8} {:>9} {:>7} {:>9}",
            "producers", "", "appends/s", "p50 ms", "p99 ms", "all µs", "store µs", "limit", "disk MiB"
        );
    }
    let mut rows = Vec::new();
    for &producers in &what.producers {
        let started = rows.len();
        rows.extend(measure(producers, what.time(), parent));
        if print {
            rows[started..].iter().for_each(show);
        }
    }
    rows
}

/// Nothing, the store, sled alone and the bare disk, in turn.
fn measure(producers: usize, time: Duration, parent: &Path) -> [Row; 4] {
    let directory = || tempfile::tempdir_in(parent).unwrap();
    let (nothing, idle) = load(Rival::nothing(), producers, time / 3);
    let of_load = idle.load.as_secs_f64() / nothing.acked as f64 * 1e6;

    let here = directory();
    let (ours, cpu) = load(Arc::new(Engine::open(&EngineConfig::new(here.path())).unwrap()), producers, time);
    let mut store = row("store", producers, &ours, cpu.all);
    store.disk_bytes = Some(on_disk(here.path()));
    drop(here);

    let here = directory();
    let (sled, cpu) = load(Rival::sled(here.path()), producers, time);
    let mut sled = row("sled alone", producers, &sled, cpu.all);
    sled.disk_bytes = Some(on_disk(here.path()));
    drop(here);

    let here = directory();
    let before = Cpu::now();
    let bare = rivals::bare(here.path(), producers, time / 2);
    let bare = row("bare disk", producers, &bare, Cpu::now().since(before).all);
    for row in [&mut store, &mut sled] {
        row.store_cpu_us_per_append = Some((row.cpu_us_per_append - of_load).max(0.0));
        row.share_of_limit = Some(row.appends_per_s / bare.appends_per_s);
    }
    [row("load alone", producers, &nothing, idle.load), store, sled, bare]
}

fn load(store: Arc<dyn Store>, producers: usize, time: Duration) -> (Run, Cpu) {
    let pairs = pairs(&*store, "user", producers);
    let manner = |pair| if pair % ONE_OFFLINE_IN == 0 { Manner::Away } else { Manner::Prompt };
    let mut load = Load::new(Arc::clone(&store), pairs, manner);
    // Until the files are there that are made once, and memory has what it will have.
    load.run(Until::Time(time / WARM_UP), &mut |_| {});
    let before = Cpu::now();
    let run = load.run(Until::Time(time), &mut |_| {});
    let cpu = Cpu::now().since(before);
    wait(store.close()).unwrap();
    (run, cpu)
}

fn row(what: &'static str, producers: usize, run: &Run, cpu: Duration) -> Row {
    Row {
        producers,
        what,
        appends_per_s: run.acked as f64 / run.took.as_secs_f64(),
        latency_ms: run.latency,
        cpu_us_per_append: cpu.as_secs_f64() / run.acked as f64 * 1e6,
        store_cpu_us_per_append: None,
        share_of_limit: None,
        disk_bytes: None,
    }
}

fn show(row: &Row) {
    let or_blank = |figure: Option<String>| figure.unwrap_or_default();
    println!(
        "{:>9} {:<11} {:>11.0} {:>8.2} {:>8.2} {:>8.2} {:>9} {:>7} {:>9}",
        row.producers,
        row.what,
        row.appends_per_s,
        row.latency_ms.p50,
        row.latency_ms.p99,
        row.cpu_us_per_append,
        or_blank(row.store_cpu_us_per_append.map(|cpu| format!("{cpu:.2}"))),
        or_blank(row.share_of_limit.map(|share| format!("{:.0} %", share * 100.0))),
        or_blank(row.disk_bytes.map(|bytes| format!("{:.0}", mib(bytes)))),
    );
}
