//! Rules of the tree that no compiler checks. Each failure names the file, and the rule's reason.

use std::{
    collections::BTreeSet,
    env,
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::CommandFactory as _;

/// Longest source file, in lines: what is longer has more than one concern.
const SOURCE_LINES_MAX: usize = 500;

/// Crates that do I/O or bring a runtime; `contract` has none of them, not even through others.
const IO_CRATES: [&str; 12] = [
    "axum",
    "hyper",
    "kube",
    "kube-client",
    "mio",
    "redis",
    "reqwest",
    "rustls",
    "socket2",
    "sqlx",
    "sqlx-core",
    "tokio",
];

/// What a decision module may not name: time, randomness and the outside world come in as arguments.
const IO_PATHS: [&str; 9] =
    ["axum::", "hyper::", "kube::", "redis::", "reqwest::", "sqlx::", "std::fs", "std::net", "tokio::"];

/// Decision modules: a directory stands for every file in it.
const DECISIONS: [&str; 15] = [
    "webhook/src/admission",
    "webhook/src/audit",
    "webhook/src/offline/read.rs",
    "provisioner/src/config/chain.rs",
    "provisioner/src/config/etag.rs",
    "provisioner/src/config/schema.rs",
    "provisioner/src/config/value.rs",
    "provisioner/src/identity/permissions.rs",
    "provisioner/src/tenancy/failure.rs",
    "provisioner/src/tenancy/operation.rs",
    "provisioner/src/tenancy/progress.rs",
    "provisioner/src/tenancy/request.rs",
    "provisioner/src/tenancy/step.rs",
    "sidecar/src/store.rs",
    "sidecar/src/sync/agenda.rs",
];

fn root() -> PathBuf {
    tests::workspace::root()
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    output(Command::new(program).args(arguments))
}

fn output(command: &mut Command) -> Result<String> {
    let result = command.current_dir(root()).output().with_context(|| format!("{command:?}"))?;
    ensure!(result.status.success(), "{command:?}: {}", String::from_utf8_lossy(&result.stderr));
    Ok(String::from_utf8(result.stdout)?)
}

/// Tracked files whose name ends with one of `endings` (all files if there is none), relative to the root.
fn tracked(endings: &[&str]) -> Result<Vec<PathBuf>> {
    let names = output(Command::new("git").args(["ls-files", "-z"]))?;
    Ok(names
        .split('\0')
        .filter(|name| {
            !name.is_empty() && (endings.is_empty() || endings.iter().any(|ending| name.ends_with(ending)))
        })
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect())
}

/// The file's text, or nothing for a file that is not text.
fn text(path: &Path) -> String {
    fs::read(root().join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Which lines of a file count.
#[derive(Clone, Copy)]
enum Lines {
    /// Every line.
    All,
    /// Those before the module of tests.
    ButTests,
}

/// Lines of `files` that contain one of `words`, as `file:line: word`.
fn mentions(files: &[PathBuf], words: &[String], lines: Lines) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let text = text(file);
        let end = text.find("#[cfg(test)]\nmod ").filter(|_| matches!(lines, Lines::ButTests));
        for (number, line) in text[..end.unwrap_or(text.len())].lines().enumerate() {
            let hits = words.iter().filter(|word| line.contains(word.as_str()));
            found.extend(hits.map(|word| format!("{}:{}: {word}", file.display(), number + 1)));
        }
    }
    found
}

/// Joins the halves of a word that this file itself may not contain.
fn word(halves: (&str, &str)) -> String {
    format!("{}{}", halves.0, halves.1)
}

#[test]
fn contract_depends_on_nothing_that_does_io() -> Result<()> {
    let tree = cargo(&[
        "tree", "-p", "contract", "-e", "normal", "--prefix", "none", "--format", "{p}", "--locked",
    ])?;
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains("contract"), "unexpected answer of cargo tree:\n{tree}");
    let found: Vec<_> = IO_CRATES.iter().filter(|name| names.contains(*name)).collect();
    assert!(found.is_empty(), "contract must stay free of I/O, and depends on {found:?}");
    Ok(())
}

#[test]
fn programs_do_not_import_one_another() -> Result<()> {
    for program in ["webhook", "provisioner", "sidecar"] {
        let tree = cargo(&[
            "tree", "-p", program, "-e", "normal", "--prefix", "none", "--format", "{p}", "--locked",
        ])?;
        let others = ["webhook", "provisioner", "sidecar"].into_iter().filter(|other| *other != program);
        for other in others {
            assert!(
                !tree.lines().any(|line| line.starts_with(&format!("{other} v"))),
                "{program} imports {other}"
            );
        }
    }
    Ok(())
}

#[test]
fn decisions_do_no_io() -> Result<()> {
    let sources = tracked(&[".rs"])?;
    let words: Vec<String> = IO_PATHS.iter().map(ToString::to_string).collect();
    for module in DECISIONS {
        let files: Vec<_> = sources
            .iter()
            .filter(|file| file.starts_with(module) && !file.to_string_lossy().ends_with("_tests.rs"))
            .cloned()
            .collect();
        assert!(!files.is_empty(), "{module} is gone: correct the list in this test");
        let found = mentions(&files, &words, Lines::ButTests);
        assert!(found.is_empty(), "decisions take what they need as arguments: {found:#?}");
    }
    Ok(())
}

