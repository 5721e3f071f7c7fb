//! The course of a run, with nodes that are shell scripts.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use raft::gateway::maelstrom::Workload;
use raft::workbench::history::{Operation, Outcome};
use raft::workbench::options::Options;
use raft::workbench::run::{Progress, Run, run};

use super::support::{ONE_AT_A_TIME, options};

/// Answers its requests with what the function `body` says for a line: the fields of a body, or nothing.
const NODE: &str = r#"
while read -r line; do
  src=${line##*\"src\":\"} src=${src%%\"*}
  id=${line##*\"msg_id\":} id=${id%%[,\}]*}
  case $line in
    *'"init"'*) said='"type":"init_ok"' ;;
    *) said=; body "$line" ;;
  esac
  if [ -n "$said" ]; then
    echo "{\"src\":\"n0\",\"dest\":\"$src\",\"body\":{$said,\"in_reply_to\":$id}}"
  fi
done
"#;

/// One node, which is a script with this function.
fn scripted(workload: Workload, body: &str) -> Options {
    let mut options = options(workload, 1, &[]);
    options.program = "/bin/sh".into();
    options.arguments = vec!["-c".into(), format!("body() {{\n{body}\n}}\n{NODE}")];
    options.time = Duration::from_millis(300);
    options
}

fn course(options: &Options, mut progress: impl FnMut(Progress) -> bool) -> Run {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let log = |node| -> PathBuf { folder.path().join(format!("n{node}.log")) };
    run(options, log, &mut progress).unwrap()
}

#[test]
fn the_load_ends_when_nobody_asks_any_more() {
    let mut options = scripted(Workload::Echo, ":");
    options.timeout = Duration::from_secs(2);
    let run = course(&options, |now| now.phase != "waiting for the nodes to recover");
    let (began, ended) = run.load;
    let last = run.history.iter().map(|operation| operation.ended).max().expect("somebody asked");
    assert!(last >= ended + Duration::from_secs(1), "somebody waits at the end: {last:?}, {ended:?}");
    let load = ended - began;
    assert!(load >= options.time && load < Duration::from_secs(1), "{load:?}");
}

#[test]
fn what_is_refused_at_the_end_is_asked_again_after_a_while() {
    // It serves the read that shows that it does, refuses five, and then serves again.
    let body = r#"
      reads=$((reads + 1))
      said='"type":"read_ok","value":[]'
      if [ "$reads" -gt 1 ] && [ "$reads" -lt 7 ]; then said='"type":"error","code":11,"text":"not now"'; fi"#;
    let mut options = scripted(Workload::GSet, body);
    // Nobody asks anything before.
    options.rate = 0.01;
    let run = course(&options, |_| true);
    assert_eq!(run.trouble, None);
    assert!(run.verdict.is_valid(), "{:?}", run.verdict);
    let at_rest: Vec<&Operation> = run.history.iter().filter(|operation| operation.at_rest).collect();
    let refused = at_rest.iter().filter(|operation| matches!(operation.outcome, Outcome::Refused { .. }));
    assert_eq!((refused.count(), at_rest.len()), (5, 6), "{at_rest:?}");
    for pair in at_rest.windows(2) {
        let pause = pair[1].began - pair[0].ended;
        assert!(pause >= Duration::from_millis(50), "asked again after {pause:?}");
    }
}

#[test]
fn whoever_watches_is_told_that_it_is_checked() {
    let options = scripted(Workload::Echo, "said='\"type\":\"echo_ok\",\"echo\":\"nonsense\"'");
    let mut phases = Vec::new();
    let run = course(&options, |now| {
        phases.push(now.phase);
        true
    });
    assert!(!run.verdict.anomalies.is_empty());
    assert_eq!(phases.last(), Some(&"checking what clients saw"), "{phases:?}");
}
