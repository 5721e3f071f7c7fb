//! What is said about a history.

/// The outcome of checking one history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What cannot have been, the simplest first. A history without any is valid, unless it is undecided.
    pub anomalies: Vec<Anomaly>,
    /// Why the check came to no end, if so. Not a pass.
    pub undecided: Option<String>,
    /// Figures of the workload, each with its name: what there is to know beside rates and latencies.
    pub facts: Vec<(String, String)>,
}

/// Something that cannot have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What it is called: `G1c`, `lost`, `not linearizable`, ...
    pub name: &'static str,
    /// The smallest explanation that was found, for people, in lines.
    pub explanation: String,
    /// The operations it is about: their places in the history.
    pub operations: Vec<usize>,
}

impl Verdict {
    /// Whether the history is as it should be.
    pub fn is_valid(&self) -> bool {
        self.anomalies.is_empty() && self.undecided.is_none()
    }
}
