"""Grafana's two dashboards, as code. ``python -m ops.dashboards`` writes them; a test says when they are out of date."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ops.charts import Chart, board

FOLDER: Final = Path(__file__).parent / "grafana" / "dashboards"


def _per_second(counter: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate(strata_{counter}_total[$__rate_interval]))"


def _quantile(q: float, histogram: str, by: str = "") -> str:
    return f"histogram_quantile({q}, sum by ({f'{by}, ' if by else ''}le) (rate(strata_{histogram}_bucket[$__rate_interval])))"


HEALTH: Final[dict[str, list[Chart]]] = {
    "Now": [
        Chart("Processes ready", "Processes whose /readyz says yes.", {"": "sum(strata_ready)"}, width=4, now=True),
        Chart("Clicks", "Clicks read a second.", {"": _per_second("clicks_consumed")}, "reqps", 4, now=True),
        Chart("Lists", "Lists acknowledged a second.", {"": _per_second("lists_published")}, "reqps", 4, now=True),
        Chart(
            "Click to list, p99", "Of the last minutes.",
            {"": "strata:freshness_seconds:p99_5m"}, "s", 4, now=True,
        ),
        Chart("Lag", "Of the partition that waits longest.", {"": "max(strata_lag_seconds)"}, "s", 4, now=True),
        Chart(
            "Version", "What runs, and how its work becomes durable.",
            {"{{version}}": "count by (version) (strata_build_info)", "{{mode}}": "count by (mode) (strata_delivery_info)"},
            width=4, now=True,
        ),
    ],
    "The main job": [
        Chart(
            "From a click to its list",
            "From the click's own time to the broker's acknowledgement; late clicks count as late lists.",
            {f"p{q * 100:.0f}": _quantile(q, "freshness_seconds") for q in (0.5, 0.9, 0.99)}, "s",
        ),
        Chart(
            "Inside Strata", "From the poll that brought a click to the acknowledgement.",
            {f"p{q * 100:.0f}": _quantile(q, "processing_seconds") for q in (0.5, 0.99)}, "s",
        ),
        Chart(
            "Clicks in, lists out", "encoded=false: made from cached item vectors, the encoder had no room.",
            {"clicks": _per_second("clicks_consumed"), "lists, encoded={{encoded}}": _per_second("lists_published", "encoded")},
            "reqps",
        ),
    ],
    "Kafka": [
        Chart("Lag, time", "Age of the newest message read while there are unread ones.", {"{{role}} {{topic}}": "strata:lag_seconds:max"}, "s"),
        Chart("Lag, messages", "Messages not yet read.", {"{{role}} {{topic}}": "sum by (role, topic) (strata_lag_offsets)"}),
        Chart("Messages", "Messages worked on.", {"{{role}}": _per_second("messages_consumed", "role")}, "reqps"),
        Chart("Dead letters", "Messages that could not be used, by where they failed.", {"{{role}} {{stage}}": _per_second("dead_letters", "role, stage")}, "reqps"),
        Chart(
            "Publishing", "What the loops publish, and what had to be done again.",
            {
                "{{role}}": _per_second("publishes", "role"),
                "{{role}} tried again": _per_second("publish_failures", "role"),
                "{{role}} aborted": _per_second("transactions_aborted", "role"),
                "{{role}} commit failed": _per_second("commit_failures", "role"),
            },
            "reqps",
        ),
        Chart(
            "Partitions", "Partitions that came and went.",
            {
                "{{role}} assigned": "sum by (role) (increase(strata_partitions_assigned_total[$__rate_interval]))",
                "{{role}} {{kind}}": "sum by (role, kind) (increase(strata_partitions_revoked_total[$__rate_interval]))",
            },
        ),
        Chart("Restore", "Mean time from an assignment to the first fetch.", {"{{role}}": "sum by (role) (strata_restore_seconds_sum) / sum by (role) (strata_restore_seconds_count)"}, "s"),
        Chart("Tables", "Records read into tables.", {"{{topic}}": _per_second("table_records", "topic")}, "reqps"),
        Chart("Pauses", "Times that a loop paused because its stage was full.", {"{{role}}": _per_second("pauses", "role")}, "reqps"),
    ],
    "The feed": [
        Chart("From a click to the feed", "To the feed having read the first list that contains the click.", {f"p{q * 100:.0f}": _quantile(q, "feed_freshness_seconds") for q in (0.5, 0.99)}, "s"),
        Chart("Open pages", "Pages that wait for lists.", {"": "sum(strata_feed_streams)"}),
        Chart("Lists to open pages", "Handed over, and left out because newer ones came first.", {"pushed": _per_second("feed_pushed"), "dropped": _per_second("feed_dropped")}, "reqps"),
    ],
    "Erasure": [
        Chart("Orders and receipts", "Orders to erase a user, and those seen to be complete, in the last hour.", {"orders": "sum(increase(strata_erasures_total[1h]))", "receipts": "sum(increase(strata_erasure_receipts_total[1h]))", "overdue": "sum(increase(strata_erasures_overdue_total[1h]))"}, width=24),
    ],
    "Encoder and loops": [
        Chart("Encoded", "Users and items that BERT reads.", {"{{outlet}}": _per_second("encoder_users", "outlet")}, "reqps"),
        Chart("Waiting for the encoder", "Inputs in the queue.", {"{{outlet}}": "sum by (outlet) (strata_encoder_queue_users)"}),
        Chart(
            "A batch", "Time that a batch takes.",
            {f"p{q * 100:.0f}": _quantile(q, "encoder_batch_seconds") for q in (0.5, 0.99)}, "s",
        ),
        Chart("Batches", "Batches and failures.", {"batches": _per_second("encoder_batches"), "failed": _per_second("encoder_errors")}, "reqps"),
        Chart("Tokens a batch", "How full the batches are.", {"median": _quantile(0.5, "encoder_batch_tokens")}),
        Chart("Since the last step", "Every loop steps several times a second.", {"{{role}} {{instance}}": "time() - strata_heartbeat_timestamp_seconds"}, "s"),
    ],
}  # fmt: skip

QUALITY: Final[dict[str, list[Chart]]] = {
    "Lists": [
        Chart(
            "Hit rate", "Share of the clicks, of users who had a list, that were on an item of it: live, before it is learned.",
            {"{{arm}}": f"{_per_second('hits', 'arm')} / ({_per_second('hit_attempts', 'arm')} > 0)"}, "percentunit", 12,
        ),
        Chart(
            "Hit rate, hour and day", "What the alert compares.",
            {"{{arm}}, hour": "strata:hit_rate:ratio1h", "{{arm}}, day": "strata:hit_rate:ratio1d"}, "percentunit", 12,
        ),
        Chart(
            "Mean reciprocal rank", "1 / the place in the list of what was clicked, 0 where it was not in there.",
            {"{{arm}}": f"{_per_second('hit_reciprocal_ranks', 'arm')} / ({_per_second('hit_attempts', 'arm')} > 0)"},
        ),
        Chart(
            "Click-through", "Clicks on what was shown, by what pages said they had shown.",
            {"{{arm}}": f"{_per_second('impression_clicks', 'arm')} / ({_per_second('impressions', 'arm')} > 0)"}, "percentunit",
        ),
        Chart(
            "Hit rate of new items", "Clicks on items with fewer than five clicks that were in the user's list.",
            {"{{arm}}": f"{_per_second('new_item_hits', 'arm')} / ({_per_second('new_item_hit_attempts', 'arm')} > 0)"}, "percentunit",
        ),
        Chart("Shown", "Items that pages said they had shown.", {"{{arm}}": _per_second("impressions", "arm")}, "reqps"),
        Chart(
            "Coverage", "Share of the items on offer that are in anybody's list, of the worker where it is greatest.",
            {"": "max(strata_served_items / (strata_offered_items > 0))"}, "percentunit", most=1,
        ),
        Chart(
            "Lists made again", "An item was not on offer any more; an item was shown too often.",
            {"not on offer": _per_second("lists_struck"), "shown too often": _per_second("lists_fatigued")}, "reqps",
        ),
        Chart("Clicks of users with a list", "The number behind the hit rate.", {"{{arm}}": _per_second("hit_attempts", "arm")}, "reqps"),
        Chart(
            "Lists with a flaw", "Without an item; without the encoder.",
            {"empty": "strata:lists_empty:ratio5m", "not encoded": "strata:lists_unencoded:ratio5m"}, "percentunit", most=1,
        ),
        Chart("Clicks ahead of the clock", "Stamped in the future; they count as of now.", {"": _per_second("clicks_future")}, "reqps"),
    ],
    "Who ranks": [
        Chart(
            "Serving", "The expert that ranks the lists of most buckets of history length.",
            {"{{expert}}": "avg by (expert) (strata_ranker_expert_serving_ratio) > 0"}, "percentunit", 6, most=1,
        ),
        Chart(
            "Experts", "Share of the recent clicks that an expert had in its top 10, mean of the buckets.",
            {"{{expert}}": "avg by (expert) (strata_ranker_expert_hit_ratio)"}, "percentunit", 6,
        ),
        Chart(
            "Learning", "Clicks that the ranker learned from, and batches that nobody could.",
            {"clicks": _per_second("ranker_clicks"), "failed": _per_second("ranker_lessons_failed")}, "reqps", 6,
        ),
        Chart(
            "Breaks", "Times that those that serve suddenly hit far less.",
            {"": "sum(increase(strata_ranker_breaks_total[$__rate_interval]))"}, width=6,
        ),
    ],
    "The linear part": [
        Chart("Clicks", "Users' first clicks on items that the last solution knew.", {"": "max(strata_linear_clicks)"}),
        Chart("Items", "In the last solution.", {"": "max(strata_linear_items)"}),
        Chart("Time of a solution", "On a thread of its own.", {"": "max(strata_linear_solution_seconds)"}, "s"),
        Chart(
            "Solutions", "And those that failed, after which the one before stays.",
            {
                "solved": "sum(increase(strata_linear_solutions_total[$__rate_interval]))",
                "failed": "sum(increase(strata_linear_failures_total[$__rate_interval]))",
            },
        ),
    ],
    "The deep part": [
        Chart(
            "Clicks", "Clicks a second that it is trained on, and that training missed.",
            {"trained": _per_second("sequence_clicks"), "missed": _per_second("sequence_missed")}, "reqps",
        ),
        Chart("Share of a core", "That training takes.", {"": _per_second("sequence_seconds")}, "percentunit", most=1),
        Chart(
            "Snapshot in use", "Clicks that the net had been trained on, by which each updater makes lists, and the published one.",
            {"{{instance}}": "strata_sequence_applied_clicks > 0", "published": "max(strata_sequence_published_clicks)"},
        ),
    ],
    "Layers": [
        Chart(
            "Coarse layers", "Share of the recent activity.",
            {"{{layer}}": 'max by (layer) (strata_layer_size_ratio{layer!~".*[.].*"})'}, "percentunit", 12,
        ),
        Chart(
            "Largest fine layers", "Share of the recent activity.",
            {"{{layer}}": 'topk(10, max by (layer) (strata_layer_size_ratio{layer=~".*[.].*"}))'}, "percentunit", 12,
        ),
        Chart("Churn", "Users who change their layer, of those whose list is refreshed.", {"{{level}}": "strata:layer_churn:ratio15m"}, "percentunit"),
        Chart(
            "Busiest coarse layers", "Of the users refreshed in a layer, those who came from another one or went there.",
            {"{{layer}}": 'max by (layer) (strata_layer_joined_ratio{layer!~".*[.].*"} + strata_layer_left_ratio{layer!~".*[.].*"})'},
            "percentunit",
        ),
        Chart("Distance to the centre", "Mean squared, in the interaction space.", {"{{level}}": "max by (level) (strata_layer_quantisation_error)"}),
        Chart("Learned", "Vectors learned from.", {"vectors": _per_second("layer_updates")}, "reqps"),
        Chart(
            "Drifts and revived centres", "What ADWIN reported, and dead centres that moved.",
            {
                "drifts": "sum(increase(strata_layer_drifts_total[$__rate_interval]))",
                "revived": "sum(increase(strata_layer_reseeds_total[$__rate_interval]))",
            },
        ),
        Chart("Neighbours", "Rows of co-clicked items published.", {"rows": _per_second("neighbours_published")}, "reqps"),
    ],
    "Catalogue": [
        Chart("Items", "Items worked on, by what became of them.", {"{{outcome}}": _per_second("catalogue_items", "outcome")}, "reqps", 24),
    ],
}  # fmt: skip


def files() -> dict[Path, str]:
    """What the files should hold."""
    return {
        FOLDER / "health.json": board("strata-health", "Strata: service health", HEALTH),
        FOLDER / "quality.json": board("strata-quality", "Strata: recommendation quality and layers", QUALITY),
    }


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.write_text(text)
        print(path.relative_to(FOLDER.parents[2]))


if __name__ == "__main__":
    main()
