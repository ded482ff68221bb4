use std::path::Path;

use proptest::prelude::*;

use super::*;

fn letter(sequence: u64) -> Letter {
    let about = About {
        stream: "door".into(),
        revision: 7,
        name: sequence.to_string(),
        sequence: Some(sequence),
        lost: None,
    };
    Letter { about, payload: format!("{{\"frame\":{sequence}}}").into() }
}

fn opened(folder: &Path, limit: u64) -> (Outbox, Left) {
    let (spool, found) = Spool::open(folder, limit).expect("a spool");
    Outbox::with(spool, found)
}

fn put(outbox: &Outbox, sequence: u64) {
    outbox.put(letter(sequence));
}

fn take(outbox: &Outbox, most: usize) -> Vec<(u64, Letter)> {
    outbox.take(most)
}

/// All letters: what is told of losses needs room too.
fn take_all(outbox: &Outbox) -> Vec<(u64, Letter)> {
    let next = || Some(outbox.take(99)).filter(|letters| !letters.is_empty());
    std::iter::from_fn(next).flatten().collect()
}

fn sequences(letters: &[(u64, Letter)]) -> Vec<u64> {
    letters.iter().filter_map(|(_, letter)| letter.about.sequence).collect()
}

fn settle(outbox: &Outbox, letters: &[(u64, Letter)]) {
    for (place, letter) in letters {
        outbox.settle(*place, &letter.about, Some(*place));
    }
}

/// Losses that a letter tells of.
fn lost(letters: &[(u64, Letter)]) -> u64 {
    letters.iter().filter_map(|(_, letter)| letter.about.lost).map(|lost| lost.records).sum()
}

/// An outbox with little memory.
fn narrow(outbox: Outbox, bytes: u64) -> Outbox {
    outbox.lock().most = bytes;
    outbox
}

#[test]
fn letters_go_out_in_their_order_from_memory_and_from_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = narrow(opened(folder.path(), 1 << 20).0, 2000);
    (0..100).for_each(|n| put(&outbox, n));
    let mut seen = Vec::new();
    loop {
        let letters = take(&outbox, 7);
        if letters.is_empty() {
            break;
        }
        assert!(letters.iter().all(|(place, letter)| letter.about.sequence == Some(*place)));
        seen.extend(sequences(&letters));
        settle(&outbox, &letters);
        if seen.len() == 70 {
            (100..110).for_each(|n| put(&outbox, n));
        }
    }
    assert_eq!(seen, (0..110).collect::<Vec<_>>());
    assert_eq!(outbox.waiting(), 0);
}

#[test]
fn what_is_not_settled_is_there_again_after_the_end_of_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let (outbox, left) = opened(folder.path(), 1 << 20);
    assert!(left.streams.is_empty());
    (0..10).for_each(|n| put(&outbox, n));
    settle(&outbox, &take(&outbox, 4));
    outbox.close();
    assert!(Spool::open(folder.path(), 1 << 20).is_err(), "it is in use");
    drop(outbox);
    // What a write that was interrupted leaves.
    let segment = std::fs::read_dir(folder.path()).expect("read");
    let segment = segment.map(|entry| entry.expect("one").path());
    let segment = segment.filter(|path| path.extension().is_some_and(|e| e == "records"));
    let segment = segment.collect::<Vec<_>>().remove(0);
    let mut text = std::fs::read(&segment).expect("read");
    text.extend(br#"{"place":10,"stream":"door","revision":7,"name":"10"}"#);
    text.extend(b"\n{\"fra");
    std::fs::write(&segment, text).expect("written");

    let (outbox, left) = opened(folder.path(), 1 << 20);
    assert_eq!((left.end, left.streams), (10, vec!["door".to_owned()]));
    outbox.put(letter(10));
    let letters = take(&outbox, 99);
    assert_eq!(sequences(&letters), (4..=10).collect::<Vec<_>>());
    settle(&outbox, &letters);
    outbox.close();
    drop(outbox);
    let (outbox, _) = opened(folder.path(), 1 << 20);
    assert_eq!((outbox.waiting(), take(&outbox, 9).len()), (0, 0));
    assert_eq!(outbox.looked_up_from(), Some(10));
}

#[test]
fn without_a_spool_the_oldest_frames_are_lost_and_told_of() {
    let outbox = narrow(Outbox::new(), 2500);
    let header = Letter { about: About { name: "header".into(), ..letter(0).about }, ..letter(0) };
    outbox.put(header);
    (1..50).for_each(|n| put(&outbox, n));
    let letters = take_all(&outbox);
    let seen = sequences(&letters);
    assert_eq!(seen[0], 0, "the header says what the frames mean");
    assert_eq!(seen.last(), Some(&49));
    assert_eq!(seen.len() as u64 + lost(&letters), 50);
}

#[test]
fn a_full_spool_loses_its_oldest_segment_and_tells_of_it_even_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let outbox = narrow(opened(folder.path(), 200_000).0, 1000);
    (0..4000).for_each(|n| put(&outbox, n));
    outbox.close();
    drop(outbox);
    let (outbox, _) = opened(folder.path(), 200_000);
    let mut letters = Vec::new();
    loop {
        let more = take(&outbox, 999);
        if more.is_empty() {
            break;
        }
        settle(&outbox, &more);
        letters.extend(more);
    }
    let seen = sequences(&letters);
    assert!(seen.len() > 500 && seen.len() < 3000, "{}", seen.len());
    assert_eq!(*seen.last().expect("some"), 3999);
    assert_eq!(seen.len() as u64 + lost(&letters), 4000);
}

/// As a full disk does.
#[test]
fn where_nothing_can_be_written_letters_wait_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spool");
    let (outbox, _) = opened(&path, 1 << 20);
    std::fs::remove_dir_all(&path).expect("removed");
    let outbox = narrow(outbox, 3000);
    (0..50).for_each(|n| put(&outbox, n));
    let letters = take_all(&outbox);
    assert_eq!(sequences(&letters).len() as u64 + lost(&letters), 50);
    assert!(sequences(&letters).len() > 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is put in, taken out and settled in whatever order of things, with restarts between:
    /// every letter comes out once, or is told to be lost.
    #[test]
    fn nothing_is_lost_without_a_word(
        steps in proptest::collection::vec((0..4u8, 1..40usize), 1..60),
        memory in 300..4000u64,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut outbox = narrow(opened(folder.path(), 150_000).0, memory);
        let (mut next, mut told, mut out) = (0, 0, std::collections::BTreeSet::new());
        let mut get = |outbox: &Outbox, most| {
            let letters = outbox.take(most);
            for sequence in sequences(&letters) {
                prop_assert!(out.insert(sequence), "{} came twice", sequence);
            }
            told += lost(&letters);
            settle(outbox, &letters);
            Ok(letters.len())
        };
        for (what, count) in steps {
            match what {
                0 | 1 => for _ in 0..count * 10 {
                    outbox.put(letter(next));
                    next += 1;
                },
                2 => drop(get(&outbox, count)?),
                _ => {
                    outbox.close();
                    drop(outbox);
                    outbox = narrow(opened(folder.path(), 150_000).0, memory);
                }
            }
        }
        while get(&outbox, 100)? > 0 {}
        prop_assert_eq!(out.len() as u64 + told, next);
    }
}
