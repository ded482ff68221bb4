//! Replays the corpus of the fuzz targets (`tests/fuzz`), which includes inputs that once failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mmface_live::fuzzing;

use crate::common::root;

/// Runs `target` on every file of a folder of the corpus.
fn replay(folder: &str, target: fn(&[u8])) {
    let folder = root().join("tests/fuzz/corpus").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let broken: Vec<_> = files
        .iter()
        .filter(|path| {
            let bytes = std::fs::read(path).unwrap();
            catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err()
        })
        .collect();
    assert!(broken.is_empty(), "panics on {broken:?}");
}

macro_rules! targets {
    ($($name:ident => $target:path,)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), $target);
        })*

        #[test]
        fn every_folder_has_its_test() {
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort_unstable();
            let folders = std::fs::read_dir(root().join("tests/fuzz/corpus")).unwrap();
            let mut folders: Vec<_> =
                folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
            folders.sort_unstable();
            assert_eq!(folders, tested);
        }
    };
}

targets! {
    config => fuzzing::config,
    face_model => mmface::fuzzing::face_model,
    picture => fuzzing::picture,
    label_lines => fuzzing::label_lines,
    manifest => mmface::fuzzing::manifest,
    matlab => fuzzing::matlab,
    obj => fuzzing::obj,
    record => mmface::fuzzing::record,
    records => fuzzing::records,
}
