//! `docs/spec.md` is made from the types of the specification, their comments and the table of their fields, and is
//! current.

use bloctrain_shared::RunSpec;
use bloctrain_shared::spec::field::{FIELDS, Field, Reach, is_within};
use bloctrain_shared::spec::preset::{PRESETS, Preset, Recipe, settings};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const RENEW: &str = "BLOCTRAIN_RENEW=1 cargo test --release -p bloctrain-shared --test spec_doc";

/// A field of a struct, or a variant of an enum.
#[derive(Debug, Default, Clone)]
struct Member {
    name: String,
    about: String,
    /// The type; of a variant without fields nothing.
    of: String,
    members: Vec<Member>,
    /// The default that serde gives, as a function's name.
    default: String,
}

#[derive(Debug, Default, Clone)]
struct Type {
    about: String,
    members: Vec<Member>,
}

/// Types by their names, read from the sources.
fn types() -> BTreeMap<String, Type> {
    let mut found = BTreeMap::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside =
        |folder: &str| std::fs::read_dir(sources.join(folder)).expect("the sources").flatten().map(|file| file.path());
    let alone = ["neuron.rs", "norm.rs"].map(|file| sources.join(file));
    for file in inside("spec").chain(inside("layer")).chain(alone).filter(|file| file.is_file()) {
        read(&std::fs::read_to_string(file).expect("text"), &mut found);
    }
    found
}

/// The value of `key = "..."` in an attribute.
fn quoted(line: &str, key: &str) -> Option<String> {
    let rest = &line[line.find(&format!("{key} = \""))? + key.len() + 4..];
    Some(rest[..rest.find('"')?].to_owned())
}

fn read(source: &str, found: &mut BTreeMap<String, Type>) {
    let (mut about, mut rename, mut default) = (String::new(), None, String::new());
    let mut open: Option<(String, Type)> = None;
    let mut variant: Option<Member> = None;
    for line in source.lines().take_while(|line| !line.starts_with("#[cfg(test)]")) {
        let text = line.trim();
        let mut member = |name: &str, of: &str| Member {
            name: rename.take().unwrap_or_else(|| name.to_owned()),
            about: std::mem::take(&mut about),
            of: of.to_owned(),
            members: Vec::new(),
            default: std::mem::take(&mut default),
        };
        if let Some(comment) = text.strip_prefix("///") {
            let gap = if about.is_empty() { "" } else { " " };
            let _ = write!(about, "{gap}{}", comment.trim());
        } else if text.starts_with("#[serde(") {
            rename = quoted(text, "rename");
            default = quoted(text, "default").unwrap_or_default();
        } else if let Some(name) = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum ")) {
            let name = name.trim_end_matches(" {").to_owned();
            open = Some((name, Type { about: std::mem::take(&mut about), members: Vec::new() }));
        } else if line == "}" {
            found.extend(open.take());
        } else if let Some((_, of)) = &mut open {
            match (text.strip_prefix("pub ").unwrap_or(text).trim_end_matches(',').split_once(": "), &mut variant) {
                (Some((name, kind)), Some(variant)) => variant.members.push(member(name, kind)),
                (Some((name, kind)), None) => of.members.push(member(name, kind)),
                (None, _) if text == "}," => of.members.extend(variant.take()),
                (None, None) if text.ends_with(" {") => variant = Some(member(text.trim_end_matches(" {"), "")),
                (None, None) if text.ends_with("),") => {
                    let (name, kind) = text.trim_end_matches("),").split_once('(').expect("a variant with a type");
                    of.members.push(member(name, kind));
                }
                (None, None) if text.ends_with(',') => of.members.push(member(text.trim_end_matches(','), "")),
                _ => {}
            }
        } else if !text.starts_with("#[") {
            about.clear();
        }
    }
}

/// Paths of all fields below a type, with what the sources say about them.
fn walk(types: &BTreeMap<String, Type>, name: &str, prefix: &str, found: &mut Vec<(String, Member)>) {
    for member in &types[name].members {
        let path = if prefix.is_empty() { member.name.clone() } else { format!("{prefix}.{}", member.name) };
        if is_section(types, &member.of) {
            walk(types, inner(&member.of), &path, found);
        } else {
            found.push((path, member.clone()));
        }
    }
}

/// The type of what may be absent.
fn inner(of: &str) -> &str {
    of.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(of)
}

