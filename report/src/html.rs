//! A document as one HTML file that needs nothing else: no script, no request.

use crate::document::{Document, Image, Part, Section, Table};
use std::fmt::Write;

/// Colours are those of Okabe and Ito (2008), which people with any colour vision tell apart, a little lighter on dark
/// ground.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#cc79a7;\
--s4:#b58900;--s5:#56b4e9}\
@media(prefers-color-scheme:dark){:root{--s0:#4aa8e0;--s1:#f08030;--s2:#2fc79a;--s3:#e09cc4;--s4:#e0b83c;--s5:#8fd0f5}}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.5rem}\
h1{font-size:1.7rem;margin:.2rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);\
padding-bottom:.2rem}\
p{margin:.5rem 0;max-width:48rem}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;margin:.7rem 0}\
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}\
td{overflow-wrap:anywhere}\
.numbers td{overflow-wrap:normal}.numbers td:not(:first-child),.numbers th:not(:first-child){text-align:right;\
font-variant-numeric:tabular-nums}\
.numbers td:not(:first-child){white-space:nowrap}.numbers th{vertical-align:bottom}\
.numbers th,.numbers td{padding:.25rem .5rem}\
pre{background:var(--soft);padding:.8rem;overflow-x:auto;font-size:.8rem;border-radius:4px}\
figure{margin:1rem 0}.images{display:flex;flex-wrap:wrap;gap:.7rem;margin:.7rem 0}.images figure{width:6.2rem;\
margin:0;padding:.4rem;border-left:3px solid var(--s2);background:var(--soft)}\
.images .wrong{border-color:var(--s1)}.images img{display:block;width:4.5rem;height:4.5rem;object-fit:contain;\
image-rendering:pixelated}\
.images figcaption,.images span{display:block;overflow-wrap:anywhere;font-size:.8rem}\
figcaption{font-size:.85rem;opacity:.8;max-width:48rem}svg{max-width:100%;height:auto;font:12px system-ui,sans-serif}\
nav{font-size:.9rem}nav a{margin-right:.9rem;white-space:nowrap}a{color:var(--s0)}\
@media print{body{max-width:none;padding:0}nav{display:none}h2{break-after:avoid}figure,tr{break-inside:avoid}}";

/// Text that HTML and SVG show as it is, also in attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No document may hold these.
            control if control.is_control() && !control.is_whitespace() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The document as one HTML file.
pub fn to_html(document: &Document) -> String {
    let title = escaped(&document.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src data:\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<nav>"
    );
    // Writing into a text does not fail.
    for (number, section) in document.sections.iter().enumerate() {
        let _ = write!(html, "<a href=\"#s{number}\">{}</a> ", escaped(&section.title));
    }
    html.push_str("</nav>\n");
    for (number, section) in document.sections.iter().enumerate() {
        add(&mut html, number, section);
    }
    html.push_str("</body>\n</html>\n");
    html
}

fn add(html: &mut String, number: usize, section: &Section) {
    let _ = writeln!(html, "<section>\n<h2 id=\"s{number}\">{}</h2>", escaped(&section.title));
    for part in &section.parts {
        let _ = match part {
            Part::Text(text) => writeln!(html, "<p>{}</p>", escaped(text)),
            Part::Table(table) => writeln!(html, "{}", to_table(table)),
            Part::Picture { svg, caption } => {
                writeln!(html, "<figure>{svg}<figcaption>{}</figcaption></figure>", escaped(caption))
            }
            Part::Images(images) => {
                writeln!(html, "<div class=\"images\">{}</div>", images.iter().map(to_figure).collect::<String>())
            }
            Part::Code(text) => writeln!(html, "<pre>{}</pre>", escaped(text)),
        };
    }
    html.push_str("</section>\n");
}

fn to_figure(image: &Image) -> String {
    let lines: String = image.lines.iter().map(|line| format!("<span>{}</span>", escaped(line))).collect();
    let class = if image.is_right { "right" } else { "wrong" };
    let (png, title) = (escaped(&image.png), escaped(&image.title));
    format!(
        "<figure class=\"{class}\"><img src=\"data:image/png;base64,{png}\" \
        alt=\"\"/><figcaption><b>{title}</b>{lines}</figcaption></figure>\n"
    )
}

fn to_table(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let class = if table.is_numeric { " class=\"numbers\"" } else { "" };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<div class=\"wide\"><table{class}>\n<thead>\n{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>",
        row(&table.head, "th")
    )
}
