//! The network of the paper, `mmface-paper`: a run on the CPU that never hides that there are no
//! weights.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use sha2::{Digest, Sha256};

use crate::common::program::run;
use crate::common::{clip, decoded, root};

fn onnx(network: &str) -> std::path::PathBuf {
    root().join(format!("tests/data/paper-{network}.onnx"))
}

/// Our face model with as many modes as Basel's: the first are ours, the others do nothing.
fn face_model(folder: &Path) {
    let bytes = std::fs::read(root().join("engines/face-model.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut text = header.metadata().clone().unwrap();
    let names: Vec<_> = (0..29).map(|k| format!("expression{k}")).collect();
    text.insert("expression_names".into(), serde_json::to_string(&names).unwrap());
    text.insert("arkit52".into(), "{}".into());
    text.insert("identity_mirror".into(), serde_json::to_string(&[1.0; 199][..]).unwrap());
    let counterparts: Vec<_> = (0..29).collect();
    text.insert("expression_mirror".into(), serde_json::to_string(&counterparts).unwrap());
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let sized: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            let mut shape = tensor.shape().to_vec();
            let row = tensor.data().len() / shape[0];
            shape[0] = match name {
                "identity" | "identity_scale" => 199,
                "expression" | "expression_scale" => 29,
                _ => shape[0],
            };
            let mut data = tensor.data().to_vec();
            data.resize(row * shape[0], 0);
            (name.to_string(), tensor.dtype(), shape, data)
        })
        .collect();
    let views = sized.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, Some(text), &folder.join("face-model.safetensors")).unwrap();
}

#[test]
fn without_weights_it_runs_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let engines = folder.path();
    face_model(engines);
    let hash = |path: &Path| {
        let digest = Sha256::digest(std::fs::read(path).unwrap());
        digest.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let mut manifest = format!(
        "schema = 1\n[face_model]\nfile = \"face-model.safetensors\"\nsha256 = \"{}\"\n\
         [detectors.centerface]\ncentre = [0.0, 0.0]\nscale = 1.1\n[variants.mmface-paper]\ntrained = false\n\
         crop = {{ size = 256, scale = 1.45, raise = 0.06 }}\npresence_threshold = 0.5\n",
        hash(&engines.join("face-model.safetensors"))
    );
    for network in ["vmn", "pmn"] {
        let file = onnx(network);
        let entry = format!("file = {file:?}\nsha256 = \"{}\"\n", hash(&file));
        manifest += &format!("[variants.mmface-paper.networks.{network}]\n{entry}");
    }
    manifest += "outputs = [{ name = \"identity\", shape = [\"N\", 199] }]\n";
    std::fs::write(engines.join("manifest.toml"), &manifest).unwrap();
    let ours = root().join("engines/face-model.safetensors");
    let other = manifest
        .replace("face-model.safetensors", ours.to_str().unwrap())
        .replace(&hash(&engines.join("face-model.safetensors")), &hash(&ours));
    let overlay = engines.join("drawn.png");
    let picture = clip("astronaut.png");
    let start = || {
        let flags = ["--variant", "mmface-paper", "--device", "cpu", "--engines"];
        let paths = [engines.as_os_str(), "--overlay".as_ref(), overlay.as_os_str()];
        let source = ["--file".as_ref(), picture.as_os_str()];
        run(source.into_iter().chain(flags.map(AsRef::as_ref)).chain(paths))
    };
    let done = start();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("untrained"), "{}", done.stderr);
    let header = String::from_utf8_lossy(&done.stdout);
    let header: serde_json::Value = serde_json::from_str(header.lines().next().unwrap()).unwrap();
    assert_eq!(header["network"]["trained"], false);
    assert_eq!(header["network"]["variant"], "mmface-paper");
    assert_eq!(header["face_model"]["identity"], 199);
    assert_eq!(header["face_model"]["expressions"].as_array().unwrap().len(), 29);
    // The sentence makes the dark bar behind the overlay's text reach across most of the picture.
    let frames = decoded(&overlay);
    let image = frames[0].image();
    let luma = &image.planes[0];
    let bar = &luma.bytes[6 * luma.stride..][..300];
    assert!(bar.iter().filter(|luma| **luma < 100).count() > 280, "{bar:?}");

    std::fs::write(engines.join("manifest.toml"), other).unwrap();
    let done = start();
    assert!(done.failure(4).contains("199 identity coefficients"), "{}", done.stderr);
}
