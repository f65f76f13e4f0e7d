//! `docs/from-js.md` has every public name of the JavaScript packages: `fixtures/js-names/names.txt`.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../../docs/from-js.md");
const NAMES: &str = include_str!("../../../../fixtures/js-names/names.txt");

/// The words in code spans of a section of the page.
fn section(title: &str) -> BTreeSet<&'static str> {
    let (_, rest) = PAGE
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("docs/from-js.md has no section {title}"));
    let text = rest.split("\n## ").next().unwrap_or_default();
    let code = text.split('`').skip(1).step_by(2);
    code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

/// Fails if a name of the packages is missing on the page, in the section it belongs to.
#[test]
fn the_page_has_every_name() {
    let mut count = 0;
    let mut missing = Vec::new();
    for line in NAMES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (title, names) = line.split_once(": ").unwrap();
        let words = section(title);
        for name in names.split(' ') {
            count += 1;
            if !words.contains(name) {
                missing.push(format!("{title}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "missing in docs/from-js.md:\n{}", missing.join("\n"));
    assert!(count > 200, "{count}");
}
