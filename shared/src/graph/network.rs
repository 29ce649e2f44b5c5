//! A whole network.

use super::body::{Body, Node};
use super::content::Content;
use super::head::{Classifier, Detector};
use super::lowering::Lowering;
use crate::ImageShape;
use crate::layer::LayerSpec;
use crate::neuron::NeuronSpec;
use crate::spec::network::{AuxiliaryKind, AuxiliarySpec, BlockSpec, HeadSpec};
use crate::spec::resolve::{ResolveError, ResolvedNetwork};
use crate::spec::{EncodingKind, RunSpec};

/// The blocks of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// The blocks, first to last; one end to end.
    pub blocks: Vec<BlockGraph>,
}

/// One block: its own layers, and what classifiers on it are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockGraph {
    /// The block's own layers.
    pub body: Body,
    /// What the numbers that enter are.
    pub enters: Content,
    head: HeadSpec,
    neuron: NeuronSpec,
    auxiliary: Option<Auxiliary>,
}

/// Layers that only a block's training has, and the classifier on them.
#[derive(Debug, Clone, PartialEq)]
struct Auxiliary {
    /// The block's own layers and these behind them.
    body: Body,
    head: HeadSpec,
    /// Put before the names of the classifier's parameters.
    prefix: String,
}

/// Put before the names of parameters that only training has.
const AUXILIARY: &str = "auxiliary.";

/// Put before the names of parameters that stand for the `distance`-th block after the one that is trained.
fn ahead(distance: usize) -> String {
    format!("{AUXILIARY}{distance}.")
}

/// A layer that cannot be built on the shape that reaches it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("network block {block}, {layer}: {problem}")]
pub struct ShapeError {
    /// The block, counted from 1.
    pub block: usize,
    /// The layer, in words (`layer 2 (conv)`, `classifier`).
    pub layer: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// A specification whose network cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The network does not resolve.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A layer cannot be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl Graph {
    /// The network of a specification on images of one shape.
    ///
    /// # Errors
    /// When the network does not resolve; else names the first layer that cannot be built, and why.
    pub fn new(spec: &RunSpec, image: ImageShape) -> Result<Self, GraphError> {
        let network = spec.network.resolve()?;
        let network = if spec.run.end_to_end { network.joined() } else { network };
        let enters = match spec.encoding.kind {
            EncodingKind::Direct => Content::Fractions,
            EncodingKind::Poisson | EncodingKind::Latency => Content::Spikes,
        };
        Ok(Self::lower(&network, &spec.neuron, spec.encoding.steps, image, enters)?)
    }

    /// A network over `steps` steps on images that enter as numbers of a kind.
    ///
    /// # Errors
    /// Names the first layer that cannot be built, and why.
    pub fn lower(
        network: &ResolvedNetwork,
        neuron: &NeuronSpec,
        steps: usize,
        image: ImageShape,
        enters: Content,
    ) -> Result<Self, ShapeError> {
        if network.blocks.is_empty() {
            return Err(ShapeError {
                block: 1,
                layer: "layers".into(),
                problem: "a network needs at least one block".into(),
            });
        }
        let mut blocks: Vec<BlockGraph> = Vec::with_capacity(network.blocks.len());
        for (index, block) in network.blocks.iter().enumerate() {
            let (input, enters) = match blocks.last() {
                Some(before) => (before.output(), Content::Spikes),
                None => (image, enters),
            };
            let head = network.head_of(index);
            let body = Lowering::new(input, steps, network.norm, neuron);
            let at = |(layer, problem)| ShapeError { block: index + 1, layer, problem };
            let body = lower_block(body, block, head, enters).map_err(at)?;
            blocks.push(BlockGraph { body, enters, head: head.clone(), neuron: neuron.clone(), auxiliary: None });
        }
        let outputs: Vec<ImageShape> = blocks.iter().map(BlockGraph::output).collect();
        for (index, block) in blocks.iter_mut().enumerate() {
            block.auxiliary = lower_auxiliary(network, neuron, &block.body, index, &outputs[index..])
                .map_err(|(layer, problem)| ShapeError { block: index + 1, layer, problem })?;
        }
        Ok(Self { blocks })
    }
}

/// The layer that is wrong, and what is.
type Wrong = (String, String);

