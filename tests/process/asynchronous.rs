//! Some tests of each kind once more, under the other runtime. `cargo xtask nightly` runs all of them so, by
//! `RAFT_TEST_RUNTIME=AsyncRuntime`.

use crate::support::cluster::use_runtime;

macro_rules! under_async_runtime {
    ($($module:ident::$name:ident,)*) => {
        $(#[test]
        fn $name() {
            use_runtime("AsyncRuntime");
            crate::$module::$name();
        })*
    };
}

under_async_runtime! {
    attack::clients_cannot_take_the_descriptors_that_the_log_needs,
    attack::lengths_that_lie_are_refused_before_memory_is_taken,
    attack::two_thousand_idle_clients_cost_no_threads_and_disturb_nobody,
    clients::the_redis_crate_finds_redis,
    cluster::a_stopping_leader_hands_over_and_is_gone_within_two_seconds,
    cluster::leadership_moves_in_well_under_a_second_when_the_leader_is_killed,
    cluster::nothing_acknowledged_is_lost_when_all_nodes_are_killed_at_once_under_load,
    cluster::pipelines_keep_their_order_through_leader_and_follower,
    elections::leaders_are_killed_until_three_of_five_are_left_and_come_back,
    http::a_node_that_stops_answers_what_it_has_begun_and_frees_its_port,
    http::a_thousand_connections_are_served_and_garbage_hurts_nobody,
    http::whoever_waits_is_woken_and_one_who_went_away_takes_nothing,
    identity::a_whole_cluster_that_restarts_knows_its_nodes,
    identity::the_folder_of_another_node_is_refused,
    in_memory::a_node_that_kept_nothing_loses_no_acknowledged_write_and_counts_again,
    maelstrom::every_node_serves_reads_writes_and_compare_and_set,
    peers::nonsense_of_a_peer_neither_ends_nor_deceives_a_node,
    queue::what_a_dead_consumer_had_comes_back_in_order_under_the_next_leader,
    shell::five_nodes_that_are_interrupted_at_once_do_not_wait_for_each_other,
    shell::the_cluster_command_stops_its_children_on_sigterm_and_even_when_killed,
    snapshot::whoever_is_killed_while_a_snapshot_is_sent_gets_the_rest_of_it_later,
}
