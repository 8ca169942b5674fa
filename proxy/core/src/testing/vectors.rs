//! Reads the golden vectors; the format is described in `vectors/README.md`.

/// One vector: its setting, and its steps in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) previous: Option<String>,
    pub(crate) provider: String,
    pub(crate) client: Vec<String>,
    pub(crate) from: String,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Packet(Vec<u8>),
    Expect(String),
    Typed(String),
    Verdict(String),
    Answer(Vec<u8>),
}

/// Every vector of every file.
pub(crate) fn all() -> Vec<Vector> {
    [
        include_str!("../../vectors/rfc.txt"),
        include_str!("../../vectors/logins.txt"),
        include_str!("../../vectors/drops.txt"),
    ]
    .into_iter()
    .flat_map(|file| file.split("\n\n"))
    .map(read)
    .filter(|vector| !vector.steps.is_empty())
    .collect()
}

/// Every packet of every vector.
pub(crate) fn packets() -> Vec<Vec<u8>> {
    all()
        .into_iter()
        .flat_map(|vector| vector.steps)
        .filter_map(|step| match step {
            Step::Packet(bytes) => Some(bytes),
            _ => None,
        })
        .collect()
}

fn read(block: &str) -> Vector {
    let joined = block.replace("\n  ", "");
    let mut vector = Vector {
        from: "192.0.2.1:1024".to_owned(),
        ..Vector::default()
    };
    for line in joined
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (key, value) = line.split_once('=').expect(line);
        let (key, value) = (key.trim(), value.trim().to_owned());
        match key {
            "name" => vector.name = value,
            "secret" => vector.secret = value,
            "previous" => vector.previous = Some(value),
            "provider" => vector.provider = value,
            "client" => vector.client.push(value),
            "from" => vector.from = value,
            "packet" => vector.steps.push(Step::Packet(hex::decode(value).unwrap())),
            "expect" => vector.steps.push(Step::Expect(value)),
            "typed" => vector.steps.push(Step::Typed(value)),
            "verdict" => vector.steps.push(Step::Verdict(value)),
            "answer" => vector.steps.push(Step::Answer(hex::decode(value).unwrap())),
            _ => panic!("{line}"),
        }
    }
    vector
}
