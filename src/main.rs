//! Parses the arguments, runs the command and returns the exit code.

use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mmface_live::board::Board;
use mmface_live::cli::{self, Command, Job, RunArgs, Streams};
use mmface_live::watch::Watch;
use mmface_live::{Error, Result, run};

fn main() -> ExitCode {
    few_heaps();
    let cli = cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "mmface_live=info,mmface=info".into());
    // It would log every byte that it sends, and with them VTube Studio's token.
    let filter = match "tungstenite=info".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| cli::MaskedStderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A closed standard error must not end the run.
        .log_internal_errors(false)
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("panic: {panic}")));

    let work = AssertUnwindSafe(|| match cli.command {
        Some(command) => other(command),
        None => run_streams(cli.run),
    });
    let result =
        catch_unwind(work).unwrap_or_else(|_| Err(Error::Bug("the program panicked".into())));
    let code = match result {
        Ok(()) | Err(Error::ReaderGone) => 0,
        Err(error) => {
            tracing::error!("{}", cli::explain(&error));
            error.exit_code()
        }
    };
    if mmface_live::ending::has_abandoned() {
        signal_hook::low_level::exit(code.into());
    }
    ExitCode::from(code)
}

fn run_streams(args: RunArgs) -> Result<()> {
    match Job::new(args)? {
        Job::One(config) => {
            let stop = cli::stop_on_signals()?;
            let board = Arc::new(Board::default());
            board.put(&config.run.stream, &config.run.counters);
            let _watch = Watch::start(config.listen, &board, &stop)?;
            let runtime = config.runtime.open()?;
            run::log_end(&run::run(&runtime, config.run, &stop)?);
            Ok(())
        }
        Job::Many(streams) => run_many(*streams),
    }
}

fn run_many(mut config: Streams) -> Result<()> {
    let requests = cli::Requests::listen(true)?;
    let board = Arc::new(Board::default());
    for (_, options) in &config.streams {
        board.put(&options.stream, &options.counters);
    }
    let watch = Watch::start(config.listen.clone(), &board, &requests.stop)?;
    let runtime = config.runtime.open()?;
    let streams = std::mem::take(&mut config.streams);
    run::run_streams(&runtime, streams, &board, &requests.stop, || {
        // Whatever was asked for before is done.
        watch.reloaded();
        requests.reload.swap(false, Ordering::Relaxed).then(|| config.again()).and_then(|read| {
            watch.reloading();
            let again = read.inspect_err(|e| tracing::error!("{e}; the streams go on as they are"));
            let again = again.ok()?;
            if again.runtime != config.runtime {
                tracing::warn!("settings of the networks change only with a new start");
            }
            tracing::info!("the list of streams is read again");
            Some(again.streams)
        })
    })
}

fn other(command: Command) -> Result<()> {
    match command {
        Command::Schema => cli::schema(),
        Command::Doctor(args) => cli::doctor::run(&args),
        Command::Engines(command) => cli::engines::run(&command),
        Command::Eval(args) => cli::eval::run(*args, &cli::stop_on_signals()?),
        Command::Convert(args) => cli::convert::run(&args),
        Command::Completions(args) => cli::manual::completions(&args),
        Command::Man => cli::manual::page(),
        Command::View(args) => cli::view::run(&args),
        #[cfg(feature = "fleet")]
        Command::Worker(args) => cli::fleet::work(&args, &cli::stop_on_signals()?),
        #[cfg(feature = "fleet")]
        Command::Fleet(command) => cli::fleet::fleet(&command),
        #[cfg(feature = "fleet")]
        Command::Tail(args) => cli::tail::run(&args, &*cli::stop_on_signals()?),
    }
}

/// Has glibc keep at most two heaps. By default every thread may get one, and each connection to a
/// camera brings new threads: memory then grows by 12 MB at each reconnect.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc's mallopt")]
fn few_heaps() {
    unsafe extern "C" {
        fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
    }
    const M_ARENA_MAX: std::ffi::c_int = -8;
    // SAFETY: mallopt takes two numbers and may be called at any time; no other thread runs yet.
    let _ = unsafe { mallopt(M_ARENA_MAX, 2) };
}

#[cfg(not(target_env = "gnu"))]
fn few_heaps() {}
