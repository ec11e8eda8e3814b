//! A manual page for every command, and completions for three shells, from the one definition of
//! the command line.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Writes `man/*.1` and `completions/*` into `folder`.
pub(crate) fn write_all(folder: &Path) -> io::Result<()> {
    let manual = folder.join("man");
    fs::create_dir_all(&manual)?;
    let mut command = walker_user::cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&manual, &command)?;

    let completions = folder.join("completions");
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = walker_user::cli::command();
        clap_complete::generate_to(shell, &mut command, "stackwalk", &completions)?;
    }
    Ok(())
}

/// The page of a command, and those of its subcommands.
fn write_pages(folder: &Path, command: &Command) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    fs::write(folder.join(format!("{name}.1")), page(command)?)?;
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        write_pages(folder, subcommand)?;
    }
    Ok(())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    // The examples have a section of their own: clap_mangen would fill their lines.
    let examples = command.get_after_help().map(ToString::to_string);
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    // The page begins with the program's name, so its description need not.
    let about = about.trim_start_matches("stackwalk: ").to_owned();
    let man = Man::new(command.clone().about(about))
        .source(concat!("stackwalk ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(examples) = examples {
        writeln!(page, ".SH NOTES\n.nf")?;
        for line in examples.lines() {
            writeln!(page, "{}", verbatim(line))?;
        }
        writeln!(page, ".fi")?;
    }
    Ok(page)
}

/// A line as roff shows it unchanged.
fn verbatim(line: &str) -> String {
    let line = line.replace('\\', r"\e").replace('-', r"\-");
    match line.starts_with(['.', '\'']) {
        true => format!(r"\&{line}"),
        false => line,
    }
}
