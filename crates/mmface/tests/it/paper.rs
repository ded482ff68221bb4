//! `mmface-paper` is the network of the paper: every layer of its ONNX against Table 1 and the text.

use std::collections::HashMap;

use crate::common::root;

/// One field of a protobuf message: its number, a varint, and bytes where it has them.
struct Field<'a> {
    number: u64,
    value: u64,
    bytes: &'a [u8],
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let end = bytes.iter().position(|b| b & 0x80 == 0).unwrap();
    let (this, rest) = bytes.split_at(end + 1);
    *bytes = rest;
    this.iter().rev().fold(0, |all, b| all << 7 | u64::from(b & 0x7f))
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (number, kind) = (key >> 3, key & 7);
        let value = if matches!(kind, 0 | 2) { varint(&mut bytes) } else { 0 };
        let length = match kind {
            0 => 0,
            1 => 8,
            2 => value as usize,
            5 => 4,
            _ => panic!("no protobuf"),
        };
        let (this, rest) = bytes.split_at(length);
        bytes = rest;
        all.push(Field { number, value, bytes: this });
    }
    all
}

fn texts(fields: &[Field], number: u64) -> Vec<String> {
    let of = fields.iter().filter(|f| f.number == number);
    of.map(|f| String::from_utf8_lossy(f.bytes).into_owned()).collect()
}

/// Numbers of a repeated field, packed or not.
fn numbers(fields: &[Field], number: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for field in fields.iter().filter(|f| f.number == number) {
        let mut rest = field.bytes;
        if rest.is_empty() {
            all.push(field.value);
        }
        while !rest.is_empty() {
            all.push(varint(&mut rest));
        }
    }
    all
}

/// A node of the graph. Fields by the numbers of onnx.proto.
#[derive(Clone)]
struct Node {
    kind: String,
    inputs: Vec<String>,
    output: String,
    attributes: HashMap<String, Vec<u64>>,
}

struct Graph {
    nodes: Vec<Node>,
    /// Shapes of the weights, by name.
    weights: HashMap<String, Vec<u64>>,
}

impl Graph {
    fn read(network: &str) -> Self {
        let file = std::fs::read(onnx(network)).unwrap();
        let graph = fields(&file).into_iter().find(|f| f.number == 7).unwrap().bytes;
        let (mut nodes, mut weights) = (Vec::new(), HashMap::new());
        for part in fields(graph).into_iter().filter(|part| [1, 5].contains(&part.number)) {
            let inside = fields(part.bytes);
            match part.number {
                1 => {
                    let attributes = inside.iter().filter(|f| f.number == 5).map(|attribute| {
                        let of = fields(attribute.bytes);
                        (texts(&of, 1).remove(0), numbers(&of, 8))
                    });
                    nodes.push(Node {
                        kind: texts(&inside, 4).remove(0),
                        inputs: texts(&inside, 1),
                        output: texts(&inside, 2).remove(0),
                        attributes: attributes.collect(),
                    });
                }
                5 => {
                    let name = texts(&inside, 8).remove(0);
                    // The large weights are made in the graph, from a list of their shape (paper.py).
                    if let Some(name) = name.strip_suffix("/shape") {
                        let raw = inside.iter().find(|f| f.number == 9).unwrap().bytes;
                        let shape = raw.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b));
                        weights.insert(name.to_string(), shape.collect());
                    } else {
                        weights.insert(name, numbers(&inside, 1));
                    }
                }
                _ => {}
            }
        }
        Self { nodes, weights }
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    fn weight(&self, node: &Node) -> &[u64] {
        &self.weights[&node.inputs[1]]
    }

    /// The node that makes a value.
    fn maker(&self, output: &str) -> &Node {
        self.nodes.iter().find(|node| node.output == output).unwrap()
    }
}

fn onnx(network: &str) -> std::path::PathBuf {
    root().join(format!("tests/data/paper-{network}.onnx"))
}

