//! `mmface-live engines`: lists, builds and checks GPU engines.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mmface::backend::tensorrt::{self, Cache, Chip, Found, Recipe};
use mmface::models::{Models, Variant};
use mmface::{Error as Library, Precision};

use super::say;
use crate::{Error, Result};

/// Subcommands of `engines`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the networks, and the engines that are built
    List(Where),
    /// Build engines from the networks; works without a GPU
    Build(Build),
    /// Check whether every engine is usable on this machine, and say why if not
    Check(Where),
}

/// Which engines, and where they are.
#[derive(Debug, Args)]
pub struct Where {
    /// Which variant of the networks [default: all]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Folder with manifest.toml, if it is not in the usual place
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINES")]
    engines: Option<PathBuf>,
    /// Folder for the engines that are built [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "MMFACE_ENGINE_CACHE")]
    engine_cache: Option<PathBuf>,
}

/// Arguments of `engines build`.
#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    place: Where,
    /// Chips, such as sm_80,sm_86,sm_89,sm_120 [default: that of this machine's GPU]
    #[arg(long, value_name = "CHIP", value_delimiter = ',')]
    target: Vec<Chip>,
    /// Build engines that exist already, too
    #[arg(long)]
    force: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// [`Error::Mmface`] if an engine cannot be built or used, or if the GPU is needed and there is
/// none.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::List(place) => list(place),
        Command::Build(what) => build(what),
        Command::Check(place) => check(place),
    }
}

/// A network from which an engine can be built.
struct Network {
    variant: Variant,
    name: String,
    precision: Precision,
}

impl Network {
    fn recipe<'a>(&'a self, library: &'a str, chip: Chip) -> Result<Recipe<'a>> {
        Ok(Recipe {
            variant: &self.variant.name,
            network: &self.name,
            onnx: self.variant.network_hash(&self.name)?,
            library,
            chip,
            precision: self.precision,
        })
    }
}

impl Where {
    /// The networks that run on a GPU, in every available precision.
    fn networks(&self) -> Result<(Models, Vec<Network>)> {
        let models = self.engines.as_deref().map_or_else(Models::find, Models::open)?;
        let variants: Vec<String> = match &self.variant {
            Some(name) => vec![name.clone()],
            None => models.variants().map(str::to_string).collect(),
        };
        let mut networks = Vec::new();
        for name in variants {
            let variant = models.variant(&name)?;
            for precision in [Precision::F32, Precision::F16] {
                for network in ["vmn", "pmn"].map(|network| precision.network(network)) {
                    if variant.has_network(&network) {
                        networks.push(Network {
                            variant: variant.clone(),
                            name: network,
                            precision,
                        });
                    }
                }
            }
        }
        Ok((models, networks))
    }

    fn cache(&self) -> Cache {
        Cache::new(self.engine_cache.as_deref())
    }
}

fn list(place: &Where) -> Result<()> {
    let (models, networks) = place.networks()?;
    let cache = place.cache();
    say(format_args!("networks in {}", models.folder().display()))?;
    for network in &networks {
        let Network { variant, name, precision } = network;
        let hash = variant.network_hash(name)?;
        let hash = &hash[..hash.len().min(12)];
        say(format_args!("  {:<14} {name:<10} {precision:<5} {hash}", variant.name))?;
    }
    match cache.folder() {
        Some(folder) => say(format_args!("built, in {}", folder.display()))?,
        None => say("no folder for engines: name one with --engine-cache")?,
    }
    let names = cache.names();
    for name in names.iter().filter(|name| name.ends_with(".engine")) {
        let current = networks.iter().any(|n| is_of(name, n));
        say(format_args!("  {name}{}", if current { "" } else { "  (of other networks)" }))?;
    }
    if !names.iter().any(|name| name.ends_with(".engine")) {
        say("  nothing; `mmface-live engines build` does it, else the first run on a GPU")?;
    }
    Ok(())
}

