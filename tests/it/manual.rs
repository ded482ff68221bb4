//! The manual page and the shells' completions.

use crate::common::program::run;

fn text(args: &[&str]) -> String {
    let done = run(args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_manual_page_knows_every_flag_that_help_shows() {
    let (page, help) = (text(&["man"]), text(&["--help"]));
    assert!(page.contains(".TH mmface-live 1"));
    let flags = help.lines().filter_map(|line| {
        let flag = line.trim_start().split("--").nth(1)?;
        line.trim_start().starts_with('-').then(|| flag.split([' ', '[', ',']).next())?
    });
    let flags: Vec<_> = flags.filter(|flag| !flag.is_empty()).collect();
    assert!(flags.len() > 40, "{flags:?}");
    for flag in flags {
        assert!(page.contains(&flag.replace('-', "\\-")), "--{flag} is not in the manual page");
    }
}

#[test]
fn shells_complete_flags_and_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&["completions", shell]);
        for word in ["mmface-live", "convert", "parquet"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(["completions", "dos"]).code, Some(2));
}