/// Name, channels and side in, channels and side out, stride, padding.
type Layer = (&'static str, [u64; 2], [u64; 2], u64, u64);

/// Table 1; filters are 4×4×4.
const TABLE_1: [Layer; 5] = [
    ("3dConv1", [1, 64], [64, 32], 2, 1),
    ("3dConv2", [64, 32], [128, 16], 2, 1),
    ("3dConv3", [128, 16], [256, 8], 2, 1),
    ("3dConv4", [256, 8], [512, 4], 2, 1),
    ("3dConv5", [512, 4], [1024, 1], 2, 0),
];

#[test]
fn the_pmn_is_table_1() {
    let graph = Graph::read("pmn");
    let layers: Vec<_> = graph.of("Conv").collect();
    assert_eq!(layers.len(), TABLE_1.len());
    let mut side = 64;
    for (node, (name, [into, before], [out, after], stride, padding)) in layers.iter().zip(TABLE_1)
    {
        assert_eq!(graph.weight(node), [out, into, 4, 4, 4], "{name}: filter");
        assert_eq!(node.attributes["kernel_shape"], [4; 3], "{name}");
        assert_eq!(node.attributes["strides"], [stride; 3], "{name}");
        assert_eq!(node.attributes["pads"], [padding; 6], "{name}");
        assert_eq!(node.attributes["dilations"], [1; 3], "{name}");
        assert_eq!(side, before, "{name}: side in");
        side = (side + 2 * padding - 4) / stride + 1;
        assert_eq!(side, after, "{name}: side out");
    }
    // Each reads what the one before it wrote, through a ReLU; the first the features, as one channel.
    for pair in layers.windows(2) {
        let between = graph.maker(&pair[1].inputs[0]);
        assert_eq!((between.kind.as_str(), &between.inputs[0]), ("Relu", &pair[0].output));
    }
    assert_eq!(graph.maker(&layers[0].inputs[0]).inputs[0], "features");
}

#[test]
fn three_branches_end_in_199_29_and_7() {
    let graph = Graph::read("pmn");
    let branch = |name: &str| -> Vec<Vec<u64>> {
        let layers = graph.of("Gemm").filter(|node| node.inputs[1].starts_with(name));
        layers.map(|node| graph.weight(node).to_vec()).collect()
    };
    assert_eq!(branch("identity."), [[512, 1024], [256, 512], [199, 256]]);
    assert_eq!(branch("expression."), [[512, 1024], [29, 512]]);
    // Nothing bends the coefficients of the two bases: they are standard deviations.
    for output in ["identity", "expression"] {
        assert_eq!(graph.maker(output).kind, "Gemm", "{output}");
    }
    // The last layer of the pose is a product and a sum (export.py says why): 7 × (512 + bias).
    assert_eq!(branch("pose."), [[512, 1024]]);
    assert_eq!(graph.weights["pose.terms"], [7, 513]);
}

#[test]
fn the_vmn_has_a_stem_two_hourglasses_of_four_levels_and_64_features() {
    let graph = Graph::read("vmn");
    let stem = graph.of("Conv").next().unwrap();
    assert_eq!(graph.weight(stem), [64, 3, 7, 7]);
    assert_eq!(
        (&stem.attributes["strides"][..], &stem.attributes["pads"][..]),
        (&[2; 2][..], &[3; 4][..])
    );
    let within = |node: &&Node, name: &str| node.output.starts_with(&format!("/{name}/"));
    for hourglass in ["hourglasses.0", "hourglasses.1"] {
        let levels = |kind| graph.of(kind).filter(|node| within(node, hourglass)).count();
        assert_eq!((levels("MaxPool"), levels("Resize")), (4, 4), "{hourglass}");
        // Three residual blocks a level and one at the bottom, each 256 → 128 → 128 → 256.
        let convs: Vec<_> = graph.of("Conv").filter(|node| within(node, hourglass)).collect();
        assert_eq!(convs.len(), 3 * (3 * 4 + 1), "{hourglass}");
        let mut block = convs.iter().map(|node| graph.weight(node));
        while let Some(first) = block.next() {
            assert_eq!(first, [128, 256, 1, 1], "{hourglass}");
            assert_eq!(block.next(), Some(&[128, 128, 3, 3][..]), "{hourglass}");
            assert_eq!(block.next(), Some(&[256, 128, 1, 1][..]), "{hourglass}");
        }
    }
    // 256×256 becomes 64×64 in the stem: a stride and a pooling step; the hourglasses come back to it.
    assert_eq!(graph.of("MaxPool").count(), 1 + 2 * 4);
    let features = graph.maker("features");
    assert_eq!(graph.weight(features), [64, 256, 1, 1]);
}
