//! What a node answers by itself: `echo` and `unique-ids`.

use std::collections::HashMap;

use serde_json::Value;

use super::findings::Findings;

/// A node says what it is told.
pub fn echo(findings: &mut Findings<'_>) {
    for (at, operation) in findings.operations() {
        if let Some(answer) = findings.answer(at)
            && answer.get("echo") != operation.request.get("echo")
        {
            findings.anomaly("wrong echo", &[at], || "A node did not say what it was told.".into());
        }
    }
}

/// No name is made twice.
pub fn unique_ids(findings: &mut Findings<'_>) {
    let mut makers: HashMap<&Value, usize> = HashMap::new();
    for (at, _) in findings.operations() {
        let Some(answer) = findings.answer(at) else { continue };
        let Some(id) = answer.get("id") else {
            findings.malformed(at, "it has no field `id`");
            continue;
        };
        if let Some(first) = makers.insert(id, at) {
            findings.anomaly("duplicate", &[first, at], || format!("The id {id} was made twice."));
        }
    }
    findings.fact("ids", makers.len());
}
