//! The protocol core, in stories, tables and walks.
//!
//! The stories are the scripts in `scripts/`: [`story`] is their language, and each tells one scenario. `UPDATE_GOLDENFILES=1`
//! writes what happens into them; what matters most they also `expect`, so that a wrong story fails even then.

mod checker;
mod cluster;
mod compaction;
mod dice;
mod driver;
mod elections;
mod reads;
mod search;
mod shelf;
mod story;
mod traffic;
mod votes;
mod walk;
mod words;

macro_rules! stories {
    ($($name:ident)*) => {
        mod stories {
            $(#[test] fn $name() { super::tell(stringify!($name)); })*
        }
        const STORIES: &[&str] = &[$(stringify!($name)),*];
    };
}

stories! {
    a_node_that_forgot_receives_everything_again
    a_node_that_forgot_makes_nothing_possible
    a_node_that_forgot_never_leads
    a_node_that_kept_nothing_counts_again_when_it_is_safe
    a_node_that_kept_nothing_waits_for_everybody
    a_candidate_that_gives_way_keeps_its_vote
    a_conflict_where_the_log_begins
    a_delayed_request_removes_nothing
    a_deposed_leader_answers_no_read
    a_fresh_cluster_elects_a_leader
    a_fresh_leader_waits_with_reads
    a_full_window_waits_and_opens_again
    a_later_term_ends_every_role
    a_leader_whose_disk_hangs_steps_down
    a_leader_whose_disk_is_full_hands_over
    a_leader_whose_disk_is_full_steps_down
    a_leader_without_a_quorum_steps_down
    a_learner_never_campaigns_but_votes
    a_longer_log_of_an_earlier_term_is_not_frozen_out
    a_lost_probe_and_a_compacted_log
    a_new_leader_when_the_old_one_is_cut_off
    a_returning_node_disturbs_nobody
    a_single_node_leads_alone
    a_slow_disk_does_not_count
    a_snapshot_counts_once_it_is_durable
    a_transfer_that_fails
    a_vote_survives_a_crash
    an_answer_about_an_old_snapshot_is_no_end
    an_answer_speaks_of_its_own_request
    an_isolated_leader_takes_only_so_much
    an_old_round_confirms_no_new_read
    an_overtaken_write_vouches_for_nothing_new
    entries_below_a_snapshot_are_no_conflict
    every_client_gets_one_answer
    figure_8_an_entry_of_the_own_term_protects_it
    figure_8_an_old_entry_may_be_overwritten
    leadership_is_handed_over
    nonsense_changes_nothing
    nothing_is_committed_beyond_what_was_verified
    old_answers_lower_nothing
    old_votes_do_not_count
    only_the_conflict_is_removed
    the_logs_of_figure_7_converge
    time_comes_when_something_is_due
    time_waits_for_a_full_disk
    two_candidates_split_the_vote
    waiting_for_a_lost_peer_is_quiet
}

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/core/scripts");

fn tell(name: &str) {
    let told = goldenscript::run(&mut story::Story::default(), format!("{SCRIPTS}/{name}"));
    told.unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn every_script_is_told() {
    let files = std::fs::read_dir(SCRIPTS).expect("the scripts are there");
    let mut files: Vec<_> =
        files.map(|file| file.expect("a script").file_name().into_string().expect("a name")).collect();
    files.sort();
    let mut told = STORIES.to_vec();
    told.sort();
    assert_eq!(files, told);
}
