//! `docs/from-js.md` has every name of the JavaScript package and every scenario of its tests, and promises no
//! test that is not there.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, fs, path::Path};

const NAMES: &str = include_str!("names.txt");

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/from-js.md")).unwrap()
}

/// What is under a heading of the second level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let title = format!("\n## {heading}\n");
    let start = page.find(&title).unwrap_or_else(|| panic!("there is no heading {heading:?}"));
    let text = page.get(start + title.len()..).unwrap();
    text.split("\n## ").next().unwrap()
}

/// The words in code, as they could be searched for: `append(data, seq)` has `append`, `data` and `seq`.
fn words_in_code(text: &str) -> BTreeSet<&str> {
    let code = text.split('`').skip(1).step_by(2);
    code.flat_map(|code| {
        code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).flat_map(|word| {
            let parts = word.split('.').chain([word]);
            parts.filter(|part| !part.is_empty())
        })
    })
    .collect()
}

/// Fails if a name of the original is not on the page under its heading.
#[test]
fn every_name_is_on_the_page() {
    let page = page();
    let mut missing = Vec::new();
    let mut count = 0;
    for line in NAMES.lines().filter(|line| !line.starts_with('#')) {
        let (heading, names) = line.split_once(':').unwrap();
        let words = words_in_code(section(&page, heading));
        for name in names.split_whitespace() {
            count += 1;
            if !words.contains(name) {
                missing.push(format!("{name} under {heading:?}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/from-js.md: {missing:#?}");
    assert!(count > 90, "{count} names");
}

/// The scenarios that the first cell of a line names, as in `02log 3 to 5` or `06multi-txn 1, 2, 07multi-iter 1`.
fn scenarios(cell: &str) -> BTreeSet<(&str, u32)> {
    let (mut found, mut file, mut last, mut to) = (BTreeSet::new(), "", 0, false);
    for word in cell.split([' ', ',']) {
        if let Ok(number) = word.parse::<u32>() {
            let first = if to { last } else { number };
            found.extend((first..=number).map(|number| (file, number)));
            (last, to) = (number, false);
        } else if word == "to" {
            to = true;
        } else if word.starts_with(['0', '1']) && word.chars().any(char::is_alphabetic) {
            file = word;
        }
    }
    found
}

/// Fails if a scenario of the original's tests has no line on the page.
#[test]
fn every_scenario_has_a_line() {
    let page = page();
    let table = section(&page, "Scenarios");
    let lines: BTreeSet<_> =
        table.lines().filter_map(|line| line.split('|').nth(1)).flat_map(scenarios).collect();
    let files = [
        ("01encode", 6),
        ("02log", 20),
        ("03txn", 7),
        ("04iter", 19),
        ("05multi", 20),
        ("06multi-txn", 7),
        ("07multi-iter", 19),
        ("09elect", 7),
        ("10update", 2),
        ("11repl", 2),
        ("12state", 4),
        ("14stream", 2),
        ("15misc", 2),
    ];
    for (file, count) in files {
        for number in 1..=count {
            assert!(
                lines.contains(&(file, number)),
                "{file} {number} has no line in docs/from-js.md"
            );
        }
    }
    for file in ["08timeout", "13perf"] {
        assert!(table.contains(&format!("| {file} |")));
    }
}

/// Fails if the page names a scenario's test that was renamed or removed.
#[test]
fn tests_on_the_page_are_there() {
    let page = page();
    let mut code = String::new();
    for dir in ["tests/seed_log", "../tinyraftplus/tests/api"] {
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
            code += &fs::read_to_string(file.unwrap().path()).unwrap();
        }
    }
    let is_test = |word: &&str| {
        let files = ["encode_", "log_", "multi_", "elect_", "update_", "repl_", "state_", "misc_"];
        files.iter().any(|file| {
            word.strip_prefix(file)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let named: Vec<&str> = words_in_code(&page).into_iter().filter(is_test).collect();
    let gone: Vec<_> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(gone.is_empty(), "on the page but not in the tests: {gone:?}");
    assert!(named.len() > 48, "{}", named.len());
}
