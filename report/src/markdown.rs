//! A document as Markdown: its texts and tables. Pictures are named; the HTML file shows them.

use crate::document::{Document, Image, Part, Table};
use std::fmt::Write;

/// Text that Markdown shows as it is, on one line.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '$' => escaped.extend(['\\', character]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The document as Markdown.
pub fn to_markdown(document: &Document) -> String {
    let mut text = format!("# {}\n", escaped(&document.title));
    // Writing into a text does not fail.
    for section in &document.sections {
        let _ = write!(text, "\n## {}\n", escaped(&section.title));
        for part in &section.parts {
            let _ = match part {
                Part::Text(own) => writeln!(text, "\n{}", escaped(own)),
                Part::Table(table) => write!(text, "\n{}", to_table(table)),
                Part::Picture { caption, .. } => writeln!(text, "\n*Picture in the HTML report: {}*", escaped(caption)),
                Part::Images(images) => write!(text, "\n{}", images.iter().map(to_item).collect::<String>()),
                Part::Code(own) => writeln!(text, "\n{}", fenced(own)),
            };
        }
    }
    text
}

/// What there is to say of an image, which the HTML file shows.
fn to_item(image: &Image) -> String {
    format!("- {}: {}\n", escaped(&image.title), escaped(&image.lines.join("; ")))
}

/// Lines between fences that are longer than any in them.
pub(crate) fn fenced(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}", text.trim_end())
}

/// A table.
pub(crate) fn to_table(table: &Table) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = |column: usize| if table.is_numeric && column > 0 { "---:" } else { "---" };
    let rules: Vec<&str> = (0..table.head.len()).map(rule).collect();
    let rows: String = table.rows.iter().map(|cells| row(cells)).collect();
    format!("{}| {} |\n{rows}", row(&table.head), rules.join(" | "))
}