fn lower_block(mut lowering: Lowering<'_>, block: &BlockSpec, head: &HeadSpec, enters: Content) -> Result<Body, Wrong> {
    // The value that leaves each layer.
    let mut leaving = Vec::with_capacity(block.layers.len());
    for (index, layer) in block.layers.iter().enumerate() {
        let name = || format!("layer {} ({})", index + 1, layer.name());
        layer.check(lowering.shape(lowering.value())).map_err(|problem| (name(), problem))?;
        layer.lower(index, &mut lowering);
        leaving.push(lowering.value());
    }
    let body = lowering.finish();
    if !body.nodes.iter().any(|node| matches!(node, Node::Spiking(_))) {
        return Err((
            "layers".into(),
            "a block needs at least one layer with neurons: conv, residual or linear".into(),
        ));
    }
    let contents = body.contents(enters, true);
    let is_spikes = |value: usize| match contents[value] {
        Content::Spikes => true,
        Content::Counts { .. } | Content::Fractions => false,
    };
    if !is_spikes(body.output()) {
        // The last layer after which there were spikes, and the one that made something else of them.
        let spoils = leaving.iter().rposition(|&value| is_spikes(value)).map_or(0, |last| last + 1);
        let problem = format!(
            "a block must end in spikes, but {} makes them fractions; move it to the start of the next block, or end \
            with conv, residual, linear or max-pool",
            block.layers[spoils].name()
        );
        return Err(("end".into(), problem));
    }
    if head.hidden.contains(&0) {
        return Err(("classifier".into(), "a hidden layer needs at least 1 feature".into()));
    }
    Ok(body)
}

/// The auxiliary layers behind block `index`; `outputs` are the shapes of what leaves it and the blocks after it.
fn lower_auxiliary(
    network: &ResolvedNetwork,
    neuron: &NeuronSpec,
    body: &Body,
    index: usize,
    outputs: &[ImageShape],
) -> Result<Option<Auxiliary>, Wrong> {
    let AuxiliarySpec { kind, depth, .. } = network.auxiliary;
    let [_, after @ .., last] = outputs else { return Ok(None) };
    let layer: fn(usize, usize) -> LayerSpec = match kind {
        AuxiliaryKind::None => return Ok(None),
        AuxiliaryKind::Conv => |channels, stride| LayerSpec::conv(channels, 3, stride),
        AuxiliaryKind::Residual => LayerSpec::residual,
        AuxiliaryKind::Next => return Ok(Some(lower_next(network, neuron, body.clone(), index, depth))),
    };
    let mut lowering = Lowering::behind(body.clone(), network.norm, neuron, AUXILIARY.to_owned());
    for index in 0..depth {
        let (input, stands_for) = (lowering.shape(lowering.value()), after.get(index).unwrap_or(last));
        let (channels, stride) = (stands_for.channels, (input.height / stands_for.height.max(1)).max(1));
        let layer = layer(channels, stride);
        layer.check(input).map_err(|problem| (format!("auxiliary layer {}", index + 1), problem))?;
        layer.lower(index, &mut lowering);
    }
    let (head, prefix) = (network.classifier.clone(), AUXILIARY.to_owned());
    Ok(Some(Auxiliary { body: lowering.finish(), head, prefix }))
}

/// The next `depth` blocks behind block `index`, as far as there are so many. Their layers fit: they are the network's
/// own.
fn lower_next(network: &ResolvedNetwork, neuron: &NeuronSpec, mut body: Body, index: usize, depth: usize) -> Auxiliary {
    let depth = depth.min(network.blocks.len() - index - 1);
    for distance in 1..=depth {
        let mut lowering = Lowering::behind(body, network.norm, neuron, ahead(distance));
        for (layer, spec) in network.blocks[index + distance].layers.iter().enumerate() {
            spec.lower(layer, &mut lowering);
        }
        body = lowering.finish();
    }
    Auxiliary { body, head: network.head_of(index + depth).clone(), prefix: ahead(depth) }
}

impl BlockGraph {
    /// What enters.
    pub fn input(&self) -> ImageShape {
        self.body.input
    }

    /// Shape of the spikes that leave.
    pub fn output(&self) -> ImageShape {
        self.body.shape(self.body.output())
    }

    /// The block's classifier, for `classes` classes.
    pub fn classifier(&self, classes: usize) -> Classifier {
        Classifier::new(&self.head, self.output(), classes, &self.neuron)
    }

    /// The layers that are trained: the block's own, and behind them those that only training has.
    pub fn trained(&self) -> &Body {
        self.auxiliary.as_ref().map_or(&self.body, |auxiliary| &auxiliary.body)
    }

    /// Makes a pass have other time steps; nothing else depends on them.
    pub fn set_steps(&mut self, steps: usize) {
        self.body.steps = steps;
        if let Some(auxiliary) = &mut self.auxiliary {
            auxiliary.body.steps = steps;
        }
    }

