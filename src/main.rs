//! Parses the arguments, runs the command and returns the exit code.

use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use mmface::record;
use mmface_live::cli::{self, Command, Config, RunArgs};
use mmface_live::{Error, Result, run};

fn main() -> ExitCode {
    let cli = cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "mmface_live=info,mmface=info".into());
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
        None => run_stream(cli.run),
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

fn run_stream(args: RunArgs) -> Result<()> {
    let config = Config::new(args)?;
    let stop = cli::stop_on_signals()?;
    let runtime = config.runtime.open()?;
    log_summary(&run::run(&runtime, config.run, &stop)?);
    Ok(())
}

fn other(command: Command) -> Result<()> {
    match command {
        Command::Schema => cli::schema(),
        Command::Doctor(args) => cli::doctor::run(&args),
        Command::Engines(command) => cli::engines::run(&command),
        Command::Eval(args) => cli::eval::run(*args, &cli::stop_on_signals()?),
        Command::View(args) => cli::view::run(&args),
    }
}

fn log_summary(end: &record::End) {
    let record::End { frames, faces, seconds, fps, latency_ms, reason, .. } = end;
    let mut lost = String::new();
    for (count, why) in [(frames.dropped.busy, "too fast"), (frames.dropped.damaged, "damaged")] {
        if count > 0 {
            lost += &format!(", {count} lost ({why})");
        }
    }
    tracing::info!(
        "{reason}: {} {}{lost}, {faces} {} in {seconds:.1} s: {fps:.0} frames a second, {:.1} ms each (95 of 100 within {:.1} ms)",
        frames.processed,
        if frames.processed == 1 { "frame" } else { "frames" },
        if *faces == 1 { "face" } else { "faces" },
        latency_ms.p50,
        latency_ms.p95,
    );
}
