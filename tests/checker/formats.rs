//! Histories as lines and in the formats of Porcupine and Jepsen. `UPDATE_GOLDEN=1` writes `tests/golden/history` anew.

use std::path::PathBuf;

use raft::checker::formats::{jepsen, porcupine};
use raft::checker::history;
use raft::checker::key_value::Operation;

use crate::dice::Dice;
use crate::invent::{Plan, invent};
use crate::{rounds, verdict};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/history").join(name)
}

fn file(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn golden(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path(name), text).expect("the golden file can be written");
    }
    assert_eq!(text, file(name), "{name} differs");
}

fn lines(name: &str) -> Vec<Operation> {
    history::read(&file(name)).expect("a history")
}

/// What happened, without the times and the clients' numbers.
fn deeds(history: &[Operation]) -> Vec<String> {
    let mut deeds: Vec<String> =
        history.iter().map(|of| Operation { client: 0, began: 0, ended: 0, ..of.clone() }.to_string()).collect();
    deeds.sort();
    deeds
}

/// For each pair, in the order of beginnings: whether the first had ended when the second began.
fn order(history: &[Operation]) -> Vec<bool> {
    let mut history = history.to_vec();
    history.sort_by_key(|operation| (operation.began, operation.to_string()));
    let pairs = history.iter().flat_map(|one| history.iter().map(move |other| (one, other)));
    pairs.map(|(one, other)| one.latest() < other.began).collect()
}

#[test]
fn every_format_is_kept() {
    for (name, is_linearizable) in [("served", true), ("stale", false)] {
        let all = lines(&format!("{name}.txt"));
        assert_eq!(verdict(&all).is_ok(), is_linearizable);
        let (jepsen_text, porcupine_text) = (jepsen::write(&all).unwrap(), porcupine::write(&all).unwrap());
        golden(&format!("{name}.jepsen.edn"), &jepsen_text);
        golden(&format!("{name}.porcupine.txt"), &porcupine_text);
        let again = jepsen::read(&jepsen_text).unwrap();
        assert_eq!(deeds(&again), deeds(&all));
        assert_eq!(verdict(&again).is_ok(), is_linearizable);
        assert_eq!(verdict(&porcupine::read(&porcupine_text).unwrap()).is_ok(), is_linearizable);
    }
}

#[test]
fn histories_as_others_publish_them_are_checked() {
    let porcupine = |name: &str| verdict(&porcupine::read(&file(name)).unwrap());
    assert_eq!(porcupine("published-ok.porcupine.txt"), Ok(()));
    let failure = porcupine("published-bad.porcupine.txt").unwrap_err().to_string();
    assert!(failure.contains("get -> found xy") && failure.ends_with("get -> found x"), "{failure}");
    let jepsen = |name: &str| verdict(&jepsen::read(&file(name)).unwrap());
    assert_eq!(jepsen("register-ok.jepsen.edn"), Ok(()));
    let failure = jepsen("register-bad.jepsen.edn").unwrap_err().to_string();
    assert!(failure.contains("get -> found 3"), "what failed was not written: {failure}");
}

#[test]
fn what_is_written_means_the_same_when_it_is_read() {
    for seed in 0..rounds(300, 10_000) {
        let dice = &mut Dice::new(seed);
        let plan = Plan { operations: 60, keys: 3, values: 5, width: 30, vague: 6 };
        let mut all = invent(dice, plan);
        assert_eq!(history::read(&history::write(&all)), Ok(all.clone()), "seed {seed}");
        if dice.once_in(2) {
            let victim = dice.below(all.len() as u64) as usize;
            all[victim].began += 150;
            all[victim].ended = all[victim].ended.saturating_add(150);
        }
        let again = jepsen::read(&jepsen::write(&all).unwrap()).unwrap();
        assert_eq!(deeds(&again), deeds(&all), "seed {seed}");
        assert_eq!(verdict(&again).is_ok(), verdict(&all).is_ok(), "seed {seed}");
        // Porcupine's format says less: it may not accuse.
        let implied = porcupine::read(&porcupine::write(&all).unwrap()).unwrap();
        assert!(verdict(&all).is_err() || verdict(&implied).is_ok(), "seed {seed}");
    }
}

#[test]
fn processes_do_one_thing_after_the_other() {
    let all = crate::history(
        "1 k 0..10 set 1 -> unknown\n1 k 20..30 get -> missing\n1 k 25..35 get -> missing\n2 k 36..40 get -> missing\n1 k 40..50 get -> missing",
    );
    let again = jepsen::read(&jepsen::write(&all).unwrap()).unwrap();
    let processes: Vec<u64> = again.iter().map(|operation| operation.client).collect();
    assert_eq!(processes, [1, 4, 7, 2, 7], "one is lost with its operation, the next is busy");
    assert_eq!(order(&again), order(&all), "what overlapped still does, and nothing else");
}

#[test]
fn events_that_make_no_sense_are_refused() {
    let invoke = "{:process 0, :type :invoke, :f :read, :value nil}";
    let refused = |text: &str| jepsen::read(text).unwrap_err().to_string();
    assert_eq!(refused(&format!("{invoke}\n{invoke}")), "line 2: process 0 does two things at once");
    assert_eq!(
        refused("{:process 0, :type :info, :f :read, :value nil}"),
        "line 1: process 0 ends what it did not invoke"
    );
    for wrong in ["{:process -1}", "{:type :invoke}", "{:process 0, :type :invoke, :f :txn, :value []}", "{:process 0}"]
    {
        assert!(refused(wrong).starts_with("line 1: "), "{wrong}");
    }
    let wrong = "{:process 0, :type :invoke, :f :cas, :key \"k\", :value \"v\"}";
    assert!(porcupine::read(wrong).unwrap_err().to_string().contains("expected a :get of nil"));
}

#[test]
fn what_a_format_has_no_words_for_is_not_written() {
    let bytes = crate::history("1 k 0..1 set \\xff -> done");
    assert!(jepsen::write(&bytes).unwrap_err().to_string().contains("is not UTF-8"));
    assert!(porcupine::write(&bytes).is_err());
    let append = crate::history("1 k 0..1 append x -> done");
    assert!(jepsen::write(&append).unwrap_err().to_string().contains("a register has no append"));
}
