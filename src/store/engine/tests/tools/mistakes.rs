//! What a person may do with the tools and did not mean: it is told in a line, and nothing is lost by it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::super::files::{Files, SystemFiles};
use super::super::super::tools::{self, ToolError};
use super::super::{Engine, TestFiles, copy, making};
use super::{inboxes, is_sound, refused, tiny, written};
use crate::store::StoreError;

/// What lies in a directory and below it, and what it says.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in SystemFiles.list(directory).unwrap() {
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn damaged<T: std::fmt::Debug>(done: Result<T, ToolError>, words: &str) {
    let error = done.expect_err("it is damaged");
    assert!(error.is_damage() && error.to_string().contains(words), "{error}");
}

#[test]
fn a_directory_of_somebody_elses_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (notes, out) = (directory.path().join("notes"), directory.path().join("out"));
    fs::create_dir_all(notes.join("journal")).unwrap();
    fs::write(notes.join("journal/monday.txt"), "a short note").unwrap();
    fs::write(notes.join("journal/7.new"), "another one").unwrap();
    let before = contents(&notes);
    refused(tools::verify(&notes, 7, &mut |_| {}), "holds no store");
    refused(tools::stats(&notes, 7, &mut |_| {}), "holds no store");
    refused(tools::compact(&notes, 7, &mut |_| {}), "holds no store");
    refused(tools::back_up(&notes, &out, 7, &mut |_| {}), "holds no store");
    refused(tools::restore(&notes, &out, 7, &mut |_| {}), "is no backup");
    refused(tools::salvage(&notes, &out, 7, &mut |_| {}), "holds no store");
    assert_eq!(contents(&notes), before);
    // A server makes a store where there is none, but not of what is there.
    let opened = Engine::open(&tiny(&notes)).map(drop);
    assert!(matches!(&opened, Err(StoreError::Occupied(why)) if why.contains("monday.txt")), "{opened:?}");
    assert_eq!(contents(&notes), before);
}

#[test]
fn a_store_of_which_a_part_is_missing_is_damaged_and_not_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    written(&path("data"));
    for (missing, words) in [
        (&["sled", "journal"][..], "sled's files are not there"),
        (&["sled"], "sled's files are not there"),
        (&["sled/db"], "sled's file is not there"),
        (&["journal"], "the journal is not there"),
        (
            &["journal/0.segment", "journal/1.segment", "journal/2.segment", "journal/3.segment"],
            "no file of the journal",
        ),
    ] {
        let (data, to) = (path("part"), path("to"));
        copy(&path("data"), &data);
        for name in missing {
            let name = data.join(name);
            match name.metadata() {
                Ok(found) if found.is_dir() => fs::remove_dir_all(name).unwrap(),
                Ok(_) => fs::remove_file(name).unwrap(),
                Err(_) => {}
            }
        }
        damaged(tools::verify(&data, 7, &mut |_| {}), words);
        damaged(tools::restore(&data, &to, 7, &mut |_| {}), words);
        let told = tools::restore(&data, &to, 7, &mut |_| {}).unwrap_err().to_string();
        assert!(told.contains(&data.display().to_string()) && !told.contains("unfinished"), "{told}");
        let salvaged = tools::salvage(&data, &to, 7, &mut |_| {}).expect("what there is");
        assert!(!salvaged.is_whole(), "{salvaged:?}");
        fs::remove_dir_all(&to).unwrap();
        fs::remove_dir_all(&data).unwrap();
    }
}

#[test]
fn what_lies_behind_a_link_is_taken_or_refused_but_never_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let before = written(&path("data"));
    fs::create_dir(path("certificates")).unwrap();
    fs::write(path("certificates/ca.pem"), "a certificate").unwrap();
    symlink(path("certificates"), path("data/tls")).unwrap();
    symlink(path("nowhere"), path("data/dangling")).unwrap();
    fs::rename(path("data/sled"), path("elsewhere")).unwrap();
    symlink(path("elsewhere"), path("data/sled")).unwrap();

    tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}).expect("a backup");
    let salvaged = tools::salvage(&path("data"), &path("salvaged"), 7, &mut |_| {}).expect("a store");
    assert!(salvaged.is_whole(), "{salvaged:?}");
    tools::restore(&path("data"), &path("restored"), 7, &mut |_| {}).expect("a store");
    for made in ["backup", "salvaged", "restored"] {
        assert_eq!(inboxes(&path(made)), before, "{made}");
        assert_eq!(fs::read_to_string(path(made).join("tls/ca.pem")).unwrap(), "a certificate", "{made}");
    }
    refused(tools::compact(&path("data"), 7, &mut |_| {}), "is a link");
    // It might lead back to where it is.
    symlink(path("data"), path("certificates/more")).unwrap();
    refused(tools::back_up(&path("data"), &path("another"), 7, &mut |_| {}), "is a link to a directory");
    assert!(!path("another").exists() && !path("another.unfinished").exists());
}

#[test]
fn nothing_is_made_inside_of_what_it_is_made_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    written(&path("data"));
    symlink(path("data"), path("link")).unwrap();
    for (from, to) in [("data", "data/out"), ("data", "link/out"), ("link", "data/new/out"), ("link", "link/out")] {
        let (from, to) = (path(from), path(to));
        refused(tools::back_up(&from, &to, 7, &mut |_| {}), "copied into itself");
        refused(tools::restore(&from, &to, 7, &mut |_| {}), "copied into itself");
        refused(tools::salvage(&from, &to, 7, &mut |_| {}), "copied into itself");
    }
    assert!(!path("data/out").exists() && !path("data/new").exists());
    // Nor inside of what is taken along because a link leads there.
    fs::create_dir(path("backups")).unwrap();
    symlink(path("backups"), path("data/backups")).unwrap();
    for to in ["backups/monday", "data/backups/monday"] {
        refused(tools::back_up(&path("data"), &path(to), 7, &mut |_| {}), "copied into itself");
    }
    assert_eq!(contents(&path("backups")), []);
    refused(tools::back_up(&path("data"), &path("nothing/../data/out"), 7, &mut |_| {}), "has .. in it");
}

