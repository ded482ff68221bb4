//! Reads pictures and prints the pose of every face:
//! `cargo run --release -p mmface --no-default-features --example poses -- PICTURE…`

use mmface::face::rotation::to_angles;
use mmface::{Image, Mode, Models, Runtime, TrackerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pictures: Vec<_> = std::env::args_os().skip(1).collect();
    if pictures.is_empty() {
        return Err("name one or more pictures (JPEG or PNG)".into());
    }
    let runtime = Runtime::builder(Models::find()?).build()?;
    let options = TrackerOptions { mode: Mode::Stills, ..TrackerOptions::default() };
    let mut tracker = runtime.tracker(options)?;
    for (number, path) in pictures.iter().enumerate() {
        let pixels = image::open(path)?.into_rgb8();
        let (width, height) = pixels.dimensions();
        let image = Image::rgb(width, height, pixels.into_raw())?;
        for face in tracker.process(&image, number as f64)?.faces {
            let [pitch, yaw, roll] = to_angles(&face.params.rotation);
            let ([x, y, ..], name) = (face.bounds, path.display());
            println!(
                "{name}: a face at ({x:.0}, {y:.0}): pitch {pitch:.1}°, yaw {yaw:.1}°, roll {roll:.1}°"
            );
        }
    }
    Ok(())
}
