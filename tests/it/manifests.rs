//! Manifests with one entry changed: each is refused with a sentence, or finds the face all the
//! same. None finds no face and says nothing.

use std::path::Path;

use mmface::{Device, Error, Image, Mode, Models, Precision, Runtime, TrackerOptions};
use toml::Value;

use crate::common::{clip, decoded, root};

/// Paths of the entries that a run uses.
fn entries(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                path.push(key.clone());
                entries(value, path, found);
                path.pop();
            }
        }
        Value::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                path.push(index.to_string());
                entries(value, path, found);
                path.pop();
            }
        }
        _ => found.push(path.clone()),
    }
}

fn at<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(value, |value, key| match value {
        Value::Table(table) => &mut table[key.as_str()],
        Value::Array(array) => &mut array[key.parse::<usize>().unwrap()],
        _ => panic!("no entry {path:?}"),
    })
}

/// What may stand there instead.
fn damages(value: &Value) -> Vec<Value> {
    let number = match value {
        Value::Integer(n) => *n as f64,
        Value::Float(x) => *x,
        Value::String(text) => {
            let mut other = text.clone();
            other.pop();
            return vec![Value::String(String::new()), Value::String(other), Value::Integer(1)];
        }
        _ => return vec![Value::String("yes".into())],
    };
    let mut values: Vec<_> = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e9, -1e9]
        .into_iter()
        .chain([0.0, 3.0 * number])
        .map(Value::Float)
        .collect();
    if let Value::Integer(n) = value {
        values.extend([0, -1, n + 1, n - 1, i64::MAX].map(Value::Integer));
    }
    values.push(Value::String("many".into()));
    values
}

fn faces(models: Models, picture: &Image) -> mmface::Result<usize> {
    let runtime =
        Runtime::builder(models).device(Device::Cpu).precision(Some(Precision::F32)).build()?;
    let options = TrackerOptions { mode: Mode::Stills, ..TrackerOptions::default() };
    Ok(runtime.tracker(options)?.process(picture, 0.0)?.faces.len())
}

#[test]
fn no_damaged_manifest_finds_nothing_and_says_nothing() {
    let engines = root().join("engines");
    let text = std::fs::read_to_string(engines.join("manifest.toml")).unwrap();
    let mut whole: Value = toml::from_str(&text).unwrap();
    let lite = at(&mut whole, &["variants", "mmface-lite"].map(String::from));
    let Value::Table(lite) = lite else { panic!("no table") };
    lite.remove("training");
    lite.remove("error");
    let Some(Value::Table(networks)) = lite.get_mut("networks") else { panic!("no table") };
    networks.retain(|name, _| ["vmn", "pmn", "gaze"].contains(&name));
    // Inputs and types are notes for people, as is the first of a shape's sizes.
    for (_, network) in networks.iter_mut() {
        let Value::Table(network) = network else { panic!("no table") };
        network.remove("inputs");
        let Some(Value::Array(outputs)) = network.get_mut("outputs") else { continue };
        outputs.iter_mut().filter_map(Value::as_table_mut).for_each(|output| {
            output.remove("type");
        });
    }
    let mut paths = Vec::new();
    entries(&whole, &mut Vec::new(), &mut paths);
    paths.retain(|path| !path.ends_with(&["shape".into(), "0".into()]));

    let folder = tempfile::tempdir().unwrap();
    for name in ["mmface-lite", "face-model.safetensors"] {
        std::os::unix::fs::symlink(engines.join(name), folder.path().join(name)).unwrap();
    }
    let frames = decoded(&clip("astronaut.png"));
    let picture = frames[0].image();
    let manifest = folder.path().join("manifest.toml");
    let open = |value: &Value| {
        std::fs::write(&manifest, toml::to_string(value).unwrap()).unwrap();
        Models::open(folder.path()).and_then(|models| faces(models, &picture))
    };
    assert_eq!(open(&whole).unwrap(), 1, "the manifest as it is");
    let (mut refused, mut fine) = (0, 0);
    for path in &paths {
        let original = at(&mut whole, path).clone();
        for damage in damages(&original) {
            *at(&mut whole, path) = damage.clone();
            match open(&whole) {
                Ok(0) => panic!("{path:?} = {damage} finds no face and says nothing"),
                Ok(_) => fine += 1,
                Err(error) => {
                    let right = matches!(error, Error::Models(_) | Error::ModelHash { .. });
                    assert!(right, "{path:?} = {damage}: {error:?}");
                    names_the_entry(&error.to_string(), path, &original);
                    refused += 1;
                }
            }
        }
        *at(&mut whole, path) = original;
    }
    println!("{refused} refused, {fine} fine");
    assert!(refused > 100 && fine > 3, "{refused} refused, {fine} fine");
}

fn names_the_entry(sentence: &str, path: &[String], original: &Value) {
    if let Value::String(_) | Value::Boolean(_) = original {
        return;
    }
    let key = path.iter().rev().find(|key| key.parse::<usize>().is_err()).unwrap();
    assert!(sentence.contains(key.as_str()), "{path:?} is not named: {sentence}");
}

#[test]
fn a_manifest_that_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("manifest.toml")).unwrap();
    let error = Models::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("it is a device and no file"), "{error}");
    assert!(Models::open(Path::new("/dev")).is_err());
}