#[test]
fn what_an_interrupted_command_left_is_made_anew_and_what_is_somebodys_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let before = written(&path("data"));
    let unfinished = path("backup.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("novel.txt"), "not finished").unwrap();
    refused(tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}), "is in the way");
    assert_eq!(fs::read_to_string(unfinished.join("novel.txt")).unwrap(), "not finished");

    // As one that is at it, and then as one that was killed.
    let mark = File::create(unfinished.join("UNFINISHED")).unwrap();
    let held = SystemFiles.hold(mark).unwrap();
    let before_it = contents(&unfinished);
    refused(tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}), "another command");
    assert_eq!(contents(&unfinished), before_it);
    drop(held);
    copy(&path("data"), &unfinished);
    refused(tools::restore(&unfinished, &path("restored"), 7, &mut |_| {}), "not whole");
    let served = Engine::open(&tiny(&unfinished)).map(drop);
    assert!(matches!(&served, Err(StoreError::Occupied(why)) if why.contains("not whole")), "{served:?}");
    tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}).expect("a backup");
    assert!(!unfinished.exists() && !path("backup/UNFINISHED").exists() && !path("backup/novel.txt").exists());
    assert_eq!(inboxes(&path("backup")), before);
}

#[test]
fn a_place_that_a_directory_cannot_take_is_refused_before_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    written(&path("data"));
    fs::create_dir(path("empty")).unwrap();
    symlink(path("empty"), path("link")).unwrap();
    fs::write(path("file"), "").unwrap();
    let mut at_work = |_| panic!("it has begun");
    refused(tools::back_up(&path("data"), &path("link"), 7, &mut at_work), "is a link");
    refused(tools::back_up(&path("data"), &path("link/"), 7, &mut at_work), "is a link");
    refused(tools::back_up(&path("data"), &path("file"), 7, &mut at_work), "is a file");
    tools::back_up(&path("data"), &path("empty"), 7, &mut |_| {}).expect("an empty directory is as good as none");
}

#[test]
fn of_a_backup_that_nobody_may_write_to_a_store_is_made_that_works() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let before = written(&path("data"));
    tools::back_up(&path("data"), &path("backup"), 7, &mut |_| {}).unwrap();
    for (file, _) in contents(&path("backup")).into_iter().filter(|(path, _)| path.is_file()) {
        fs::set_permissions(file, fs::Permissions::from_mode(0o400)).unwrap();
    }
    fs::create_dir(path("backup/lost+found")).unwrap();
    tools::restore(&path("backup"), &path("restored"), 7, &mut |_| {}).unwrap();
    let mode = |name: &str| path("restored").join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("sled/db"), mode("journal/0.segment")), (0o600, 0o600));
    assert!(!path("restored/lost+found").exists());
    assert_eq!(inboxes(&path("restored")), before);
}

#[test]
fn on_a_full_disk_nothing_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let files = Arc::new(TestFiles::default());
    let engine = Engine::open_with(&tiny(&path("data")), Arc::<TestFiles>::clone(&files)).unwrap();
    let segments = || SystemFiles.list(&path("data/journal")).unwrap().len();
    let before = segments();
    super::super::block_on(crate::store::commit_and_wait(&engine, making("app"))).expect("durable");
    files.full.store(true, Ordering::SeqCst);
    for _ in 0..6 {
        let moved = engine.checkpoint().map(drop);
        assert!(matches!(moved, Err(StoreError::Full(_))), "{moved:?}");
        let told = ToolError::from(moved.unwrap_err()).to_string();
        assert!(told.contains("too little space") && !told.contains("takes messages again"), "{told}");
    }
    assert_eq!(segments(), before);
    refused(engine.back_up(&path("backup"), &mut |_| {}), "too little space");
    assert!(!path("backup").exists() && !path("backup.unfinished").exists());
    files.full.store(false, Ordering::SeqCst);
    engine.back_up(&path("backup"), &mut |_| {}).expect("there is room again");
    // Looking at a store at rest ends no segment.
    let ended = engine.shared().unwrap().end_segment().unwrap();
    for _ in 0..6 {
        engine.checkpoint().map(drop).unwrap();
    }
    assert_eq!(engine.shared().unwrap().end_segment().unwrap(), ended + 1);
    drop(engine);
    is_sound(&path("backup"));
}

#[test]
fn root_makes_no_files_in_a_store_of_somebody_elses() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (data, out) = (directory.path().join("data"), directory.path().join("out"));
    let before = written(&data);
    std::os::unix::fs::chown(data.join("FORMAT"), Some(1000), None).unwrap();
    let told = "belongs to user 1000";
    refused(tools::verify(&data, 7, &mut |_| {}), told);
    refused(tools::stats(&data, 7, &mut |_| {}), told);
    refused(tools::compact(&data, 7, &mut |_| {}), told);
    refused(tools::back_up(&data, &out, 7, &mut |_| {}), told);
    assert_eq!(inboxes(&data), before);
}
