//! What is kept, in which order, and what is not.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::*;

/// A batch whose bytes begin as those of gzip, and end with a number.
fn batch(number: u8) -> Batch {
    let from_ms = 1_700_000_000_000 + u64::from(number) * 1000;
    Batch {
        from_ms,
        until_ms: from_ms + 1000,
        body: [&[0x1f, 0x8b][..], &[0; 97], &[number]].concat(),
    }
}

fn spool(folder: &Path, batches: u64) -> Spool {
    Spool {
        folder: folder.to_owned(),
        limit: batches * 100,
    }
}

/// Takes all that waits.
fn taken(queue: &mut Queue) -> Vec<Batch> {
    let mut all = Vec::new();
    while let Some(batch) = queue.oldest() {
        queue.remove_oldest();
        all.push(batch);
    }
    all
}

#[test]
fn memory_holds_the_newest() {
    let mut queue = Queue::open(None).unwrap();
    for number in 0..20 {
        queue.add(batch(number));
        queue.keep().unwrap();
    }
    assert_eq!((queue.len(), queue.dropped()), (16, 4));
    assert_eq!(taken(&mut queue), (4..20).map(batch).collect::<Vec<_>>());
}

#[test]
fn a_folder_is_bounded_and_outlives_the_process() {
    let place = tempfile::tempdir().unwrap();
    let spool = spool(&place.path().join("spool"), 5);
    let mut queue = Queue::open(Some(&spool)).unwrap();
    for number in 0..7 {
        queue.add(batch(number));
        queue.keep().unwrap();
    }
    assert_eq!((queue.len(), queue.dropped()), (5, 2));
    let files = || fs::read_dir(&spool.folder).unwrap().map(Result::unwrap);
    let sizes = files().map(|file| file.metadata().unwrap());
    assert_eq!(sizes.map(|file| file.len()).sum::<u64>(), 500);
    for file in files() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    drop(queue);
    let mut queue = Queue::open(Some(&spool)).unwrap();
    assert_eq!((queue.len(), queue.dropped()), (5, 0));
    queue.add(batch(7));
    assert_eq!(taken(&mut queue), (2..8).map(batch).collect::<Vec<_>>());
    drop(queue);
    assert_eq!(Queue::open(Some(&spool)).unwrap().len(), 0);
}

#[test]
fn a_smaller_limit_drops_the_oldest_of_the_process_before() {
    let place = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(Some(&spool(place.path(), 5))).unwrap();
    (0..5).for_each(|number| queue.add(batch(number)));
    queue.keep().unwrap();
    queue.limit(400);
    assert_eq!((queue.len(), queue.dropped()), (4, 1));
    drop(queue);
    let mut queue = Queue::open(Some(&spool(place.path(), 2))).unwrap();
    assert_eq!((queue.len(), queue.dropped()), (2, 2));
    assert_eq!(taken(&mut queue), [batch(3), batch(4)]);
}

#[test]
fn what_others_put_into_the_folder_is_not_sent() {
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("secret");
    fs::write(&secret, batch(0).body).unwrap();
    let folder = place.path().join("spool");
    let spool = spool(&folder, 1_000_000);
    let mut queue = Queue::open(Some(&spool)).unwrap();
    (0..6).for_each(|number| queue.add(batch(number)));
    queue.keep().unwrap();
    drop(queue);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some())
        .collect();
    files.sort();
    fs::remove_file(&files[0]).unwrap();
    std::os::unix::fs::symlink(&secret, &files[0]).unwrap();
    fs::write(&files[1], "root:x:0:0").unwrap();
    fs::write(&files[2], "").unwrap();
    let huge = fs::File::options().write(true).open(&files[3]).unwrap();
    huge.set_len(MAX_BATCH + 1).unwrap();
    fs::remove_file(&files[4]).unwrap();
    fs::create_dir(&files[4]).unwrap();
    fs::write(folder.join("notes.txt"), "not a batch").unwrap();
    fs::write(folder.join(".unfinished-1"), "half of one").unwrap();

    let mut queue = Queue::open(Some(&spool)).unwrap();
    assert_eq!(taken(&mut queue), [batch(5)]);
    assert_eq!((queue.len(), queue.dropped()), (0, 5));
    assert!(folder.join("notes.txt").exists());
    assert!(!folder.join(".unfinished-1").exists());
    assert!(secret.exists());
}

#[test]
fn what_cannot_be_written_stays_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let mut queue = Queue::open(Some(&spool(&folder, 100))).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    queue.add(batch(0));
    queue.keep().unwrap_err();
    fs::create_dir(&folder).unwrap();
    queue.add(batch(1));
    queue.keep().unwrap();
    assert_eq!(taken(&mut queue), [batch(0), batch(1)]);
}

#[test]
fn another_folder_takes_over_what_waits() {
    let place = tempfile::tempdir().unwrap();
    let first = spool(&place.path().join("first"), 100);
    let second = spool(&place.path().join("second"), 100);
    let mut queue = Queue::open(Some(&first)).unwrap();
    queue.add(batch(0));
    queue.keep().unwrap();
    queue.add(batch(1));
    let mut next = Queue::open(Some(&second)).unwrap();
    next.take_over(queue);
    assert_eq!(Queue::open(Some(&first)).unwrap().len(), 0);
    drop(next);
    let mut next = Queue::open(Some(&second)).unwrap();
    assert_eq!(taken(&mut next), [batch(0), batch(1)]);
}