/// Whether an engine was built from this network, for any chip and version of TensorRT.
fn is_of(name: &str, network: &Network) -> bool {
    network.recipe("", Chip::new(0, 0)).is_ok_and(|recipe| {
        let full = recipe.file_name();
        full.split("--").next().is_some_and(|start| name.starts_with(&format!("{start}-")))
    })
}

fn build(what: &Build) -> Result<()> {
    let (models, networks) = what.place.networks()?;
    let cache = what.place.cache();
    let Some(folder) = cache.folder() else {
        return Err(Error::Usage("there is no home folder: name one with --engine-cache".into()));
    };
    let chips = if what.target.is_empty() {
        let gpu = tensorrt::gpu().map_err(|e| {
            Library::Gpu(format!("{e}; or name a chip to build for: --target sm_89"))
        })?;
        vec![gpu.chip]
    } else {
        what.target.clone()
    };
    let library = tensorrt::tensorrt_version()?;
    // One engine that cannot be built does not prevent the others.
    let mut refused = 0;
    for chip in chips {
        for network in &networks {
            let name = network.recipe(&library, chip)?.file_name();
            if !what.force && matches!(cache.find(&name), Found::Good(_)) {
                tracing::info!("{name} is there");
                continue;
            }
            let onnx = models.network(&network.variant, &network.name)?;
            let title = format!("{} of {}", network.name, network.variant.name);
            match tensorrt::build(&title, &onnx, chip) {
                Ok(engine) => cache.store(&name, &engine),
                Err(error) => {
                    tracing::error!("{error}");
                    refused += 1;
                    continue;
                }
            }
            if !matches!(cache.find(&name), Found::Good(_)) {
                let folder = folder.display();
                return Err(Library::Library(format!(
                    "{name} could not be kept in {folder}; name another with --engine-cache"
                ))
                .into());
            }
        }
    }
    say(folder.display())?;
    match refused {
        0 => Ok(()),
        count => Err(Library::Library(format!("{count} engines could not be built")).into()),
    }
}

fn check(place: &Where) -> Result<()> {
    let (_, networks) = place.networks()?;
    let cache = place.cache();
    let library = tensorrt::tensorrt_version();
    let gpu = tensorrt::gpu();
    let mut unusable = 0;
    let mut print_verdict = |name: &str, verdict: std::result::Result<(), String>| match verdict {
        Ok(()) => say(format_args!("ok       {name}")),
        Err(why) => {
            unusable += 1;
            say(format_args!("not here {name}: {why}"))
        }
    };
    for name in cache.names().iter().filter(|name| name.ends_with(".engine")) {
        print_verdict(
            name,
            match (cache.find(name), &library, &gpu) {
                (Found::Bad(why), ..) => Err(format!("it {why}; the next run builds it anew")),
                (Found::Missing, ..) => Err("it has just gone".into()),
                (_, Err(e), _) | (_, _, Err(e)) => Err(e.to_string()),
                (Found::Good(engine), Ok(library), Ok(gpu)) => {
                    if !networks.iter().any(|n| is_of(name, n)) {
                        Err("it was built from other networks".into())
                    } else if !name.contains(&format!("-{library}-")) {
                        Err(format!("it was built by another TensorRT than {library}"))
                    } else if !name.contains(&format!("-{}-", gpu.chip)) {
                        Err(format!("this GPU is {}", gpu.chip))
                    } else {
                        tensorrt::check(&engine).map_err(|e| e.to_string())
                    }
                }
            },
        )?;
    }
    if let (Ok(library), Ok(gpu)) = (&library, &gpu) {
        for network in &networks {
            let name = network.recipe(library, gpu.chip)?.file_name();
            if cache.find(&name) == Found::Missing {
                print_verdict(&name, Err("it is not built; the next run does it".into()))?;
            }
        }
    }
    library?;
    gpu?;
    if unusable > 0 {
        return Err(Library::Library(format!("{unusable} engines cannot be used here")).into());
    }
    Ok(())
}
