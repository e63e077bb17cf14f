"""The part of the campaign of faults that tests of their own live through, by what is broken."""

_SERVER = "{{cookiecutter.project_slug}}/tests/server"
_PRESSURE = "tests/system/pressure"

# Kind: file: tests.
OTHER_FAULTS: dict[str, dict[str, tuple[str, ...]]] = {
    "a worker": {
        "tests/system/test_reload.py": (
            "test_rolling_restart_loses_nothing_when_under_load",
            "test_kill_loses_only_what_the_worker_held_when_under_load",
            "test_recycling_loses_nothing_when_under_load",
        ),
        "tests/system/test_stall.py": (
            "test_stalled_worker_is_killed_with_its_stack_while_its_sibling_answers",
        ),
        f"{_SERVER}/test_worker.py": (
            "test_worker_leaves_when_the_master_was_killed",
            "test_requests_are_cancelled_when_the_time_to_drain_is_over",
            "test_request_is_answered_when_another_connection_cannot_be_closed",
        ),
        f"{_SERVER}/test_reload.py": ("test_worker_stays_when_its_successor_cannot_start",),
    },
    "the master": {
        "tests/system/test_reload.py": ("test_reload_loses_nothing_when_under_load",),
        "tests/system/test_shutdown.py": (
            "test_request_in_flight_is_answered_when_the_service_stops",
        ),
        f"{_SERVER}/test_reload.py": (
            "test_old_worker_answers_when_a_reload_starts_slowly",
            "test_old_worker_stays_when_the_new_release_is_broken",
            "test_workers_stay_when_a_reload_meets_a_mistake",
            "test_old_worker_stays_when_the_new_release_hangs",
            "test_somebody_serves_when_a_worker_is_taken_away_during_a_reload",
        ),
        f"{_SERVER}/test_worker.py": ("test_request_in_flight_is_answered_when_interrupted",),
        f"{_SERVER}/test_socket_activation.py": (
            "test_no_request_is_lost_when_the_service_restarts",
        ),
    },
    "the database": {
        f"{_PRESSURE}/test_outage.py": (
            "test_requests_get_503_problems_when_the_database_is_away",
            "test_workers_are_replaced_when_the_database_is_away",
        ),
        f"{_PRESSURE}/test_overload.py": ("test_waiting_ends_with_503_when_the_database_is_stuck",),
        "tests/system/test_contract.py": (
            "test_reload_loses_no_request_when_pgbouncer_shares_connections",
        ),
    },
    "clients": {
        f"{_PRESSURE}/test_disconnects.py": (
            "test_connections_come_back_when_500_clients_leave_in_mid_request",
        ),
        f"{_PRESSURE}/test_slow_clients.py": ("test_others_are_served_when_500_clients_are_slow",),
        f"{_PRESSURE}/test_overload.py": (
            "test_throughput_stays_when_there_are_four_times_too_many_connections",
            "test_logins_starve_nobody_when_150_come_at_once",
        ),
        f"{_SERVER}/test_worker.py": ("test_upgrade_with_a_body_is_answered_at_once",),
    },
    "the log": {
        f"{_SERVER}/test_output.py": (
            "test_lines_wait_and_the_lost_are_counted_when_the_reader_is_stuck",
            "test_line_is_dropped_when_the_reader_is_gone",
            "test_service_answers_and_stops_when_its_output_cannot_be_written",
        ),
        "tests/system/test_compose_engine.py": ("test_full_disk_for_logs_costs_no_answer",),
    },
    "containers and units": {
        "tests/system/test_compose_engine.py": (
            "test_broken_release_leaves_the_old_one",
            "test_killed_container_comes_back",
            "test_container_lives_on_when_its_memory_limit_is_met",
            "test_full_folder_for_bodies_costs_only_large_ones",
            "test_service_serves_again_when_its_name_was_gone",
            "test_pgbouncer_stands_between_when_it_is_switched_on",
            "test_everything_comes_back_when_the_engine_was_restarted",
        ),
        "tests/system/test_systemd_machine.py": (
            "test_broken_release_leaves_the_old_one",
            "test_crash_is_repaired_and_a_stop_ends_in_its_time",
            "test_everything_comes_back_after_a_reboot",
        ),
    },
}
