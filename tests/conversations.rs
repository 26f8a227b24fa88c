//! Every script in `tests/conversations` comes true; a test each, by its name.

use crate::support::play;

macro_rules! plays {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            play(include_str!(concat!("conversations/", stringify!($name), ".txt"))).await;
        }
    )*
        #[test]
        fn every_script_is_played() {
            let played = [$(stringify!($name)),*];
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversations");
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                assert!(played.contains(&name.as_str()), "{name}.txt is not in the list of plays");
            }
        }
    };
}

plays!(
    a_conversation_goes_both_ways,
    messages_wait_for_a_user_who_is_away,
    a_broken_connection_resumes_after_the_last_confirmed_position,
    a_restart_of_the_server_changes_nothing,
    two_devices_of_one_user_stay_in_step,
    a_note_to_oneself,
);
