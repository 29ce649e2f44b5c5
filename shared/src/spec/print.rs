//! A specification as people read it, with every field: those that nothing reads are comments that say when they would
//! count, so that what is printed is a specification of the same run.

use super::RunSpec;
use super::field::{FIELDS, Field};
use std::fmt::Write;
use toml::{Table, Value};

impl RunSpec {
    /// The value of a field as TOML; none where it is not set.
    pub fn value(&self, path: &str) -> Option<Value> {
        at(&self.values(), path)
    }

    /// All fields as TOML.
    pub fn printed(&self) -> String {
        let values = self.values();
        let (mut printed, mut layers, mut section) = (String::new(), String::new(), "");
        // Where the section stands, even empty, it is another head than the preset's.
        let is_open = |field: &&Field| field.path.starts_with("network.head.") && self.network.head.is_none();
        for field in FIELDS.iter().filter(|field| !is_open(field)) {
            let (own, name) = field.path.rsplit_once('.').unwrap_or(("", field.path));
            if own != section {
                printed.push_str(&std::mem::take(&mut layers));
                let gap = if section.is_empty() { "" } else { "\n" };
                let _ = writeln!(printed, "{gap}[{own}]");
                section = own;
            }
            match at(&values, field.path) {
                value if field.path == "network.block" => layers = blocks(value),
                Some(value) => line(&mut printed, field, name, &value, self),
                None => {
                    let _ = writeln!(printed, "# {name} is not set");
                }
            }
        }
        printed.push_str(&layers);
        printed
    }

    /// By way of text, which writes an f32 with its own digits.
    fn values(&self) -> Table {
        let mut values: Table =
            toml::to_string(self).ok().and_then(|text| toml::from_str(&text).ok()).unwrap_or_default();
        if let Some(train) = values.get_mut("train").and_then(Value::as_table_mut) {
            // These are left out at their defaults.
            train.entry("outer_learning_rate").or_insert(self.train.outer_learning_rate.into());
            train.entry("outer_momentum").or_insert(self.train.outer_momentum.into());
            train.entry("drop_last").or_insert(self.train.drop_last.into());
            train.entry("start_steps").or_insert(integer(self.train.start_steps));
            train.entry("recount").or_insert(integer(self.train.recount));
            train.entry("later_fraction").or_insert(self.train.later_fraction.into());
            train.entry("ema").or_insert(self.train.ema.into());
        }
        let auxiliary = values.get_mut("network").and_then(Value::as_table_mut);
        let auxiliary = auxiliary.map(|network| network.entry("auxiliary").or_insert_with(|| Table::new().into()));
        if let Some(auxiliary) = auxiliary.and_then(Value::as_table_mut) {
            let own = &self.network.auxiliary;
            auxiliary.entry("kind").or_insert_with(|| Value::try_from(own.kind).unwrap_or_else(|_| "none".into()));
            auxiliary.entry("depth").or_insert(integer(own.depth));
            auxiliary.entry("exit_gradient").or_insert(own.exit_gradient.into());
        }
        let inputs = values.entry("hard_inputs").or_insert_with(|| Table::new().into());
        if let Some(inputs) = inputs.as_table_mut() {
            inputs.entry("floor").or_insert(self.hard_inputs.floor.into());
        }
        values
    }
}

fn integer(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn at(values: &Table, path: &str) -> Option<Value> {
    let mut parts = path.split('.');
    let first = values.get(parts.next()?)?;
    parts.try_fold(first, |value, key| value.get(key)).cloned()
}

fn line(printed: &mut String, field: &Field, name: &str, value: &Value, spec: &RunSpec) {
    let _ = match field.unmet(spec) {
        None => writeln!(printed, "{name} = {value}"),
        Some(_) => writeln!(printed, "# {name} = {value}  counts {}", field.when()),
    };
}

/// Blocks written out, in sections of their own.
fn blocks(value: Option<Value>) -> String {
    let Some(Value::Array(blocks)) = value else { return String::new() };
    let layers = |block: &Value| block.get("layers").and_then(Value::as_array).cloned().unwrap_or_default();
    let block = |block: &Value| {
        let layers: String = layers(block).iter().map(|layer| format!("    {layer},\n")).collect();
        format!("\n[[network.block]]\nlayers = [\n{layers}]\n")
    };
    blocks.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::super::field::EXAMPLES;
    use super::super::parse::Override;
    use super::super::written::read;
    use super::*;

    #[test]
    fn what_is_printed_is_a_spec_of_the_same_run() {
        for example in EXAMPLES {
            let set = format!("{}={}", example.path, example.other);
            let sets = [example.context, &[set.as_str()]].concat();
            let sets: Vec<Override> = sets.iter().map(|set| Override::parse(set).expect("a pair")).collect();
            let given = read("", &sets).expect("valid");
            let printed = given.spec.printed();
            let again = read(&printed, &[]).unwrap_or_else(|error| panic!("{error} in {printed}"));
            assert_eq!(again.check_read(), Ok(()), "{printed}");
            assert_eq!(again.spec, given.spec, "{printed}");
        }
    }

    #[test]
    fn what_is_switched_off_is_not_filled_in_when_it_is_read_again() {
        for (preset, off) in
            [("resnet9", "network.auxiliary.kind=none"), ("resnet9", "data.views=4"), ("small", "detector.policy=mass")]
        {
            let sets = [&format!("network.preset={preset}"), off, "data.augment=flip"]
                .map(|set| Override::parse(set).expect("a pair"));
            let given = read("", &sets).expect("valid");
            let printed = given.spec.printed();
            assert_eq!(read(&printed, &[]).expect("valid").spec, given.spec, "{printed}");
        }
    }

    #[test]
    fn every_default_has_a_value() {
        let of_preset =
            ["network.preset", "network.width", "network.block", "network.head.pool", "network.head.hidden"];
        for example in EXAMPLES.iter().filter(|example| !of_preset.contains(&example.path)) {
            let found = RunSpec::default().value(example.path);
            assert_eq!(found.is_some(), example.default.is_some(), "{}", example.path);
        }
    }

    #[test]
    fn every_field_is_there_with_what_would_make_it_count() {
        let printed = RunSpec::default().printed();
        for name in FIELDS
            .iter()
            .filter(|field| !field.path.starts_with("network.head"))
            .map(|field| field.path.rsplit('.').next())
        {
            assert!(printed.contains(name.expect("a name")) || name == Some("block"), "{name:?}");
        }
        assert!(printed.contains("\n# momentum = 0.9  counts with `train.optimizer` `sgd`\n"), "{printed}");
        assert!(printed.contains("\nepochs = 15\n"), "{printed}");
    }
}
