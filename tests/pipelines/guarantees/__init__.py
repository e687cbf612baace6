"""What must hold whatever is killed, frozen, lost or refused, and the tests that fail without it.

The tests work on handlers and services with real object storage and providers that behave as documented. They kill or
freeze a worker after every single step, which is a call of a store or a provider, and look at outcomes alone: orders at
the provider, lines and prices, events, the objects that remain of a call, and what the provider keeps.

| guarantee | tests |
|---|---|
| 1. The record of an order is durable before money is spent. | `test_orders.test_whatever_step_fails_one_order_one_line_and_nothing_left` |
| 2. Only who holds the lease orders, and only within the window, which is looked at last; the provider is asked for the job's key before anything is ordered again, and the clock is read before that question. | `test_orders.test_of_two_workers_at_one_job_one_orders`, `test_orders.test_two_workers_at_the_moment_of_ordering_order_once`, `test_orders.test_an_order_that_the_provider_shows_late_is_not_placed_again`, `test_remote_orders.test_no_such_order_is_old_news_after_a_freeze` |
| 3. A record that cannot be read never leads to a new order. | `test_orders.test_what_cannot_be_read_is_no_reason_to_order_again`, `test_language_models.test_answers_that_cannot_be_read_are_no_reason_to_ask_again` |
| 4. The upload comes before the lease. | `test_orders.test_an_upload_that_takes_longer_than_the_window_is_ordered_at_once` |
| 5. A result is immutable: of two workers the first wins. | `test_synchronous_engine.test_of_two_workers_at_one_job_the_first_result_and_charge_stand`, `test_language_models.test_of_two_workers_at_one_summary_both_are_counted_and_one_stands` |
| 6. A charge is immutable and, where an engine answers at once, durable before the result can be seen. | `test_synchronous_engine.test_whatever_step_fails_the_charge_is_what_the_provider_counted`, `test_replay_charges.test_a_line_stays_what_it_was_when_prices_change` |
| 7. The same event has the same outputs, whatever the configuration; replays bypass that. | `test_services`, `test_stage_record.test_a_service_with_another_model_charges_nothing_twice`, `test_replay_charges.test_a_replay_works_anew_and_a_live_stage_does_not` |
| 8. One line of a part and kind has the full price, over live stages and replays; a first run that was free is the first. | `test_replay_charges` |
| 9. Tokens that were wasted are counted, rather twice than never. | `test_language_models.test_whatever_step_fails_a_summary_pays_for_no_answer_twice`, `test_language_models.test_whatever_step_fails_an_embedding_counts_each_answer`, `test_language_models.test_an_answer_that_came_second_is_counted`, `test_language_models.test_useless_vectors_are_counted`, `test_job_record` |
| 10. The provider keeps nothing, also after a crash between result and release, also when its quota is full. | `test_orders.test_after_the_provider_refused_to_delete_nothing_is_left_there`, `test_orders.test_a_full_provider_is_freed_whatever_step_the_last_worker_died_at` |
| 11. Erasure finds everything below the call's prefix, open orders included, and releases before it deletes. | `test_erasure_steps` |
| 12. No object is left that nothing names. | every test that compares a call's objects with those of a call to which nothing happened; `tests/chaos` |
| 13. (Not promised: before the first release, formats of stored objects may change.) | none |
| 14. A crash between order and release leaves nothing for ever: the event's redelivery releases, before anything is published. | `test_orders.test_whatever_step_fails_one_order_one_line_and_nothing_left` |
"""  # noqa: E501 - a table
