//! `docs/metrics.md` is made from the table of metrics, and is current.

use bloctrain_operations::metric::TABLE;
use std::fmt::Write;
use std::path::Path;

const RENEW: &str = "BLOCTRAIN_RENEW=1 cargo test --release -p bloctrain-operations --test document";

const HEAD: &str = "# Metrics

What `/metrics` of a coordinator or worker says, for Prometheus: in OpenMetrics 1.0 for who asks for it, else in the
text form 0.0.4. Names and labels are stable: one that goes, or means something else, is named in
[CHANGELOG.md](../CHANGELOG.md). A coordinator that stands by has the first three rows and
`bloctrain_coordinator_active`.

`coordinator --http ADDR` and `worker --http ADDR` serve it, beside `/health/live`, `/health/ready` and
`/health/active`; `bloctrain health ADDR` asks these. The address has no tokens and no TLS: it tells counts, no secrets.

Counters begin at 0 when a process starts; a coordinator's when it becomes active.

| metric | kind | of | labels | says |
|---|---|---|---|---|
";

#[test]
fn the_document_has_every_metric() {
    let mut text = HEAD.to_owned();
    for metric in TABLE {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, of) = (metric.kind.name(), metric.of.name());
        writeln!(text, "| `{}` | {kind} | {of} | {} | {} |", metric.name, labels.join(", "), metric.help)
            .expect("written");
    }
    write!(text, "\nMade from `operations/src/metric.rs`: `{RENEW}`.\n").expect("written");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("BLOCTRAIN_RENEW").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/metrics.md is not current: {RENEW}");
}