/// Whether a type has fields of its own.
fn is_section(types: &BTreeMap<String, Type>, of: &str) -> bool {
    types.get(inner(of)).is_some_and(|of| of.members.iter().any(|member| !member.of.is_empty()))
}

/// What may be written, in words.
fn kind(types: &BTreeMap<String, Type>, of: &str) -> String {
    let inner = |prefix: &str| of.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inner("Option<") {
        return kind(types, inner);
    }
    if let Some(inner) = inner("Vec<") {
        return format!("list of {}", kind(types, inner));
    }
    match of {
        "u32" | "u64" | "usize" => "whole number".into(),
        "f32" | "f64" => "number".into(),
        "bool" => "`true` or `false`".into(),
        "String" => "text".into(),
        "BlockSpec" => "blocks, see [layers](#layers)".into(),
        _ => types[of].members.iter().map(|choice| format!("`{}`", choice.name)).collect::<Vec<_>>().join(", "),
    }
}

fn default_of(path: &str) -> String {
    let plain = RunSpec::default().value(path).map_or_else(|| "not set".into(), |value| format!("`{value}`"));
    let is_its = |setting: &&str| setting.split('=').next().is_some_and(|own| is_within(path, own));
    let has_own = |recipe: &Recipe| settings(recipe).iter().any(is_its);
    let have_own = PRESETS.iter().filter(|preset| [preset.blocks, preset.end_to_end].iter().any(has_own));
    let presets: Vec<String> = have_own.map(|preset| format!("`{}`", preset.name)).collect();
    if presets.is_empty() { plain } else { format!("{plain}; [another](#presets) in {}", presets.join(", ")) }
}

/// What presets have in place of defaults.
fn presets() -> String {
    let code = |recipe: Recipe| match settings(recipe).as_slice() {
        [] => "defaults".to_owned(),
        settings => format!("`{}`", settings.join("`, `")),
    };
    let row = |preset: &Preset| {
        let [blocks, whole] = [preset.blocks, preset.end_to_end].map(code);
        format!("| `{}` | {} | {blocks} | {whole} |\n", preset.name, preset.title)
    };
    PRESETS.iter().map(row).collect()
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.trim_end_matches('.').replace('|', "\\|")
}

fn range(field: &Field) -> String {
    let text = field.range.text.trim_start_matches("lie ").trim_start_matches("be ");
    if text.is_empty() { "any".into() } else { text.to_owned() }
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Place => "the data",
        Reach::Label => "id",
        Reach::Answers => "id, answers",
        Reach::Training => "id, answers, weights",
        Reach::Spikes => "id, answers, weights, spikes",
    }
}

fn page(types: &BTreeMap<String, Type>) -> String {
    let mut fields = Vec::new();
    walk(types, "RunSpec", "", &mut fields);
    let mut page = INTRODUCTION.to_owned();
    for section in &types["RunSpec"].members {
        let _ = write!(page, "\n## {}\n\n{}\n\n{HEADER}", section.name, wrapped(&types[&section.of].about));
        let prefix = format!("{}.", section.name);
        for (path, member) in fields.iter().filter(|(path, _)| path.starts_with(&prefix)) {
            let field =
                Field::of(path).unwrap_or_else(|| panic!("{path} has no row in shared/src/spec/field/table.rs"));
            let when = if field.counts.is_empty() { "always".into() } else { field.when() };
            let unit = if field.unit.is_empty() { String::new() } else { format!(": {}", field.unit) };
            let row = [
                format!("`{path}`"),
                cell(&member.about),
                kind(types, &member.of) + &unit,
                range(field),
                default_of(path),
                when,
                reach(field.reach).into(),
            ];
            let _ = writeln!(page, "| {} |", row.join(" | "));
        }
        for part in types[&section.of].members.iter().filter(|part| is_section(types, &part.of)) {
            let _ = write!(page, "\n{}\n", wrapped(&format!("`{prefix}{}`: {}", part.name, part.about)));
        }
    }
    page.push_str(PRESETS_HEADER);
    page.push_str(&presets());
    page.push_str(LAYERS);
    for layer in &types["LayerSpec"].members {
        let own = &types[&layer.of];
        for (number, member) in own.members.iter().enumerate() {
            let (name, about) =
                if number == 0 { (format!("`{}`", layer.name), cell(&own.about)) } else { Default::default() };
            let default = match member.default.as_str() {
                "" => "has to be given".to_owned(),
                "super::one" => "`1`".to_owned(),
                "super::three" => "`3`".to_owned(),
                other => panic!("what is `{other}`?"),
            };
            let row =
                [name, about, format!("`{}`", member.name), cell(&member.about), kind(types, &member.of), default];
            let _ = writeln!(page, "| {} |", row.join(" | "));
        }
    }
    page.push_str("\n## Choices\n\n| field | choice | meaning |\n|---|---|---|\n");
    for (path, member) in &fields {
        let of = member.of.trim_start_matches("Vec<").trim_end_matches('>');
        for (number, choice) in
            types.get(of).filter(|_| of != "BlockSpec").iter().flat_map(|of| &of.members).enumerate()
        {
            let path = if number == 0 { format!("`{path}`") } else { String::new() };
            let _ = writeln!(page, "| {path} | `{}` | {} |", choice.name, cell(&choice.about));
        }
    }
    page
}

