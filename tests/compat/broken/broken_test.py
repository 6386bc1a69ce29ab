#!/usr/bin/env python3
"""Every broken module is found by gantry-module check, by the test that is there for its fault, with a message that says
what to do; and no other test blames it, except those listed, which the fault truly breaks as well.

broken_test.py [part of a name]... runs only those. Needs GANTRY_BUILD (or ./build) with gantry-module and the modules.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("GANTRY_BUILD", HERE.parents[2] / "build"))
MODULES = pathlib.Path(os.environ.get("GANTRY_BROKEN", BUILD / "tests/compat/broken/modules"))
TOOL = pathlib.Path(os.environ.get("GANTRY_MODULE_TOOL", BUILD / "bin/gantry-module"))

ALL, KIND = ["1", "2", "3", "4", "5"], ["5"]


class Fault:
    """What must find it, what else may, and how to look. `also` entries may end in *."""

    def __init__(self, found_by, also=(), stages=None, host="kernel", only=None, patience=None):
        self.found_by = [found_by] if isinstance(found_by, str) else list(found_by)
        self.also, self.stages, self.host, self.only = list(also), stages, host, only
        self.patience = patience  # of faults that are a matter of time, whatever the load


SOUND = Fault([])
# A module that breaks at its first method breaks nearly everything its kind is asked for.
FIRST = ["contract.*"]

FAULTS = {
    "isolator/nothing": Fault([], stages=ALL, host="both"),
    # the file
    "isolator/wrong_magic": Fault("static.descriptor"),
    "isolator/other_major": Fault("static.descriptor"),
    "isolator/no_symbol": Fault("static.symbol"),
    "isolator/two_exports": Fault("static.one_export"),
    "isolator/unique_symbol": Fault("static.unique_symbols", ["static.one_export"]),
    "isolator/no_manifest": Fault("static.manifest"),
    "isolator/manifest_is_no_toml": Fault("static.manifest"),
    "isolator/manifest_of_another": Fault("static.descriptor"),
    "isolator/manifest_other_revision": Fault("static.descriptor", ["static.kind"]),
    "isolator/unknown_kind": Fault("static.kind"),
    "isolator/small_stride": Fault("static.descriptor"),
    "isolator/small_descriptor": Fault("static.descriptor"),
    "isolator/null_function": Fault("load.map", ["static.descriptor", "load.*", "config.*", "contract.*", "isolator.*"], stages=["1", "2"]),
    "isolator/run_path": Fault("static.run_path"),
    "isolator/executable_stack": Fault("static.hardening"),
    # load and settings
    "isolator/create_null": Fault("load.create", ["load.*"], stages=["1", "2"]),
    "isolator/create_leaks_descriptor": Fault(["load.create", "load.descriptors"], ["load.lives"]),
    "isolator/create_leaks_thread": Fault(["load.create", "load.threads"], ["load.lives", "load.memory"]),
    "isolator/create_leaks_memory": Fault("load.memory"),
    "isolator/create_slow": Fault("load.create", ["load.memory"], stages=["1", "2"]),
    "isolator/crash_in_configure": Fault("config.defaults", ["load.lives", "config.*", "contract.*", "isolator.*"], stages=["1", "2", "3"]),
    "isolator/accepts_any_configure": Fault("config.garbage", ["config.bad_reload"]),
    "isolator/ignores_wrong_types": Fault("config.wrong_type"),
    "isolator/refuses_defaults": Fault("config.defaults", ["config.*"], stages=["1", "2", "3"]),
    "isolator/refuses_reload": Fault("config.reload", ["config.bad_reload"]),
    "isolator/slow_start": Fault("config.defaults", ["load.lives", "config.*"], stages=["1", "3"]),
    # calls
    "isolator/throws_over_the_line": Fault("contract.replies_verify", FIRST, stages=["4"]),
    "isolator/unknown_method_ok": Fault("contract.unknown_method"),
    "isolator/double_completion": Fault("contract.one_completion", FIRST, stages=["4"]),
    "isolator/never_completes": Fault("contract.one_completion", FIRST, only="contract.[oc]*"),
    "isolator/completes_after_stop": Fault("contract.silent_after_stop", ["contract.*"], stages=["4"]),
    "isolator/talks_after_stop": Fault("contract.silent_after_stop", ["contract.*"], stages=["4"]),
    "isolator/stop_never_answers": Fault("contract.stop_in_flight", ["contract.*"], only="contract.stop*"),
    "isolator/ignores_cancel": Fault("isolator.watch_can_be_cancelled"),
    "isolator/blocks_the_strand": Fault("contract.strand", FIRST, stages=["4"], patience=1),
    "isolator/blocks_for_ever": Fault("contract.strand", FIRST, only="contract.s[t]*"),
    "isolator/calls_from_destroy": Fault("load.silent_destroy", ["load.*"], stages=["2"]),
    "isolator/thread_affine": Fault("contract.threads", FIRST, stages=["4"]),
    "isolator/floods_logs": Fault("contract.quiet"),
    "isolator/garbage_reply": Fault("contract.replies_verify", FIRST, stages=["4"]),
    "isolator/garbage_error": Fault("contract.garbage_body", FIRST, stages=["4"]),
    "isolator/code_of_its_own": Fault("contract.replies_verify", FIRST, stages=["4"]),
    "isolator/errors_without_words": Fault("contract.garbage_body", FIRST, stages=["4"]),
    "isolator/crash_on_garbage": Fault("contract.garbage_body", FIRST, stages=["4"]),
    "isolator/accepts_garbage": Fault("contract.garbage_body", FIRST, stages=["4"]),
    "isolator/exits": Fault("isolator.prepare_and_cleanup", only="*.prepare_and_cleanup"),
    # isolator
    "isolator/cleanup_of_unknown_fails": Fault("isolator.cleanup_of_unknown", ["isolator.cleanup_is_idempotent", "isolator.cleanup_while_preparing"]),
    "isolator/cleanup_leaves_files": Fault("isolator.prepare_and_cleanup", ["isolator.*"]),
    "isolator/cleanup_takes_all": Fault("isolator.containers_are_independent", ["isolator.recover_*", "isolator.many_containers", "isolator.update_both_ways"]),
    "isolator/forgets_at_recover": Fault("isolator.recover_finds_orphans"),
    "isolator/recover_calls_all_orphans": Fault("isolator.recover_finds_orphans", ["isolator.recover_keeps_the_living"]),
    "isolator/recover_cleans_itself": Fault("isolator.recover_finds_orphans", ["isolator.recover_keeps_the_living"]),
    "isolator/ids_are_paths": Fault("isolator.strange_ids", ["isolator.absent_fields"]),
    "isolator/prepare_once": Fault("isolator.prepare_is_idempotent", ["isolator.containers_are_independent"]),
    "isolator/promises_missing_files": Fault("isolator.prepared_is_sound", ["isolator.a_real_process"]),
    "isolator/usage_of_unknown_fails": Fault("isolator.usage_of_unknown"),
    "isolator/update_creates": Fault("isolator.update_of_unknown", ["isolator.absent_fields"]),
    "isolator/watch_without_end": Fault(["isolator.watch_ends_at_cleanup", "isolator.watch_of_unknown"], ["isolator.a_real_process", "isolator.recover_keeps_the_living"]),
    # allocator
    "allocator/nothing": SOUND,
    "allocator/over_commits": Fault("allocator.offers_nothing_twice", ["allocator.*"]),
    "allocator/takes_more_than_there_is": Fault("allocator.never_over_commits", ["allocator.*"]),
    "allocator/offers_reserved_to_others": Fault("allocator.reserved_stays_with_its_role", ["allocator.never_over_commits", "allocator.deterministic"]),
    "allocator/ignores_filters": Fault("allocator.filter_hides", ["allocator.never_over_commits", "allocator.filter_expires", "allocator.unfilter_lifts", "allocator.deterministic", "allocator.reset_forgets"]),
    "allocator/keeps_filters": Fault("allocator.unfilter_lifts"),
    "allocator/ignores_reset": Fault("allocator.reset_forgets", ["allocator.senseless_deltas"]),
    "allocator/offers_the_suppressed": Fault("allocator.suppressed_gets_nothing", ["allocator.never_over_commits", "allocator.deterministic"]),
    "allocator/offers_to_the_absent": Fault("allocator.inactive_gets_nothing", ["allocator.never_over_commits", "allocator.deterministic"]),
    "allocator/ignores_flags": Fault("allocator.flags_are_respected", ["allocator.never_over_commits", "allocator.deterministic"]),
    "allocator/keeps_gone_agents": Fault("allocator.gone_agent", ["allocator.never_over_commits", "allocator.deterministic"]),
    "allocator/crash_on_unknown_handle": Fault("allocator.unknown_handles", ["allocator.senseless_deltas"]),
    "allocator/never_wakes": Fault("allocator.filter_expires"),
    "allocator/depends_on_chance": Fault("allocator.deterministic", ["allocator.never_over_commits"]),
    # store
    "store/nothing": SOUND,
    "store/acknowledges_before_writing": Fault("store.crash_keeps_what_was_answered", ["store.*"]),
    "store/applies_one_by_one": Fault("store.all_or_nothing", ["store.*"]),
    "store/ignores_expected": Fault("store.expected_version", ["store.must_not_exist", "store.check_only", "store.all_or_nothing", "store.in_order", "store.one_winner", "store.restart_keeps"]),
    "store/loses_empty_values": Fault("store.empty_value", ["store.list_*", "store.absent_fields"]),
    "store/list_out_of_order": Fault("store.list_in_order", ["store.*"]),
    "store/forgets_versions": Fault(["store.put_and_get"], ["store.*"]),
    # authenticator
    "authenticator/nothing": SOUND,
    "authenticator/lets_everyone_in": Fault("authenticator.wrong_secret", ["authenticator.*"]),
    "authenticator/empty_secret_opens": Fault("authenticator.empty_secret", ["authenticator.no_session", "authenticator.absent_fields"]),
    "authenticator/takes_every_scheme": Fault("authenticator.foreign_scheme"),
    "authenticator/remembers_the_last": Fault("authenticator.no_session", ["authenticator.wrong_secret", "authenticator.after_restart", "authenticator.many_at_once"]),
    "authenticator/logs_secrets": Fault("authenticator.secret_stays_secret"),
    "authenticator/tells_who_exists": Fault("authenticator.same_words_for_both"),
    "authenticator/names_nobody": Fault("authenticator.right_secret", ["authenticator.*"]),
    "authenticator/answers_late": Fault("authenticator.right_secret", only="*.right_secret", patience=1),
    # election
    "election/nothing": SOUND,
    "election/elects_everybody": Fault("election.one_leader_of_many", ["election.next_in_line"]),
    "election/forgets_who_waits": Fault("election.next_in_line", only="*.next_in_line"),
    "election/epoch_stands_still": Fault("election.epochs_grow", ["election.next_in_line"]),
    "election/watch_waits_for_change": Fault("election.watch_begins_with_now"),
    "election/watch_tells_once": Fault("election.step_down_is_told", only="*.step_down_is_told"),
    # fetcher
    "fetcher/nothing": SOUND,
    "fetcher/follows_dot_dot": Fault("fetcher.output_file_leads_out"),
    "fetcher/makes_the_sandbox": Fault("fetcher.missing_directory"),
    "fetcher/no_x_bit": Fault("fetcher.executable"),
    "fetcher/always_extracts": Fault("fetcher.not_extracted"),
    "fetcher/ignores_the_user": Fault("fetcher.unknown_user", ["fetcher.belongs_to_the_user"]),
    "fetcher/backwards": Fault("fetcher.in_order", ["fetcher.first_error_counts"]),
    "fetcher/swallows_errors": Fault(["fetcher.http_404", "fetcher.missing_file"], ["fetcher.*"]),
    "fetcher/one_code_for_all": Fault(["fetcher.http_404", "fetcher.unknown_scheme"], ["fetcher.*"]),
    "fetcher/transfers_on": Fault("fetcher.cancel", ["fetcher.side_by_side"]),
    # image
    "image/nothing": SOUND,
    "image/pulls_always": Fault("image.never", ["image.prune"]),
    "image/every_id_is_a_name": Fault("image.strange_ids", ["image.absent_fields"]),
    "image/one_type_for_all": Fault("image.other_type"),
    "image/forgets_users": Fault("image.prune_spares_the_used", ["image.list_and_inspect", "image.recover_finds_orphans"]),
    "image/never_releases": Fault("image.prune", ["image.prune_excludes", "image.recover_finds_orphans"]),
    "image/release_of_unknown_fails": Fault("image.release_of_unknown", ["image.recover_finds_orphans"]),
    "image/ignores_exclude": Fault("image.prune_excludes"),
    "image/orphans_nobody": Fault("image.recover_finds_orphans"),
    "image/progress_is_noise": Fault("image.progress"),
    "image/relative_layers": Fault("image.pull", ["image.*"]),
    "image/a_layer_is_missing": Fault("image.pull", ["image.*"]),
    "image/errors_without_name": Fault("image.not_there"),
    # framework
    "framework/nothing": SOUND,
    "framework/acknowledges_nothing": Fault("framework.acknowledges_once", only="*.acknowledges_once"),
    "framework/acknowledges_twice": Fault("framework.acknowledges_once", ["framework.acknowledges_repeats"]),
    "framework/sits_on_offers": Fault("framework.answers_offers", only="*.answers_offers"),
    "framework/subscribes_anew": Fault("framework.resubscribes_with_its_id", ["framework.remembers_its_id"]),
    "framework/subscribes_once": Fault("framework.resubscribes_with_its_id", only="*.resubscribes_with_its_id"),
    "framework/nameless": Fault("framework.subscribes"),
    "framework/remembers_nothing": Fault("framework.remembers_its_id"),
    "framework/tears_down_at_stop": Fault("framework.stop_leaves_tasks"),
}
# The same in a process of its own: what is found must not depend on where it runs.
TWICE = ["isolator/double_completion", "isolator/exits", "isolator/blocks_for_ever", "isolator/cleanup_of_unknown_fails",
         "isolator/forgets_at_recover", "allocator/keeps_filters", "store/acknowledges_before_writing",
         "authenticator/lets_everyone_in", "election/epoch_stands_still", "fetcher/follows_dot_dot",
         "framework/acknowledges_twice", "image/forgets_users"]


def fits(name, patterns):
    return any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in patterns)


def judge(name, host):
    """Problems of one run, as sentences; none: as it should be."""
    fault = FAULTS[name]
    found_by_static = bool(fault.found_by) and all(t.startswith("static.") for t in fault.found_by)
    stages = fault.stages or (["1"] if found_by_static else ALL if name.startswith("isolator/") else KIND)
    if name.startswith("isolator/") and fault.found_by and all(t.startswith("isolator.") for t in fault.found_by):
        stages = fault.stages or KIND
    command = [TOOL, "check", MODULES / (name + ".so"), "--host", host, "--json", "-", "-q", "--jobs", "2", "--timeout", "15s"]
    for s in stages:
        command += ["--stage", s]
    if fault.patience:
        command += ["--patience", str(fault.patience)]
    if fault.only:
        command += ["--filter", fault.only]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    except subprocess.TimeoutExpired:
        return ["gantry-module check has not ended after 200 s"]
    try:
        report = json.loads(run.stdout)
    except json.JSONDecodeError:
        return [f"no report (exit status {run.returncode}): {run.stderr.strip()[:300]}"]
    failed = {r["test"]: r for r in report["results"] if r["outcome"] == "failed"}
    problems = []
    if run.returncode != (1 if failed else 0):
        problems.append(f"exit status {run.returncode}")
    ran = {r["test"] for r in report["results"] if r["outcome"] != "skipped"}
    for test in fault.found_by:
        if test not in failed:
            skipped = next((r.get("reason") for r in report["results"] if r["test"] == test and r["outcome"] == "skipped"), None)
            if skipped:
                print(f"      {name}: {test} is skipped here: {skipped}")
                continue
            problems.append(f"not found by {test}" + ("" if test in ran else ", which did not run"))
    for test, result in failed.items():
        if not fits(test, fault.found_by + fault.also) and not test.startswith("twice."):
            problems.append(f"{test} blames it falsely: " + result["findings"][0]["what"][:200])
        for finding in result["findings"]:
            if len(finding["what"]) < 10 or len(finding["do"]) < 10:
                problems.append(f"{test} does not say what to do: {finding}")
    return problems


def main():
    if not TOOL.exists() or not MODULES.exists():
        print(f"skipped: {TOOL} or {MODULES} is not built")
        return 77
    built = {str(p.relative_to(MODULES))[:-3] for p in MODULES.glob("*/*.so")}
    wanted = [n for n in FAULTS if not sys.argv[1:] or any(w in n for w in sys.argv[1:])]
    kinds = {n.split("/")[0] for n in built}
    wrong = [f"{n}: is expected, but not built" for n in wanted if n not in built and n.split("/")[0] in kinds]
    if not sys.argv[1:]:
        wrong += [f"{n}: is built, but nothing is expected of it" for n in sorted(built - set(FAULTS))]
    runs = [(n, FAULTS[n].host) for n in wanted if n in built] + [(n, "process") for n in TWICE if n in wanted and n in built]
    faults = sum(1 for n, h in runs if FAULTS[n].found_by and h != "process")
    # Most of a run is waiting for what never comes.
    with concurrent.futures.ThreadPoolExecutor(3 * (os.cpu_count() or 2)) as pool:
        for (name, host), problems in zip(runs, pool.map(lambda r: judge(*r), runs)):
            # GTest's lines, which tools/test counts.
            word = "       OK " if not problems else "  FAILED  "
            print(f"[{word}] broken.{name} ({host}) (0 ms)", flush=True)
            for p in problems:
                print("      " + p)
                wrong.append(f"{name} ({host}): {p}")
    print(f"\n{faults} faults, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