#[test]
fn files_stay_short() -> Result<()> {
    let long: Vec<_> = tracked(&[".rs", ".go", ".sh", ".sql"])?
        .into_iter()
        .map(|file| (text(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > SOURCE_LINES_MAX)
        .collect();
    assert!(long.is_empty(), "over {SOURCE_LINES_MAX} lines, split by concern: {long:?}");
    Ok(())
}

#[test]
fn programs_start_in_a_thin_main() {
    for program in ["webhook", "provisioner", "sidecar"] {
        let lines = text(Path::new(&format!("{program}/src/main.rs"))).lines().count();
        assert!(
            (1..60).contains(&lines),
            "{program}/src/main.rs has {lines} lines; it reads settings and calls run"
        );
    }
}

#[test]
fn nothing_is_left_for_later() -> Result<()> {
    let words = [
        ("#[ign", "ore"),
        ("#[should_p", "anic"),
        ("tod", "o!("),
        ("unimplem", "ented!("),
        ("TO", "DO"),
        ("FIX", "ME"),
    ];
    let found = mentions(
        &tracked(&[".rs", ".go", ".sh", ".sql", ".yaml", ".toml", ".md"])?,
        &words.map(word),
        Lines::All,
    );
    assert!(found.is_empty(), "finish it, or leave it out and say so in the docs: {found:#?}");
    Ok(())
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() -> Result<()> {
    let words = [("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("/Us", "ers/")].map(word);
    let found = mentions(&tracked(&[])?, &words, Lines::All);
    assert!(found.is_empty(), "paths of one machine: {found:#?}");
    Ok(())
}

#[test]
fn every_test_file_is_run() -> Result<()> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"])?)
            .unwrap();
    let run: BTreeSet<PathBuf> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap())
        .filter(|target| target["kind"][0] == "test" && target["test"] == true)
        .map(|target| PathBuf::from(target["src_path"].as_str().unwrap()))
        .collect();
    let files = tracked(&[".rs"])?;
    // A module's own modules are imported by its mod.rs, which is looked at itself.
    let roots = files.iter().filter(|file| file.starts_with("tests/tests") && file.ends_with("mod.rs"));
    let importing: Vec<PathBuf> = run.iter().cloned().chain(roots.map(|file| root().join(file))).collect();
    for file in &files {
        let directory = file.parent().and_then(Path::file_name);
        let in_tests = file.components().nth(1).is_some_and(|part| part.as_os_str() == "tests");
        if !in_tests {
            continue;
        }
        let module = file.file_stem().unwrap().to_string_lossy().into_owned();
        let imported = || {
            let mut sources = importing.iter().map(|path| fs::read_to_string(path).unwrap());
            let name = if module == "mod" {
                directory.unwrap().to_string_lossy().into_owned()
            } else {
                module.clone()
            };
            sources.any(|source| source.contains(&format!("mod {name};")))
        };
        assert!(
            run.contains(&root().join(file)) || imported(),
            "{}: cargo does not run it, nor does a test import it",
            file.display()
        );
    }
    Ok(())
}

#[test]
fn the_makefile_names_scripts_that_are_there() {
    let makefile = text(Path::new("Makefile"));
    let named = makefile.split_whitespace().filter_map(|word| word.strip_prefix("@scripts/"));
    let gone: Vec<_> = named.filter(|name| !root().join("scripts").join(name).is_file()).collect();
    assert!(makefile.contains("@scripts/") && gone.is_empty(), "scripts that are not there: {gone:?}");
}

/// Compares a committed file with what the programs say; `UPDATE_GENERATED=1` writes it instead.
fn check_generated(path: &str, expected: &str) -> Result<()> {
    if env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(root().join(path), expected)?;
    }
    let hint = "is out of date: UPDATE_GENERATED=1 cargo test -p tests --test tidy";
    ensure!(text(Path::new(path)) == expected, "{path} {hint}");
    Ok(())
}

#[test]
fn generated_manifests_are_what_the_program_writes() -> Result<()> {
    for (part, path) in [
        ("registration", "manifests/components/registration/configurations.yaml"),
        ("second-lock", "manifests/components/second-lock/policies.yaml"),
        ("injection-policy", "manifests/components/injection-policy/policies.yaml"),
    ] {
        let program = tests::workspace::binary("webhook")?;
        check_generated(path, &output(Command::new(program).args(["manifests", part]))?)?;
    }
    Ok(())
}

#[test]
fn the_settings_page_is_what_the_programs_accept() -> Result<()> {
    let mut page = String::from(
        "# Settings\n\nEach setting is a flag and an environment variable; the flag wins. Generated from the programs: \
         `tests/tests/tidy.rs` compares it.\n",
    );
    for program in [webhook::settings::Cli::command(), provisioner::settings::Cli::command()] {
        describe(&mut page, &program, program.get_name())?;
    }
    describe(&mut page, &sidecar::settings::Settings::command(), "sidecar")?;
    check_generated("docs/reference/settings.md", &page)
}

/// A table of the command's settings, then its subcommands.
fn describe(page: &mut String, command: &clap::Command, name: &str) -> fmt::Result {
    let settings: Vec<_> = command.get_arguments().filter(|setting| !setting.is_hide_set()).collect();
    if !settings.is_empty() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        write!(
            page,
            "\n## `{name}`\n\n{about}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n"
        )?;
    }
    for setting in settings {
        let flag = setting
            .get_long()
            .map_or(format!("{}", setting.get_id()).to_uppercase(), |long| format!("--{long}"));
        let variable =
            setting.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let defaults: Vec<_> =
            setting.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match (setting.is_required_set(), defaults.as_slice()) {
            (true, _) => "required".to_owned(),
            (_, []) => String::new(),
            (_, values) => format!("`{}`", values.join(",")),
        };
        let meaning = setting.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(page, "| `{flag}` | {variable} | {default} | {meaning} |")?;
    }
    for subcommand in command.get_subcommands() {
        describe(page, subcommand, &format!("{name} {}", subcommand.get_name()))?;
    }
    Ok(())
}