/// Prose in lines of at most 120 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("a line");
        if !line.is_empty() && line.len() + word.len() >= 120 {
            lines.push(word.to_owned());
        } else {
            let gap = if line.is_empty() { "" } else { " " };
            let _ = write!(line, "{gap}{word}");
        }
    }
    lines.join("\n")
}

const INTRODUCTION: &str = "# The specification of a run

<!-- Made from the types in shared/src/spec by a test, which says how to renew it. Change the comments there. -->

A specification is TOML. Every field has a default, so a file may be empty; `--set KEY=VALUE` reaches every field by its
path. `bloctrain spec check FILE` prints all of them; examples are in [examples](../examples). Files with a section
`[sweep]` are many runs: [sweeps](fleet.md).

- **Counts** says when anything reads a field. One that is written, in a file or by `--set`, and that nothing reads
  is refused, even at its default. In a sweep it is enough that one of the runs reads it; with the flag `--end-to-end`
  it is enough that the run without the flag does.
- **Changes** says what the value reaches: the run's id, what is made of frozen blocks (answers), the weights of a
  block, the spikes that a block of given weights emits. A field that counts and is not at its default is part of the
  id; so a specification with its defaults written out is the same run.
- What changes weights decides which runs share frozen blocks; what changes spikes is in the keys of the spike cache
  ([identity](../ARCHITECTURE.md#identity)).
";

const HEADER: &str =
    "| field | meaning | value | range | default | counts | changes |\n|---|---|---|---|---|---|---|\n";

const PRESETS_HEADER: &str = "
## Presets

What was measured to be better than the defaults ([accuracy](accuracy.md)). A preset has it where nothing else is
written, and where it leaves all that is written its meaning: with anything in `[hard_classes]`, `small` has no hard
inputs, nor what is there for them, and with `network.auxiliary.kind = \"none\"` `resnet9` has a surrogate width of 2
and a learning rate of 0.016. `bloctrain spec check` prints what a run has.

| preset | network | block by block | end to end |
|---|---|---|---|
";

const LAYERS: &str = "
## Layers

A block is `[[network.block]]` with `layers = [{ type = \"conv\", channels = 32 }, ...]`. Its last layer has to emit
spikes.

| layer | meaning | field | meaning | value | default |
|---|---|---|---|---|---|
";

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec.md")
}

#[test]
fn the_page_is_current() {
    let page = page(&types());
    if std::env::var_os("BLOCTRAIN_RENEW").is_some() {
        std::fs::write(place(), &page).expect("written");
    }
    let known = std::fs::read_to_string(place()).unwrap_or_default();
    if let Some((found, known)) = page.lines().zip(known.lines()).find(|(found, known)| found != known) {
        panic!("docs/spec.md is not current; renew it with\n  {RENEW}\nit says\n  {known}\ninstead of\n  {found}");
    }
    assert_eq!(page, known, "docs/spec.md is not current; renew it with\n  {RENEW}");
}

#[test]
fn every_field_of_the_types_has_one_row() {
    let mut fields = Vec::new();
    walk(&types(), "RunSpec", "", &mut fields);
    let found: Vec<&str> = fields.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(found, FIELDS.iter().map(|field| field.path).collect::<Vec<_>>(), "shared/src/spec/field/table.rs");
    for (path, member) in fields {
        assert!(!member.about.is_empty(), "{path} has no comment");
    }
}
