//! Processor time, memory, and bytes on disk. Linux.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use postrider::bench::process::Process;

/// Processor time so far.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Of the whole process.
    pub all: Duration,
    /// Of the calling thread, which makes the load.
    pub load: Duration,
}

impl Cpu {
    pub fn now() -> Self {
        let scheduled = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanoseconds = scheduled.split(' ').next().unwrap().parse().unwrap();
        Cpu { all: Process::own().unwrap().cpu().unwrap(), load: Duration::from_nanos(nanoseconds) }
    }

    pub fn since(self, before: Cpu) -> Self {
        Cpu { all: self.all - before.all, load: self.load - before.load }
    }
}

/// Resident memory of this process, in bytes.
pub fn memory() -> u64 {
    Process::own().unwrap().rss().unwrap()
}

/// Bytes that a file or a directory with all below it takes on the disk. What is deleted meanwhile counts for nothing.
pub fn on_disk(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    found.blocks() * 512 + below.map(|entry| on_disk(&entry.path())).sum::<u64>()
}

/// Bytes that this process has sent to disks so far.
pub fn written() -> u64 {
    io("write_bytes: ")
}

/// Times that this process has asked the system to read so far; asking for this is one or two of them.
pub fn reads() -> u64 {
    io("syscr: ")
}

fn io(figure: &str) -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix(figure)).unwrap().parse().unwrap()
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
