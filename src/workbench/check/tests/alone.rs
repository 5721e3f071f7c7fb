use super::*;

#[test]
fn a_node_says_what_it_is_told() {
    let echo = |said: Value| answered(1, 0, 1, json!({"type": "echo", "echo": {"a": 1}}), json!({ "echo": said }));
    assert_eq!(names(Workload::Echo, &[echo(json!({"a": 1}))]), [""; 0]);
    assert_eq!(names(Workload::Echo, &[echo(json!({"a": 2}))]), ["wrong echo"]);
}

#[test]
fn no_name_is_made_twice() {
    let ids = |second: Value| {
        let generate = |at, id| answered(at, at, at + 1, json!({"type": "generate"}), json!({ "id": id }));
        names(Workload::UniqueIds, &[generate(1, json!("a")), generate(2, second)])
    };
    assert_eq!(ids(json!(["a"])), [""; 0]);
    assert_eq!(ids(json!("a")), ["duplicate"]);
}
