//! What makes two specifications the same: the fields that count and are not at their defaults.
//!
//! An identity holds typed values by their paths. What is left open is filled in first (a preset becomes its layers, a
//! micro-batch of 0 the batch), fields that nothing reads are left out, and so are defaults. So a specification with
//! its defaults written out is the same run, and a new field changes no id as long as it stays at its default. The
//! price: who changes a default, or a preset, changes what old ids mean, and raises
//! [`ARITHMETIC_VERSION`](crate::plan::ARITHMETIC_VERSION).

use super::field::{FIELDS, Reach};
use super::{BlockSpec, RunSpec};
use crate::layer::LayerSpec;
use crate::rounds::DEFAULT_STEPS;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Values of fields by their paths, in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Identity(BTreeMap<&'static str, Value>);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).expect("plain data with string keys always serialises"))
    }
}

impl RunSpec {
    /// Everything that reaches at least so far.
    pub fn identity(&self, reach: Reach) -> Identity {
        let (own, spec) = (self.completed(), values(&self.completed()));
        let defaults = values(&Self::default().completed());
        let differs = |path: &str| value(&spec, path) != value(&defaults, path);
        let fields = FIELDS.iter().filter(|field| field.reach >= reach && field.is_read(&own) && differs(field.path));
        Identity(fields.map(|field| (field.path, value(&spec, field.path))).collect())
    }

    /// The same run with nothing left open that has another way of being written.
    #[must_use]
    pub fn completed(&self) -> Self {
        let mut spec = self.clone();
        if let Ok(network) = self.network.resolve() {
            (spec.network.preset, spec.network.width) = (None, None);
            (spec.network.block, spec.network.head) = (network.blocks, Some(network.head));
        }
        let train = &mut spec.train;
        if train.micro_batch == 0 {
            train.micro_batch = train.batch;
        }
        if train.replicas > 1 && train.round_steps == 0 {
            train.round_steps = DEFAULT_STEPS;
        }
        spec
    }
}

/// A specification as typed values. By way of text, which writes an f32 with its own digits.
fn values(spec: &RunSpec) -> Value {
    let text = serde_json::to_string(spec).expect("plain data with string keys always serialises");
    let mut values: Value = serde_json::from_str(&text).expect("it was written just now");
    let blocks: Vec<Value> = spec.network.block.iter().map(block).collect();
    if let Some(network) = values.get_mut("network").and_then(Value::as_object_mut) {
        network.insert("block".into(), blocks.into());
    }
    values
}

fn value(values: &Value, path: &str) -> Value {
    let at = path.split('.').try_fold(values, |value, key| value.get(key));
    at.cloned().unwrap_or_default()
}

fn block(block: &BlockSpec) -> Value {
    Value::Array(block.layers.iter().map(layer).collect())
}

/// A layer without the fields that are at their defaults.
fn layer(layer: &LayerSpec) -> Value {
    let text = serde_json::to_string(layer).expect("plain data with string keys always serialises");
    let mut fields: Map<String, Value> = serde_json::from_str(&text).expect("it was written just now");
    let names: Vec<String> = fields.keys().cloned().collect();
    for name in names {
        let mut without = fields.clone();
        without.remove(&name);
        if serde_json::from_value::<LayerSpec>(Value::Object(without.clone())).is_ok_and(|same| same == *layer) {
            fields = without;
        }
    }
    Value::Object(fields)
}
