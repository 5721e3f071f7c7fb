//! The protocol core, in stories, tables and walks.
//!
//! The stories are the scripts in `scripts/`: [`story`] is their language, and each tells one scenario. `UPDATE_GOLDENFILES=1`
//! writes what happens into them; what matters most they also `expect`, so that a wrong story fails even then.

mod checker;
mod cluster;
mod dice;
mod shelf;
mod story;
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
    a_candidate_that_gives_way_keeps_its_vote
    a_conflict_where_the_log_begins
    a_fresh_cluster_elects_a_leader
    a_later_term_ends_every_role
    a_leader_without_a_quorum_steps_down
    a_learner_never_campaigns_but_votes
    a_longer_log_of_an_earlier_term_is_not_frozen_out
    a_lost_probe_and_a_compacted_log
    a_new_leader_when_the_old_one_is_cut_off
    a_returning_node_disturbs_nobody
    a_single_node_leads_alone
    a_snapshot_counts_once_it_is_durable
    a_vote_survives_a_crash
    an_answer_about_an_old_snapshot_is_no_end
    nonsense_changes_nothing
    old_votes_do_not_count
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
