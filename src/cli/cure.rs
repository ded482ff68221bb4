//! Adds advice to the library's messages, which name no flags.

use crate::Error;

/// The message of an error, with the flag that helps.
#[must_use]
pub fn explain(error: &Error) -> String {
    let Error::Mmface(cause) = error else { return error.to_string() };
    use mmface::Error as Library;
    let cure = match cause {
        Library::Precision(_) => "choose another with --precision, or leave it at auto",
        Library::Volumes => "use --device cpu (or auto)",
        Library::Models(_) | Library::ModelHash { .. } => "or name another folder with --engines",
        Library::Detector(_) => "see --detector-model and --detector",
        Library::Gpu(_) => "the CPU is chosen by --device cpu",
        _ => return cause.to_string(),
    };
    format!("{cause}; {cure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_that_helps_is_named() {
        let explained = |cause| explain(&Error::Mmface(cause));
        let precision = mmface::Error::Precision("no bf16 here".into());
        assert_eq!(
            explained(precision),
            "no bf16 here; choose another with --precision, or leave it at auto"
        );
        assert!(explained(mmface::Error::Volumes).ends_with("use --device cpu (or auto)"));
        assert_eq!(explained(mmface::Error::Device("no memory".into())), "no memory");
    }
}
