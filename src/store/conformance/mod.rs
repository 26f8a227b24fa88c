//! One suite that every store passes: each rule of the interface as a named check, run against each store, and random
//! histories in which the engine must agree with the model to the last number.

pub mod histories;
mod login;
mod receipts;
mod retention;
mod sending;
mod several_devices;
pub mod world;

use world::World;

/// Makes each check a test of every store. A check that is not listed is dead code, and the compiler says so.
macro_rules! checks {
    ($($module:ident: $($check:ident),+;)+) => {
        mod memory {
            $($(#[test] fn $check() { super::$module::$check(&mut super::World::in_memory()); })+)+
        }
        mod engine {
            $($(#[test] fn $check() {
                let mut world = super::World::on_disk();
                super::$module::$check(&mut world);
                world.audit();
            })+)+
        }
    };
}

checks! {
    login:
        an_app_has_one_number_and_its_users_are_its_own,
        an_open_login_makes_user_and_device_once,
        an_open_login_is_refused_where_a_device_has_a_key,
        a_key_opens_only_the_device_that_has_it,
        a_code_enrols_one_device_and_only_in_time,
        an_enrolment_may_be_repeated_with_the_same_key_only,
        the_oldest_code_gives_way,
        a_code_gives_a_device_without_a_key_its_key,
        a_device_number_that_is_no_more_is_expired,
        a_seventeenth_device_is_refused_and_keeps_its_code,
        a_cursor_above_the_inbox_is_refused,
        a_login_confirms_what_its_cursor_says,
        a_refused_login_leaves_nothing_behind,
        users_are_listed_by_name,
        a_removed_user_is_gone_and_its_successor_is_another;
    sending:
        a_message_gets_its_seq_and_reaches_the_inbox,
        a_resent_send_id_gets_the_first_answer,
        a_send_id_with_other_content_or_recipient_is_refused,
        a_gap_in_send_ids_is_refused_and_changes_nothing,
        an_answer_is_kept_for_256_send_ids,
        a_refusal_is_kept_and_consumes_the_send_id,
        an_unknown_recipient_is_refused_unless_it_may_be_made,
        a_full_inbox_refuses_and_counts_messages_only,
        a_conversation_accepts_its_members_only,
        a_message_to_a_removed_user_is_refused_and_the_conversation_keeps_its_seq,
        notes_to_oneself_are_one_entry_and_get_receipts,
        a_device_that_is_gone_sends_nothing,
        a_long_message_comes_back_whole,
        both_sides_share_one_order,
        a_page_keeps_within_its_limits;
    receipts:
        a_confirmation_tells_delivered_and_trims,
        an_old_confirmation_is_ignored,
        a_position_above_the_inbox_is_refused,
        receipts_coalesce,
        read_is_told_when_delivered_has_caught_up,
        read_refuses_what_was_not_sent_and_strangers,
        receipts_for_a_removed_user_are_dropped;
    several_devices:
        a_send_appears_on_the_senders_other_devices,
        delivered_comes_with_the_first_device_and_trimming_with_the_last,
        a_device_passes_over_its_own_doing,
        a_later_device_cannot_confirm_what_it_was_not_entitled_to,
        read_appears_on_the_readers_other_devices,
        a_first_device_starts_at_what_is_unconfirmed;
    retention:
        what_only_a_revoked_device_was_entitled_to_expires,
        what_a_removed_user_had_not_taken_is_told_to_its_senders,
        a_revoked_device_no_longer_holds_the_inbox,
        an_inbox_without_devices_waits_for_the_next_one,
        a_silent_device_expires_unless_it_is_connected,
        old_messages_expire_and_are_told,
        a_note_to_oneself_that_expires_is_told,
        old_messages_that_some_device_took_expire_without_a_word,
        old_messages_of_a_user_without_devices_are_told_to_the_sender_only,
        a_sweep_goes_on_where_it_stopped;
}
