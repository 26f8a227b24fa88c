//! What sled has written is on stable storage before sled builds on it.
//!
//! On Linux sled 0.34 calls `sync_file_range` after a write and takes what it wrote for safe. It is not: neither the length of
//! a file that grew nor what the disk itself holds back is on stable storage then. Between two syncs of ours sled moves
//! pages into new segments, takes the old ones for free, and writes over them; a power cut that takes the new ones leaves
//! neither, and sled does not open any more. (It cost one store in about a hundred cuts under load.)
//!
//! Where the system has no `sync_file_range` sled calls `fsync` instead. So this process has none: a seccomp filter answers
//! that it is not there. Nothing else here uses it, and what the process spawns has no use for it.

use std::sync::OnceLock;

/// Keeps sled from `sync_file_range`, in all threads there are and will be. Where that cannot be had it is told once: what is
/// said above may happen then.
pub(super) fn raise() {
    static RAISED: OnceLock<()> = OnceLock::new();
    RAISED.get_or_init(|| {
        if let Err(why) = filter() {
            tracing::warn!(why, "sled cannot be made to sync what it writes: after a power cut the store may not open");
        }
    });
}

#[cfg(target_os = "linux")]
fn filter() -> Result<(), String> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let here = std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| told(&error))?;
    let calls = [(libc::SYS_sync_file_range, Vec::new())].into_iter().collect();
    let not_there = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, not_there, here).map_err(|error| told(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| told(&error))?;
    apply_filter_all_threads(&program).map_err(|error| told(&error))
}

/// Elsewhere sled syncs as it should.
#[cfg(not(target_os = "linux"))]
fn filter() -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    #[test]
    fn whoever_opens_sled_has_no_sync_file_range_on_any_thread_then() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_database, _tree) = super::super::disk::open_database(directory.path(), 1 << 20).expect("opens");
        // A thread may end between the list and the look.
        let statuses = fs::read_dir("/proc/self/task").expect("threads").flatten();
        let statuses = statuses.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        let modes: Vec<String> = statuses
            .filter_map(|status| status.lines().find_map(|line| Some(line.strip_prefix("Seccomp:")?.trim().to_owned())))
            .collect();
        assert!(!modes.is_empty() && modes.iter().all(|mode| mode == "2"), "2 is a filter: {modes:?}");
    }
}
