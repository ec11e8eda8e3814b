//! The manual pages and completions that `cargo xtask dist` packs: every command has a page, every
//! option is on it and is completed.

#[path = "../examples/manual/pages.rs"]
mod pages;

use std::{fs, path::Path};

use clap::Command;

/// Every command that can be typed with the name of its page.
fn commands() -> Vec<(String, Command)> {
    let mut command = walker_user::cli::command().disable_help_subcommand(true);
    command.build();
    let mut all = Vec::new();
    add(&command, &mut all);
    all
}

/// Adds a command and those below it.
fn add(command: &Command, all: &mut Vec<(String, Command)>) {
    let name = command.get_display_name().unwrap_or(command.get_name());
    all.push((name.to_owned(), command.clone()));
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        add(subcommand, all);
    }
}

fn read(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_command_has_a_page_with_all_its_options() {
    let folder = tempfile::tempdir().unwrap();
    pages::write_all(folder.path()).unwrap();
    let commands = commands();
    assert!(commands.len() > 5, "{commands:?}");
    for (name, command) in &commands {
        let page = read(folder.path(), &format!("man/{name}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
        for argument in command.get_arguments().filter(|one| !one.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                let option = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(page.contains(&option), "{name}: no {option} in\n{page}");
            }
        }
        // An example is a line of its own.
        if let Some(help) = command.get_after_help() {
            let help = help.to_string();
            let line = help
                .lines()
                .find(|line| line.contains("stackwalk"))
                .unwrap();
            let line = line.replace('-', "\\-");
            assert!(
                page.lines().any(|shown| shown == line),
                "{name}: no {line} in\n{page}"
            );
        }
    }
    let pages = fs::read_dir(folder.path().join("man")).unwrap().count();
    assert_eq!(pages, commands.len());
}

#[test]
fn three_shells_complete_every_command() {
    let folder = tempfile::tempdir().unwrap();
    pages::write_all(folder.path()).unwrap();
    for file in ["stackwalk.bash", "_stackwalk", "stackwalk.fish"] {
        let script = read(folder.path(), &format!("completions/{file}"));
        for (_, command) in &commands()[1..] {
            let name = command.get_name();
            assert!(script.contains(name), "{file} does not know `{name}`");
        }
        assert!(script.contains("off-cpu"), "{file} does not know --off-cpu");
    }
}