    /// The classifier behind the layers that only training has, for `classes` classes.
    pub fn auxiliary_classifier(&self, classes: usize) -> Option<Classifier> {
        let Auxiliary { body, head, prefix } = self.auxiliary.as_ref()?;
        let mut classifier = Classifier::new(head, body.shape(body.output()), classes, &self.neuron);
        classifier.parameters.iter_mut().for_each(|parameter| parameter.name.insert_str(0, prefix));
        Some(classifier)
    }

    /// Whether a tensor of a checkpoint is one that only training has.
    pub fn is_auxiliary(name: &str) -> bool {
        name.starts_with(AUXILIARY)
    }

    /// What the next block calls a tensor that this block's training has in its place: the next block's own tensors
    /// lose what marks them as auxiliary, those of blocks further on are one block nearer.
    pub fn inherited(name: &str) -> Option<String> {
        let (distance, rest) = name.strip_prefix(AUXILIARY)?.split_once('.')?;
        match distance.parse::<usize>().ok()? {
            0 => None,
            1 => Some(rest.to_owned()),
            distance => Some(format!("{}{rest}", ahead(distance - 1))),
        }
    }

    /// The block's detector.
    pub fn detector(&self) -> Detector {
        Detector::new(self.output())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::NetworkSpec;

    fn graph(spec: &NetworkSpec, image: ImageShape) -> Result<Graph, ShapeError> {
        let network = spec.resolve().expect("resolves");
        Graph::lower(&network, &NeuronSpec::default(), 4, image, Content::Fractions)
    }

    fn preset(name: &str, width: usize) -> NetworkSpec {
        NetworkSpec { preset: Some(name.into()), width: Some(width), ..NetworkSpec::default() }
    }

    fn written(layers: Vec<LayerSpec>) -> NetworkSpec {
        NetworkSpec { block: vec![BlockSpec { layers }], ..NetworkSpec::default() }
    }

    #[test]
    fn resnet9_ends_in_8w_by_4_by_4() {
        let graph = graph(&preset("resnet9", 16), ImageShape::new(3, 32, 32)).expect("fits");
        let outputs: Vec<_> = graph.blocks.iter().map(BlockGraph::output).collect();
        assert_eq!(outputs, [ImageShape::new(32, 16, 16), ImageShape::new(64, 8, 8), ImageShape::new(128, 4, 4)]);
        let enters: Vec<_> = graph.blocks.iter().map(|block| block.enters).collect();
        assert_eq!(enters, [Content::Fractions, Content::Spikes, Content::Spikes]);
    }

    #[test]
    fn auxiliary_layers_stand_for_the_blocks_that_follow() {
        for (kind, nodes, names) in [
            (AuxiliaryKind::Conv, 3, ["auxiliary.layer1.conv.weight", "auxiliary.layer3.conv.beta"]),
            (AuxiliaryKind::Residual, 6, ["auxiliary.layer1.conv1.weight", "auxiliary.layer3.shortcut.beta"]),
        ] {
            let auxiliary = AuxiliarySpec { kind, depth: 3, exit_gradient: 1.0 };
            let graph =
                graph(&NetworkSpec { auxiliary, ..preset("resnet9", 16) }, ImageShape::new(3, 32, 32)).expect("fits");
            let [first, second, last] = &graph.blocks[..] else { panic!("three blocks") };
            let (own, trained) = (&first.body, first.trained());
            assert_eq!(trained.nodes[..own.nodes.len()], own.nodes, "the block's own layers come first");
            assert_eq!(trained.parameters[..own.parameters.len()], own.parameters);
            assert_eq!(trained.nodes.len() - own.nodes.len(), nodes);
            assert_eq!(
                trained.shape(trained.output()),
                ImageShape::new(128, 4, 4),
                "then it stays as the last block's"
            );
            let of_auxiliary = &trained.parameters[own.parameters.len()..];
            assert!(of_auxiliary.iter().all(|parameter| BlockGraph::is_auxiliary(&parameter.name)));
            assert_eq!([0, of_auxiliary.len() - 1].map(|at| of_auxiliary[at].name.as_str()), names);
            let classifier = first.auxiliary_classifier(7).expect("it has one");
            assert_eq!(classifier.parameters[0].name, "auxiliary.head.readout.weight");
            assert_eq!(second.trained().shape(second.trained().output()), ImageShape::new(128, 4, 4));
            assert!(
                last.auxiliary_classifier(7).is_none() && last.trained() == &last.body,
                "nothing follows the last block"
            );
        }
    }

    #[test]
    fn auxiliary_blocks_are_those_that_follow_and_hand_on_their_names() {
        let auxiliary = AuxiliarySpec { kind: AuxiliaryKind::Next, depth: 8, exit_gradient: 1.0 };
        let network = NetworkSpec { auxiliary, ..preset("resnet9", 16) };
        let whole = graph(&network, ImageShape::new(3, 32, 32)).expect("fits");
        for (block, next) in whole.blocks.iter().zip(&whole.blocks[1..]) {
            let behind = &block.trained().parameters[block.body.parameters.len()..];
            let classifier =
                |block: &BlockGraph| block.auxiliary_classifier(10).map(|classifier| classifier.parameters);
            let behind = behind
                .iter()
                .chain(classifier(block).iter().flatten())
                .map(|parameter| {
                    let name =
                        BlockGraph::inherited(&parameter.name).expect("it stands for one of a block that follows");
                    (name, parameter.shape.clone())
                })
                .collect::<Vec<_>>();
            let last = classifier(next).unwrap_or_else(|| next.classifier(10).parameters);
            let own = next
                .trained()
                .parameters
                .iter()
                .chain(&last)
                .map(|parameter| (parameter.name.clone(), parameter.shape.clone()));
            assert_eq!(behind, own.collect::<Vec<_>>(), "what the next block trains, in its order");
        }
        for name in [
            "layer1.conv.weight",
            "auxiliary.layer1.conv.weight",
            "auxiliary.0.layer1.conv.weight",
            "auxiliary.head.bias",
        ] {
            assert_eq!(BlockGraph::inherited(name), None, "{name}");
        }
    }

    #[test]
    fn an_impossible_layer_is_named() {
        let error =
            graph(&preset("vgg16", 8), ImageShape::new(3, 20, 20)).expect_err("20 pixels do not halve five times");
        assert_eq!((error.block, error.layer.as_str()), (5, "layer 4 (max-pool)"));
    }

    #[test]
    fn a_block_may_not_end_in_fractions() {
        let conv = LayerSpec::conv(4, 3, 1);
        for (layers, named) in [
            (vec![conv.clone(), LayerSpec::avg_pool(2)], "avg-pool"),
            (vec![conv.clone(), LayerSpec::max_pool(2), LayerSpec::dropout(0.5), LayerSpec::avg_pool(2)], "dropout"),
        ] {
            let error = graph(&written(layers), ImageShape::new(1, 8, 8)).expect_err("not binary");
            assert!(error.layer == "end" && error.problem.contains(named), "{error}");
        }
        assert!(graph(&written(vec![conv, LayerSpec::max_pool(2)]), ImageShape::new(1, 8, 8)).is_ok());
        assert!(graph(&written(vec![LayerSpec::avg_pool(2)]), ImageShape::new(1, 8, 8)).is_err(), "no neurons");
    }

    #[test]
    fn parameters_by_hand() {
        let spec = NetworkSpec {
            norm: crate::norm::Norm::Td,
            ..written(vec![LayerSpec::residual(4, 2), LayerSpec::linear(3)])
        };
        let graph = graph(&spec, ImageShape::new(2, 4, 4)).expect("fits");
        let body = &graph.blocks[0].body;
        let names: Vec<(&str, &[usize])> =
            body.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.shape.as_slice())).collect();
        let expected: [(&str, &[usize]); 11] = [
            ("layer1.conv1.weight", &[4, 2, 3, 3]),
            ("layer1.conv1.gamma", &[4]),
            ("layer1.conv1.beta", &[4]),
            ("layer1.conv2.weight", &[4, 4, 3, 3]),
            ("layer1.conv2.gamma", &[4]),
            ("layer1.conv2.beta", &[4]),
            ("layer1.shortcut.weight", &[4, 2, 1, 1]),
            ("layer1.shortcut.gamma", &[4]),
            ("layer1.shortcut.beta", &[4]),
            ("layer2.linear.weight", &[3, 16]),
            ("layer2.linear.bias", &[3]),
        ];
        assert_eq!(names, expected);
        assert_eq!(body.length(), 4 * 2 * 9 + 8 + 4 * 4 * 9 + 8 + 4 * 2 + 8 + 3 * 16 + 3);
        assert!(body.parameters.iter().all(|parameter| parameter.decay == parameter.name.ends_with("weight")));
        let running: Vec<&str> = body.running.iter().map(|running| running.name.as_str()).collect();
        assert_eq!(running, ["layer1.conv1", "layer1.conv2", "layer1.shortcut"]);
    }
}
