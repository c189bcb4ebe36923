"""Every metric of Strata, each with a sentence. Models and producers return counts and timings; these record them.

No user or item id is ever a label. Every failure counter stands beside the counter of its attempts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from models.layer_lives import Churn

FRESHNESS_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
PROCESSING_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TOKEN_BUCKETS: Final = tuple(float(2**power) for power in range(5, 17))
RESTORE_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """The metrics of one process, on a registry of the caller's.

    Parameters
    ----------
    registry
        Where they are registered: the caller exposes it, a test reads it.
    version
        Goes into ``strata_build_info``.
    """

    def __init__(self, registry: CollectorRegistry, version: str = "0") -> None:
        self.registry = registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"strata_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"strata_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"strata_{name}", text, labels, buckets=buckets, registry=registry)

        # the process
        self.build = Info("strata_build", "The version that runs.", registry=registry)
        self.build.info({"version": version})
        self.delivery = Info(
            "strata_delivery",
            "How the updater's work becomes durable: exactly-once or at-least-once.",
            registry=registry,
        )
        self.ready = gauge("ready", "1 while the process is ready to serve (/readyz), 0 otherwise.")
        self.heartbeat = gauge("heartbeat_timestamp_seconds", "When the role's loop last began a step.", "role")

        # the main job
        self.freshness = histogram(
            "freshness_seconds",
            "From the time of a user's newest click to the broker's acknowledgement of the list that contains it.",
            FRESHNESS_BUCKETS,
        )
        self.processing = histogram(
            "processing_seconds",
            "From the poll that brought a click to the acknowledgement of what follows from it.",
            PROCESSING_BUCKETS,
        )
        self.clicks = counter("clicks_consumed_total", "Clicks read, the useless ones included.")
        self.clamped = counter("clicks_future_total", "Clicks stamped well ahead of the clock; they count as of now.")
        self.lists = counter(
            "lists_published_total",
            "Lists acknowledged; encoded=false: from cached item vectors, the encoder had no room.",
            "encoded",
        )
        self.list_items = counter("list_items_total", "Items in the lists acknowledged; by lists: how long they are.")
        self.lists_empty = counter("lists_empty_total", "Lists acknowledged that hold no item.")
        self.lists_struck = counter(
            "lists_struck_total", "Lists made again because an item of theirs is not on offer any more."
        )
        self.lists_fatigued = counter(
            "lists_fatigued_total", "Lists made again because their user had been shown an item of theirs too often."
        )
        self.strike_queue = gauge("strike_queue_users", "Users whose list holds an item that is not on offer any more.")

        # feedback: a click is judged before it is learned from; group: one of 20 of users by a hash, whose differences
        # say how sure a rate is (models/uplift.py)
        by_user = ("arm", "group")
        self.hits = counter("hits_total", "Clicks on an item of the user's published list.", *by_user)
        self.hit_attempts = counter("hit_attempts_total", "Clicks of users who had a published list.", *by_user)
        self.reciprocal_ranks = counter(
            "hit_reciprocal_ranks_total",
            "Sum over the hits of 1 / the item's place in the list; by hit_attempts: the mean reciprocal rank.",
            "arm",
        )
        self.new_hits = counter(
            "new_item_hits_total", "Hits on an item that few had clicked before (fewer than 5).", "arm"
        )
        self.new_hit_attempts = counter(
            "new_item_hit_attempts_total", "Attempts whose item few had clicked before.", "arm"
        )
        self.impressions = counter(
            "impressions_total", "Items that pages said they had shown to users, each time that they did.", *by_user
        )
        self.impression_clicks = counter(
            "impression_clicks_total",
            "Clicks on an item that their user was shown within the hour before, and had not clicked since; by"
            " impressions: the click-through rate.",
            *by_user,
        )
        self.served_users = gauge("served_users", "Users of this worker who have a published list.")
        self.served_items = gauge(
            "served_items",
            "Different items in the published lists of this worker's users; by offered_items: the coverage. Those of"
            " several workers do not add up.",
        )
        self.offered_items = gauge("offered_items", "Items that may be offered to anybody.")

        # policy
        self.policy = counter(
            "policy_total",
            "What the rules of the policy did: items that came under one, were kept from a user, raised or pinned; by"
            " rule, those of a name as boost:NAME and pin:NAME (models/policy.py says what each counts).",
            "rule",
        )
        self.policy_loads = counter("policy_loads_total", "Times that the policy file had changed.")
        self.policy_load_failures = counter(
            "policy_load_failures_total", "Times that it could not be used, and the last good one stayed."
        )

        # the encoder
        self.encoder_queue = gauge("encoder_queue_users", "Inputs that wait for the encoder.", "outlet")
        self.encoder_batch = histogram("encoder_batch_tokens", "Tokens in a batch of the encoder.", TOKEN_BUCKETS)
        self.encoder_users = counter("encoder_users_total", "Inputs encoded (users or items).", "outlet")
        self.encoder_seconds = histogram(
            "encoder_batch_seconds", "Time that the encoder took for a batch.", PROCESSING_BUCKETS
        )
        self.encoder_batches = counter("encoder_batches_total", "Batches given to the encoder.")
        self.encoder_errors = counter("encoder_errors_total", "Batches that the encoder failed on.")

        # the loop
        self.lag_offsets = gauge("lag_offsets", "Messages not yet read.", "role", "topic", "partition")
        self.lag_seconds = gauge(
            "lag_seconds",
            "Age of the newest message read while there are unread ones, 0 when all is read.",
            "role", "topic", "partition",
        )  # fmt: skip
        self.assigned = counter("partitions_assigned_total", "Partitions that the group assigned.", "role")
        self.revoked = counter(
            "partitions_revoked_total", "Partitions that went; kind: revoked or lost.", "role", "kind"
        )
        self.revoke_seconds = histogram(
            "revoke_seconds",
            "Time that what was in flight took when partitions were revoked.",
            PROCESSING_BUCKETS,
            "role",
        )
        self.pauses = counter("pauses_total", "Times that the loop paused because the stage was full.", "role")
        self.consumed = counter("messages_consumed_total", "Messages worked on, the diverted ones included.", "role")
        self.dead_letters = counter("dead_letters_total", "Messages diverted to the dead letters.", "role", "stage")
        self.publishes = counter("publishes_total", "Works that the loop published.", "role")
        self.publish_failures = counter("publish_failures_total", "Publishes that were tried again.", "role")
        self.commits = counter("commits_total", "Offset commits tried.", "role")
        self.commit_failures = counter(
            "commit_failures_total", "Offset commits refused or not answered; the work may come twice.", "role"
        )
        self.aborts = counter(
            "transactions_aborted_total", "Works that did not take effect and are done again from the topics.", "role"
        )

        # state
        self.profiles_restored = counter("profiles_restored_total", "Profiles read back after an assignment.")
        self.restore_seconds = histogram(
            "restore_seconds", "Time from an assignment to the first fetch.", RESTORE_BUCKETS, "role"
        )
        self.table_records = counter("table_records_total", "Records read into a table.", "topic")
        self.table_errors = counter("table_record_errors_total", "Records of a table that could not be used.", "topic")

        # privacy
        self.clicks_erased = counter(
            "clicks_erased_total", "Clicks that were dropped, because their user's erasure came after them."
        )
        self.erasures = counter("erasures_total", "Orders to erase a user that were read.")
        self.receipts = counter("erasure_receipts_total", "Erasures that were seen to be complete.")
        self.erasures_overdue = counter(
            "erasures_overdue_total", "Erasures that were not seen to be complete in time (STRATA_ERASURE_RECEIPT_S)."
        )
        self.erasure_seconds = histogram(
            "erasure_seconds", "From an order to erase a user to its receipt.", FRESHNESS_BUCKETS
        )
        self.letters_erased = counter("dead_letters_erased_total", "Dead letters of erased users that were deleted.")
        self.forgotten = counter(
            "users_forgotten_total",
            "Users whose profile and list were deleted; why: erased (they asked for it), expired (inactive too long).",
            "why",
        )
        for why in ("erased", "expired"):
            self.forgotten.labels(why)  # so that 0 is seen to be 0
        self.damped = counter(
            "clicks_damped_total",
            "Clicks that teach neighbours, layers and the deep part nothing: too many came in a minute.",
        )

        # layers
        self.layer_size = gauge("layer_size_ratio", "Share of the recent activity in a layer.", "layer")
        self.layer_joined = gauge(
            "layer_joined_ratio",
            "Of the users refreshed lately who were in a layer or are now, the share that came from another one.",
            "layer",
        )
        self.layer_left = gauge("layer_left_ratio", "The share of them that went to another one.", "layer")
        self.layer_since = gauge(
            "layer_since_timestamp_seconds", "When a layer began, or began anew with another centre.", "layer"
        )
        self.layer_updates = counter("layer_updates_total", "Vectors learned from.")
        self.layer_changes = counter(
            "layer_changes_total", "Users whose layer changed; level: coarse or fine.", "level"
        )
        self.layer_error = gauge(
            "layer_quantisation_error", "Recent mean squared distance to the centre, in the interaction space.", "level"
        )
        self.layer_drifts = counter("layer_drifts_total", "Drifts of the quantisation error that ADWIN reported.")
        self.layer_reseeds = counter("layer_reseeds_total", "Centres that were dead and moved.")

        # the ranker
        self.lessons = counter("ranker_lessons_total", "Batches of clicks that updaters sent to the ranker.")
        self.lessons_left_out = counter(
            "ranker_lessons_left_out_total",
            "Batches not learned from; why: repeated (an updater died and sent a click again) or version (of another"
            " version's features).",
            "why",
        )
        for why in ("repeated", "version"):
            self.lessons_left_out.labels(why)
        self.lessons_failed = counter("ranker_lessons_failed_total", "Batches that an updater could not work out.")
        self.lesson_clicks = counter("ranker_clicks_total", "Clicks that the ranker learned from.")
        self.ranker_breaks = counter(
            "ranker_breaks_total",
            "Times that those that serve suddenly hit far less, so that most of what was counted was forgotten.",
        )
        self.expert_hit_rate = gauge(
            "ranker_expert_hit_ratio",
            "Share of the recent clicks that an expert had in its top 10, by shortest history of the bucket.",
            "bucket", "expert",
        )  # fmt: skip
        self.expert_serving = gauge(
            "ranker_expert_serving_ratio",
            "Share of a bucket's lists that an expert ranks: 1 for the one that serves, 0 for the others.",
            "bucket", "expert",
        )  # fmt: skip

        # the deep part
        self.sequence_steps = counter("sequence_steps_total", "Steps of training of the deep part.")
        self.sequence_step_failures = counter(
            "sequence_step_failures_total", "Steps whose loss was not finite; they moved nothing."
        )
        self.sequence_clicks = counter("sequence_clicks_total", "Clicks that the deep part was trained on.")
        self.sequence_missed = counter(
            "sequence_missed_total",
            "Clicks that training missed: newer ones pushed them out of the memory that they waited in.",
        )
        self.sequence_waiting = gauge("sequence_waiting_clicks", "Clicks that wait for training.")
        self.sequence_seconds = counter(
            "sequence_seconds_total", "Processor time of the steps; STRATA_SEQUENCE_SHARE of a second each, at most."
        )
        self.sequence_loss = gauge(
            "sequence_loss_nats",
            "Cross-entropy of the last step, nats: how unexpected its clicks were, of all that compete.",
        )
        self.sequence_version = gauge(
            "sequence_published_clicks", "Clicks that the last published snapshot of the deep part had been trained on."
        )
        self.sequence_created = gauge("sequence_snapshot_timestamp_seconds", "When it was taken.")
        self.sequence_bytes = gauge("sequence_snapshot_bytes", "Its size.")
        self.sequence_applied = gauge(
            "sequence_applied_clicks", "The version by which lists are made; 0: none yet, or STRATA_SEQUENCE is off."
        )

        # catalogue and neighbours
        self.undescribed = gauge(
            "undescribed_items",
            "Items that a role knows by their clicks alone, up to STRATA_UNDESCRIBED_ITEMS.",
            "role",
        )
        self.items = counter(
            "catalogue_items_total",
            "Items worked on; outcome: encoded, unchanged, given (a vector of its own), withdrawn, failed.",
            "outcome",
        )
        self.neighbour_rows = counter("neighbours_published_total", "Rows of co-clicked items published.")

        # the linear part
        self.linear_solutions = counter("linear_solutions_total", "Solutions of the linear part.")
        self.linear_failures = counter("linear_failures_total", "Solutions that failed; the one before stays.")
        self.linear_items = gauge("linear_items", "Items in the last solution, STRATA_LINEAR_ITEMS at most.")
        self.linear_clicks = gauge("linear_clicks", "First clicks of users on items that the last solution knew.")
        self.linear_seconds = gauge("linear_solution_seconds", "Time that the last solution took.")

        # the feed
        self.feed_requests = counter("feed_requests_total", "Requests to the feed, by status (2xx).", "route", "status")
        self.feed_seconds = histogram(
            "feed_request_seconds", "Time that the feed took for an answer (a stream: to its begin).",
            PROCESSING_BUCKETS, "route",
        )  # fmt: skip
        self.feed_delay = histogram(
            "feed_delay_seconds", "From a list's production to the feed having read it.", PROCESSING_BUCKETS
        )
        self.feed_freshness = histogram(
            "feed_freshness_seconds",
            "From the time of a user's newest click to the feed having read the first list that contains it.",
            FRESHNESS_BUCKETS,
        )
        self.feed_streams = gauge("feed_streams", "Pages that wait for lists.")
        self.feed_pushed = counter("feed_pushed_total", "Lists handed to open pages.")
        self.feed_dropped = counter(
            "feed_dropped_total", "Lists that an open page did not get, because newer ones came before it took them."
        )

        # what a process has not seen yet is 0, not absent
        for encoded in ("true", "false"):
            self.lists.labels(encoded)
        for level in ("coarse", "fine"):
            self.layer_changes.labels(level)

    def begin(self, role: str) -> None:
        """A role starts: its counters stand at 0 from now on, so that the first failure is an increase."""
        for metric in vars(self).values():
            if isinstance(metric, (Counter, Histogram)) and metric._labelnames == ("role",):
                metric.labels(role)
        for kind in ("revoked", "lost"):
            self.revoked.labels(role, kind)
        for stage in ("decode", "validate", "apply", "publish"):
            self.dead_letters.labels(role, stage)

    def lag(self, role: str, partition: tuple[str, int], offsets: int, newest_ms: int | None) -> None:
        """Record a partition's lag.

        Parameters
        ----------
        newest_ms
            Timestamp of the newest record read, ms since the epoch; None before the first.
        """
        topic, number = partition
        self.lag_offsets.labels(role, topic, number).set(offsets)
        if offsets <= 0:
            seconds = 0.0
        elif newest_ms is None:
            return
        else:
            seconds = max(0.0, time.time() - newest_ms / 1000)
        self.lag_seconds.labels(role, topic, number).set(seconds)

    def forget_lag(self, role: str, partition: tuple[str, int]) -> None:
        """A partition went: its lag is another's to report."""
        labels = (role, partition[0], str(partition[1]))
        for metric in (self.lag_offsets, self.lag_seconds):
            if labels in metric._metrics:
                metric.remove(*labels)

    def of_layers(self, sizes: Mapping[str, float], churn: Mapping[str, Churn], since_ms: Mapping[str, int]) -> None:
        """Replace what is told of single layers (at most a few dozen)."""
        for metric in (self.layer_size, self.layer_joined, self.layer_left, self.layer_since):
            metric.clear()
        for layer, share in sizes.items():
            self.layer_size.labels(layer).set(share)
        for layer, (joined, left) in churn.items():
            self.layer_joined.labels(layer).set(joined)
            self.layer_left.labels(layer).set(left)
        for layer, ms in since_ms.items():
            self.layer_since.labels(layer).set(ms / 1000)
